"""
Chaos: what is injected, into which calls, who switches it, and what the policies around it make of it.
"""

from __future__ import annotations

import copy
import logging
import pickle
import random
import traceback
from datetime import timedelta

import anyio
import pytest

from resilience import (
    Call,
    Chaos,
    CircuitState,
    ConfigurationError,
    Pipeline,
    Retry,
    Timeout,
    TimeoutExceededError,
)
from resilience.events import ChaosInjected
from resilience.testing import Recorder, Script, Wait
from tests.composition.support import about, breaker, timed


class Draws:
    """A source of chance that plays a list, and counts."""

    def __init__(self, *draws: float) -> None:
        self.draws = list(draws)
        self.count = 0

    def random(self) -> float:
        self.count += 1
        return self.draws.pop(0)


async def outcomes(guarded, service, times):
    """The type name of each error, or the result."""
    found = []
    for _ in range(times):
        outcome = await guarded.outcome(service)
        found.append(outcome.value if outcome.ok else type(outcome.error).__name__)
    return found


async def test_it_is_off_until_somebody_switches_it_on(backend):
    """
    Issue 5: a pipeline that carries it into production does nothing there, and draws nothing.
    """
    draws = Draws()
    chaos = Chaos(1, fault=OSError, rng=draws)

    assert 42 == await chaos(Script(42))
    assert not chaos.active
    assert (0, 0, 0) == (draws.count, chaos.snapshot().calls, chaos.snapshot().injected)


async def test_a_fault(backend):
    """
    In the place of the call: the callee is not called, and the attempt counts.
    """
    service = Script(42)
    chaos = Chaos(1, fault=ConnectionError, enabled=True)

    outcome = await chaos.outcome(service)

    assert ConnectionError is type(outcome.error)
    assert (0, 1) == (service.calls, outcome.attempts)


@pytest.mark.parametrize(
    "fault",
    [
        OSError,
        OSError("down"),
        lambda call: OSError(call.attempt),
        lambda call: OSError,
    ],
    ids=["class", "instance", "function", "function of a class"],
)
async def test_every_way_to_name_a_fault(backend, fault):
    """
    A class, an instance, or a function of the call.
    """
    with pytest.raises(OSError, match=r"^$|down|1"):
        await Chaos(1, fault=fault, enabled=True)(Script(42))


async def test_a_fault_that_is_one_instance_does_not_grow(backend):
    """
    Law 23: its traceback is that of one call.
    """
    constant = OSError("down")
    chaos = Chaos(1, fault=constant, enabled=True)
    lengths = []
    for _ in range(10):
        with pytest.raises(OSError, match="down") as caught:
            await chaos(Script(42))
        assert constant is caught.value
        lengths.append(len(traceback.extract_tb(constant.__traceback__)))
    assert 1 == len(set(lengths))


async def test_latency_passes_before_the_call(backend, unit):
    """
    Seconds, a timedelta, or a function of the call; the call then goes on.
    """
    service = Script(42)
    for latency in (unit, timedelta(seconds=unit), lambda call: timedelta(seconds=unit)):
        found = await timed(Chaos(1, latency=latency, enabled=True)(service))
        assert (42, about(unit, backend)) == found
    assert 3 == service.calls


async def test_latency_and_a_fault_together(backend, unit):
    """
    In this order: a dependency that thinks for a while, and fails.
    """
    recorder = Recorder(ChaosInjected)
    guarded = Pipeline(
        Chaos(1, latency=unit, fault=OSError, enabled=True, name="drill"), listeners=[recorder]
    )

    error, seconds = await timed(guarded(Script(42)))

    assert OSError is type(error)
    assert about(unit, backend) == seconds
    assert [("drill", "latency", unit, None), ("drill", "fault", None, "OSError")] == [
        (event.policy, event.kind, event.seconds, event.error) for event in recorder.events
    ]


@pytest.mark.parametrize("result", [None, [], "garbage"], ids=repr)
async def test_a_result(backend, result):
    """
    In the place of the call, None as well.
    """
    service = Script(42)

    assert result is await Chaos(1, result=result, enabled=True)(service)
    assert 0 == service.calls


async def test_a_behaviour(backend):
    """
    Runs before the call and sees it; what it raises is a fault.
    """
    seen = []

    async def evict(call: Call) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(call.args)

    async def fails(call: Call) -> None:
        raise OSError("the behaviour's")

    assert 42 == await Chaos(1, behaviour=evict, enabled=True)(Script(42), "sku")
    assert [("sku",)] == seen
    with pytest.raises(OSError, match="behaviour"):
        await Chaos(1, behaviour=fails, enabled=True)(Script(42))


async def test_a_draw_below_the_rate_injects(backend):
    """
    CX-001: strictly below; and nothing but the given source is asked.
    """
    draws = Draws(0.0, 0.299, 0.3, 0.9)
    chaos = Chaos(0.3, fault=OSError, enabled=True, rng=draws)

    assert ["OSError", "OSError", 42, 42] == await outcomes(chaos, Script(42), 4)
    assert (4, 4, 2) == (draws.count, chaos.snapshot().calls, chaos.snapshot().injected)


async def test_the_ends_of_the_rate_leave_nothing_to_chance(backend):
    """
    CX-001: 0 never, 1 always; neither draws.
    """
    draws = Draws()

    assert 42 == await Chaos(0, fault=OSError, enabled=True, rng=draws)(Script(42))
    with pytest.raises(OSError, match=r"^$"):
        await Chaos(1.0, fault=OSError, enabled=True, rng=draws)(Script(42))
    assert 0 == draws.count


@pytest.mark.parametrize(
    ("rate", "struck"),
    [(-1, False), (0, False), (1, True), (7, True), (float("nan"), False), ("all", False),
     (float("inf"), True), (None, False)],
)  # fmt: skip
async def test_a_rate_that_is_computed_is_cut_to_its_range(backend, rate, struck):
    """
    CX-002, law 21: what a function returns is mended.
    """
    guarded = Chaos(lambda call: rate, fault=OSError, enabled=True, rng=Draws())

    assert ["OSError" if struck else 42] == await outcomes(guarded, Script(42), 1)


async def test_the_same_seed_does_the_same(backend):
    """
    Law 22: a drill can be repeated.
    """
    first, second = [
        await outcomes(
            Chaos(0.5, fault=OSError, enabled=True, rng=random.Random(7)), Script(42), 50
        )
        for _ in range(2)
    ]

    assert first == second
    assert {42, "OSError"} == set(first)


async def test_only_some_calls(backend):
    """
    By predicate: what it does not name is left alone and draws nothing.
    """
    draws = Draws(0.0)
    chaos = Chaos(
        0.5, fault=OSError, when=lambda call: call.args == ("canary",), enabled=True, rng=draws
    )
    service = Script(42)

    assert 42 == await chaos(service, "customer")
    with pytest.raises(OSError, match=r"^$"):
        await chaos(service, "canary")
    assert 1 == draws.count


async def test_it_is_switched_at_run_time(backend):
    """
    Law 38: a function wrapped before obeys at its next call.
    """
    chaos = Chaos(1, fault=OSError)
    guarded = chaos.wrap(Script(42))
    found = []

    async def call():
        found.append(await outcome_of(guarded))

    await call()
    chaos.enable()
    await call()
    chaos.disable()
    await call()
    with chaos.switched_on() as same:
        assert chaos is same
        await call()
    await call()
    chaos.reset()
    await call()

    assert [42, "OSError", 42, "OSError", 42, 42] == found


async def outcome_of(guarded):
    """The result, or the type name of the error."""
    try:
        return await guarded()
    except Exception as error:  # noqa: BLE001 - asserted on
        return type(error).__name__


async def test_a_function_switches_it(backend):
    """
    Asked at each call; `enable` and `disable` outrank it, `reset` gives it back its say.
    """
    on = False
    chaos = Chaos(1, fault=OSError, enabled=lambda: on)

    assert not chaos.active
    on = True
    assert chaos.active
    chaos.disable()
    assert [42] == await outcomes(chaos, Script(42), 1)
    chaos.reset()
    assert ["OSError"] == await outcomes(chaos, Script(42), 1)


@pytest.mark.parametrize("where", ["enabled", "when", "rate", "latency", "fault"])
async def test_a_function_that_raises_injects_nothing(backend, caplog, where):
    """
    Law 6: it is logged once, and the call goes on as if there were no chaos.
    """

    def broken(*_: object) -> float:
        raise RuntimeError("a bug")

    options = {"rate": 1, "latency": 0.001, "enabled": True} | {where: broken}
    chaos = Chaos(**options)

    assert [42, 42] == await outcomes(chaos, Script(42), 2)
    assert 1 == caplog.text.count("RuntimeError")


@pytest.mark.parametrize("latency", [None, -1, float("nan"), "1", True, 0])
async def test_a_latency_that_is_none_is_none(backend, latency):
    """
    Law 21: what a function returns is mended.
    """
    found = await timed(Chaos(1, latency=lambda call: latency, enabled=True)(Script(42)))
    assert (42, about(0.0, backend)) == found


@pytest.mark.parametrize("fault", [None, "OSError", KeyboardInterrupt])
async def test_a_fault_that_is_none_is_none(backend, fault):
    """
    A function may say no; what is no error is no fault.
    """
    assert 42 == await Chaos(1, fault=lambda call: fault, enabled=True)(Script(42))


async def test_a_cancelled_call_is_not_made(backend, unit):
    """
    CX-003, law 2: cancelled while the latency or the behaviour runs, the callee is not called.
    """

    async def hangs(call: Call) -> None:
        await anyio.sleep_forever()

    service = Script(42)
    for chaos in (
        Chaos(1, latency=100, enabled=True),
        Chaos(1, behaviour=hangs, enabled=True),
    ):
        with anyio.move_on_after(unit) as scope:
            await chaos(service)
        assert scope.cancelled_caught
    assert 0 == service.calls


async def test_a_deadline_in_an_injected_latency_is_a_failure(backend, unit):
    """
    Law 3: to the breaker around it the dependency hangs, as in earnest.
    """
    around = breaker(1)
    guarded = Pipeline(around, Timeout(unit), Chaos(1, latency=50, enabled=True))

    with pytest.raises(TimeoutExceededError):
        await guarded(Script(42))
    assert CircuitState.OPEN is around.state


async def test_after_the_latency_an_attempt_counts_once(backend, unit):
    """
    The entry that stands for the latency is given back before the callee is entered.
    """
    guarded = Pipeline(Chaos(1, latency=unit / 10, enabled=True))

    assert 1 == (await guarded.outcome(Script(42))).attempts


async def test_a_retry_meets_each_fault(backend):
    """
    Innermost, it strikes attempt by attempt.
    """
    chaos = Chaos(0.5, fault=ConnectionError, enabled=True, rng=Draws(0.1, 0.2, 0.7))
    guarded = Pipeline(Retry(3, on=ConnectionError, wait=lambda _: 0.0), Timeout(9), chaos)

    outcome = await guarded.outcome(Script(42))

    assert (42, 3) == (outcome.unwrap(), outcome.attempts)


async def test_a_breaker_opens_on_it(backend):
    """
    A drill for the whole pipeline: the circuit opens, and closes when the chaos ends.
    """
    around = breaker(2, break_duration=10)
    chaos = Chaos(1, fault=OSError)
    guarded = Pipeline(around, Timeout(9), chaos)
    service = Script(42)

    with chaos.switched_on():
        assert ["OSError", "OSError", "CircuitOpenError"] == await outcomes(guarded, service, 3)
    around.reset()
    assert [42] == await outcomes(guarded, service, 1)


async def test_one_object_switches_every_pipeline_it_stands_in(backend):
    """
    Api: a policy that holds state has identity.
    """
    chaos = Chaos(1, fault=OSError)
    first, second = Pipeline(Timeout(1), chaos), Pipeline(Timeout(2), chaos)

    chaos.enable()
    assert ["OSError"] == await outcomes(first, Script(42), 1)
    assert ["OSError"] == await outcomes(second, Script(42), 1)
    assert 2 == chaos.snapshot().injected


@pytest.mark.parametrize(
    ("options", "got"),
    [({}, "none of them"), ({"fault": OSError, "result": None}, "fault and result")],
)
def test_what_is_to_be_injected_has_to_be_said(options, got):
    """
    Law 21: something, and not two things in one place.
    """
    with pytest.raises(ConfigurationError, match="not both") as caught:
        Chaos(0.5, **options)
    assert ("Chaos", got) == (caught.value.field, caught.value.got)


@pytest.mark.parametrize("attempt", [pickle.dumps, copy.copy, copy.deepcopy])
def test_pickle_and_copy_are_refused(attempt):
    """
    Law 37: it holds a switch that works for this process.
    """
    with pytest.raises(TypeError, match="Chaos holds the state of this process"):
        attempt(Chaos(1, fault=OSError))


def test_a_repr_tells_no_results_and_no_texts():
    """
    Law 36: of a fault and a result the type alone.
    """
    assert "Chaos(0.5, fault=ConnectionError)" == repr(Chaos(0.5, fault=ConnectionError))
    assert "Chaos(1, fault=<OSError>, latency=2.0)" == repr(
        Chaos(1, fault=OSError("canary"), latency=2)
    )
    assert "Chaos(1, result=<str>, name='drill')" == repr(Chaos(1, result="canary", name="drill"))
    assert "Chaos(1, result=None)" == repr(Chaos(1, result=None))


async def test_what_is_said_in_the_log(backend, caplog):
    """
    At INFO: a drill in production leaves a trace.
    """
    caplog.set_level(logging.INFO, "resilience")

    await outcomes(Chaos(1, fault=OSError, enabled=True, name="drill"), Script(Wait(0)), 1)

    assert ["drill: injected fault"] == caplog.messages
