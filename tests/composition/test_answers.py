"""
Fallback, LastGood, SingleFlight and Chaos with everything else, in both orders; named as the pipeline is drawn.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from resilience import (
    Bulkhead,
    BulkheadFullError,
    Chaos,
    CircuitBreaker,
    CircuitOpenError,
    CircuitState,
    ConsecutiveFailures,
    Fallback,
    LastGood,
    Pipeline,
    Policy,
    RateLimit,
    RateLimitedError,
    Retry,
    SingleFlight,
    Timeout,
    TimeoutExceededError,
)
from resilience.testing import Hang, Script, Wait
from tests.composition.support import breaker, pending_cancellations, timed
from tests.explain.kit import built

_numbers = itertools.count(1)


class Rig:
    """One policy of each kind, and what there is to look at afterwards."""

    def __init__(self, unit: float) -> None:
        self.bulkhead = Bulkhead(3, queue=3)
        self.flights = SingleFlight(key="one")
        self.breaker = CircuitBreaker(
            f"composed with answers {next(_numbers)}", on=OSError, trip=ConsecutiveFailures(1000)
        )
        self.entered = 0

        async def made(error: Exception, call: object) -> str:
            await anyio.lowlevel.checkpoint()
            return "made"

        self.kinds: dict[str, Callable[[], Policy[Any]]] = {
            "Fallback": lambda: Fallback.using(made, on=OSError),
            "LastGood": lambda: LastGood(60, key="one"),
            "SingleFlight": lambda: self.flights,
            "Chaos": lambda: Chaos(1, latency=unit / 4, enabled=True),
            "Timeout": lambda: Timeout(5 * unit),
            "Retry": lambda: Retry(2, on=OSError, wait=lambda _: unit / 4),
            "CircuitBreaker": lambda: self.breaker,
            "Bulkhead": lambda: self.bulkhead,
            "RateLimit": lambda: RateLimit(1000, burst=1000),
        }

    def taken(self) -> dict[str, int]:
        """What is not given back; nothing, if all is well."""
        flights = self.flights.snapshot()
        found = {
            "places": self.bulkhead.in_flight,
            "in the queue": self.bulkhead.waiting,
            "flights": flights.in_flight,
            "callers": flights.waiting,
            "in the callee": self.entered,
        }
        return {name: number for name, number in found.items() if number}

    async def callee(self, end: Any, unit: float) -> str:
        self.entered += 1
        try:
            await anyio.sleep(unit)
            if end is not None:
                raise end
            return "fresh"
        finally:
            self.entered -= 1


NEW = ("Fallback", "LastGood", "SingleFlight", "Chaos")
OLD = ("Timeout", "Retry", "CircuitBreaker", "Bulkhead", "RateLimit")


def pairs() -> Iterator[Any]:
    for outer, inner in itertools.permutations((*NEW, *OLD), 2):
        if {outer, inner} & {*NEW}:
            yield pytest.param(outer, inner, id=f"{outer} -> {inner}")


@pytest.mark.parametrize(("outer", "inner"), list(pairs()))
async def test_nothing_is_kept_however_three_calls_end(backend, unit, outer, inner):
    """
    Law 33, P4: each ordered pair, three callers at once: they end well, badly, at a deadline, or leave at any moment.
    """
    rig = Rig(unit)
    guarded = built(rig.kinds[outer](), rig.kinds[inner]())
    pending = pending_cancellations()

    async def one(end: Any, seconds: float, leaves: float) -> None:
        with anyio.move_on_after(leaves), contextlib.suppress(OSError):
            await guarded(rig.callee, end, seconds)

    async with rig.flights:
        for end, seconds in ((None, unit), (OSError("down"), unit), (None, 9 * unit)):
            for leaves in (99 * unit, unit * 0.6, unit * 1.1):
                async with anyio.create_task_group() as group:
                    for _ in range(3):
                        group.start_soon(one, end, seconds, leaves)
                assert {} == rig.taken(), (end, seconds, leaves)
        assert pending == pending_cancellations()


@pytest.mark.parametrize(("outer", "inner"), list(pairs()))
async def test_a_call_that_succeeds_gets_what_the_callee_returns(backend, unit, outer, inner):
    """
    Whatever stands around it, in whatever order, a success is a success, and counts as one attempt.
    """
    rig = Rig(unit)
    async with rig.flights:
        outcome = await built(rig.kinds[outer](), rig.kinds[inner]()).outcome(
            rig.callee, None, unit / 4
        )
    assert ("fresh", 1, False) == (outcome.unwrap(), outcome.attempts, outcome.from_fallback)


async def test_fallback_timeout(backend, unit):
    """
    Fallback -> Timeout: the deadline is answered for, if it is named.
    """
    guarded = Pipeline(Fallback("late", on=TimeoutExceededError), Timeout(unit))
    assert "late" == await guarded(Script(Hang()))


async def test_timeout_fallback(backend, unit):
    """
    Timeout -> Fallback: the function that makes the answer has what is left of the time, and no more.
    """

    async def slow(error, call):
        await anyio.sleep(9 * unit)

    with pytest.raises(TimeoutExceededError):
        await Pipeline(Timeout(unit), Fallback.using(slow, on=OSError))(Script(OSError))


async def test_fallback_retry(backend):
    """
    Fallback -> Retry: asked once, after the last attempt.
    """
    asked = []

    async def made(error, call):
        asked.append(call.attempt)
        return "made"

    guarded = Pipeline(Fallback.using(made, on=OSError), Retry(3, on=OSError, wait=lambda _: 0.0))
    assert "made" == await guarded(Script(OSError))
    assert [3] == asked


async def test_retry_fallback(backend):
    """
    Retry -> Fallback: what is answered for is not tried again.
    """
    guarded = Pipeline(Retry(3, on=OSError, wait=lambda _: 0.0), Fallback("none", on=KeyError))
    service = Script(OSError, KeyError, 42)
    assert "none" == await guarded(service)
    assert 2 == service.calls


async def test_breaker_fallback(backend):
    """
    CircuitBreaker -> Fallback: what is answered for is a success to the breaker outside.
    """
    around = breaker(1)
    guarded = built(around, Fallback("none", on=OSError), Timeout(9))
    assert "none" == await guarded(Script(OSError))
    assert CircuitState.CLOSED is around.state


@pytest.mark.parametrize(
    ("full", "error"),
    [
        (lambda: Bulkhead(0), BulkheadFullError),
        (lambda: RateLimit(0.001, burst=1), RateLimitedError),
    ],
    ids=["Bulkhead", "RateLimit"],
)
async def test_fallback_gate(backend, full, error):
    """
    Fallback -> Bulkhead, RateLimit: a rejection is answered for, and the callee is not called.
    """
    gate = full()
    if isinstance(gate, RateLimit):
        await gate(Script(1))
    service = Script("fresh")
    assert "busy" == await Pipeline(Fallback("busy", on=error), gate)(service)
    assert 0 == service.calls


async def test_last_good_breaker(backend):
    """
    LastGood -> CircuitBreaker: while the circuit is open the callers live on what was good.
    """
    around = breaker(1)
    guarded = Pipeline(LastGood(60), around, Timeout(9))
    service = Script("good", OSError)

    assert ["good"] * 3 == [await guarded(service, "sku") for _ in range(3)]
    assert CircuitState.OPEN is around.state
    assert 2 == service.calls


async def test_single_flight_retry(backend, unit):
    """
    SingleFlight -> Retry: the attempts of one flight, not of each of its callers.
    """
    service = Script(Wait(unit, then=OSError), Wait(unit, then="fresh"))
    async with SingleFlight() as flights:
        guarded = Pipeline(flights, Retry(2, on=OSError, wait=lambda _: 0.0), Timeout(50))
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(guarded, service)
    assert 2 == service.calls


async def test_retry_single_flight(backend, unit):
    """
    Retry -> SingleFlight: callers whose flight failed try again, and meet in the next one.
    """
    service = Script(Wait(unit, then=OSError), Wait(unit, then="fresh"))
    async with SingleFlight() as flights:
        guarded = Pipeline(Retry(2, on=OSError, wait=lambda _: unit), flights, Timeout(50))
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(guarded, service)
    assert 2 == service.calls


async def test_single_flight_bulkhead(backend, unit):
    """
    SingleFlight -> Bulkhead: one place for each flight.
    """
    places = Bulkhead(1)
    service = Script(Wait(unit, then="fresh"))
    async with SingleFlight() as flights:
        guarded = Pipeline(flights, places, Timeout(50))
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(guarded, service)
    assert 1 == service.calls
    assert 0 == places.in_flight


async def test_bulkhead_single_flight(backend, unit):
    """
    Bulkhead -> SingleFlight: one place for each caller, who waits in it.
    """
    places = Bulkhead(2)
    service = Script(Wait(unit, then="fresh"))
    async with SingleFlight() as flights:
        guarded = Pipeline(places, flights, Timeout(50))
        answers = []

        async def call():
            answers.append((await timed(guarded(service)))[0])

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(call)
    assert ["BulkheadFullError", "str", "str"] == sorted(type(each).__name__ for each in answers)
    assert 1 == service.calls


async def test_single_flight_half_open_breaker(backend, unit):
    """
    SingleFlight -> CircuitBreaker: in half-open one probe answers for all who ask the same; none of them is rejected.
    """
    inside = breaker(1)
    service = Script(OSError, Wait(unit, then="fresh"))
    answers = []
    async with SingleFlight() as flights:
        guarded = Pipeline(flights, inside, Timeout(50))
        with pytest.raises(OSError, match="step 1"):
            await guarded(service)
        inside._core.force(CircuitState.HALF_OPEN)

        async def call():
            answers.append(await guarded(service))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(call)
    assert ["fresh"] * 5 == answers
    assert CircuitState.CLOSED is inside.state


async def test_bulkhead_chaos(backend, unit):
    """
    Bulkhead -> Chaos: an injected latency holds its place, as a slow dependency would.
    """
    places = Bulkhead(1)
    guarded = Pipeline(places, Chaos(1, latency=unit, enabled=True))
    answers = []

    async def call():
        answers.append((await timed(guarded(Script(42))))[0])

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        group.start_soon(call)
    assert {"BulkheadFullError", "int"} == {type(each).__name__ for each in answers}


async def test_fallback_last_good_single_flight_retry_breaker_chaos(backend):
    """
    All of them, in the order of the documentation: fresh, then stale, then the fallback, and nothing raised.
    """
    chaos = Chaos(1, fault=ConnectionError)
    around = breaker(2)
    async with SingleFlight() as flights:
        guarded = Pipeline(
            Fallback("none", on=Exception),
            LastGood(60),
            flights,
            Retry(3, on=ConnectionError, wait=lambda _: 0.0),
            around,
            Timeout(9),
            chaos,
        )
        service = Script("fresh")
        fresh = await guarded.outcome(service, "a")
        chaos.enable()
        stale = await guarded.outcome(service, "a")
        other = await guarded.outcome(service, "b")

    assert ("fresh", None, False) == (fresh.value, fresh.age, fresh.from_fallback)
    assert ("fresh", True) == (stale.value, stale.from_fallback)
    assert stale.age is not None
    assert ("none", None, True) == (other.value, other.age, other.from_fallback)
    assert isinstance(stale.rejection, CircuitOpenError)
