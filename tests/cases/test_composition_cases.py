"""
What other toolkits' suites expect of pipelines, context and telemetry: the cases CP-* and TE-*.

Cases without a test, and why:

======  ==========================================================================================
CP-006  there is no fallback policy yet; what it will have to see is in the tests of law 25
RG-*    there is no registry yet
RL0-*   there is no reload yet: a pipeline is frozen, and `replace` makes another (law 38)
======  ==========================================================================================

Of CP-007 the sampling rule of a sampling breaker is not a rule here: windows are exact at any length; hedges do not
exist. Of TE-002 severities are those of the logging module: a logger's level is the user's to set. Attempts are
numbered from 1 (TE-001), as in `Call.attempt`.
"""

import contextvars
import logging

import anyio
import pytest
from tenacity import wait_none

from resilience import (
    CircuitOpenError,
    ConfigurationError,
    Pipeline,
    PipelineWarning,
    Retry,
    Timeout,
    TimeoutExceededError,
)
from resilience import events as events_module
from resilience.events import CallFinished, RetryScheduled, RetryStopped
from resilience.testing import Recorder, Script, Wait
from tests.composition.support import Queue, Turnstile, breaker, timed

VARIABLE = contextvars.ContextVar("variable", default="unset")


def retry(attempts=3):
    return Retry(attempts, on=OSError, wait=wait_none())


async def test_cp_001_first_is_outermost_and_errors_are_not_wrapped(backend):
    """
    CP-001: in the order they are written, and the error by identity through all of them.
    """
    log = []
    error = ValueError("mine")
    guarded = Pipeline(*[Turnstile(name, log) for name in "abcde"])

    found, _ = await timed(guarded(Script(error)))

    assert error is found
    assert ["+a", "+b", "+c", "+d", "+e", "-e", "-d", "-c", "-b", "-a"] == log


async def test_cp_002_an_empty_pipeline_is_transparent(backend):
    """
    CP-002: what it is given is what it does; the rest is law 34.
    """
    assert () == Pipeline().policies
    assert ((1, 2), {"three": 3}) == await Pipeline()(Script(lambda *a, **k: (a, k)), 1, 2, three=3)


async def test_cp_003_cancelled_between_policies_the_next_is_not_executed(backend, unit):
    """
    CP-003: the caller leaves while the call stands in one policy: those inside it never see it.
    """
    log = []
    script = Script(42)
    guarded = Pipeline(Turnstile("a", log), Queue(5 * unit), Turnstile("b", log))

    with anyio.move_on_after(unit) as scope:
        await guarded(script)

    assert scope.cancelled_caught
    assert (["+a", "-a"], 0) == (log, script.calls)


async def test_cp_005_a_breaker_counts_what_passes_it(backend):
    """
    CP-005: retry(breaker): every attempt; breaker(retry): one record for the whole execution.
    """
    inside, outside = breaker(99), breaker(99)
    await timed(Pipeline(retry(), inside, Timeout(50))(Script(OSError)))
    with pytest.warns(PipelineWarning, match="hides failed attempts"):
        guarded = Pipeline(outside, retry(), Timeout(50))
    await timed(guarded(Script(OSError)))
    assert 42 == await guarded(Script(OSError, 42))

    assert (3, 3) == (inside.snapshot().calls, inside.snapshot().failures)
    assert (2, 1) == (outside.snapshot().calls, outside.snapshot().failures)


@pytest.mark.parametrize(
    ("policies", "says"),
    [
        (lambda: (Timeout(2), Timeout(3)), "can never fire"),
        (lambda: (Timeout(2), retry(), Timeout(2)), "can never fire"),
        (lambda: (breaker(probe_lease=1), Timeout(2)), "probe_lease=1"),
        (lambda: (gate := breaker(), gate, Timeout(2)), "stands twice"),
    ],
    ids=["longer", "as long", "lease", "twice"],
)
def test_cp_007_what_cannot_work_is_refused_at_build(policies, says):
    """
    CP-007: an attempt that outlasts the total, a lease below the attempt, a breaker inside itself.
    """
    with pytest.raises(ConfigurationError, match=says):
        Pipeline(*policies())


async def test_cp_009_concurrent_executions_are_isolated(backend, unit):
    """
    CP-009: what one execution sets, inner policies and callbacks of it see, and no other execution does.
    """
    seen = {}

    async def callee(call, name):
        VARIABLE.set(f"{name} {call.attempt}")
        await anyio.sleep(unit / 4)
        if call.attempt < 3:
            raise OSError
        return VARIABLE.get()

    def predicate(error):
        heard.append(VARIABLE.get())
        return True

    heard = []
    guarded = Pipeline(Retry(3, on=predicate, wait=wait_none()), Timeout(50 * unit)).informed(
        callee
    )

    async def execute(name):
        VARIABLE.set(name)
        seen[name] = await guarded(name), VARIABLE.get()

    async with anyio.create_task_group() as group:
        for name in "xyz":
            group.start_soon(execute, name)

    assert {name: (f"{name} 3", f"{name} 3") for name in "xyz"} == seen
    assert sorted(f"{name} {n}" for name in "xyz" for n in (1, 2)) == sorted(heard)
    assert "unset" == VARIABLE.get()


async def test_cp_010_nothing_of_a_call_is_left_for_the_next(backend):
    """
    CP-010: each execution begins with attempt 1, no previous error, no deadline of another, no parked permit.
    """
    calls = []

    async def callee(call, fail):
        calls.append((call.attempt, type(call.previous_error), call.remaining() > 49))
        if fail and call.attempt < 3:
            raise OSError
        return 42

    guarded = Pipeline(Timeout(50), retry()).informed(callee)
    await guarded(fail=True)
    await guarded(fail=False)

    none = type(None)
    assert [(1, none, True), (2, OSError, True), (3, OSError, True), (1, none, True)] == calls


async def test_te_001_every_attempt_is_told_of(backend, unit):
    """
    TE-001: the failed ones with their number, the final one with the total, and the call with its duration.
    """
    recorder = Recorder()
    guarded = Pipeline(retry(), name="told", listeners=[recorder])

    await timed(guarded(Script(Wait(unit, OSError))))

    assert ["RetryScheduled", "RetryScheduled", "RetryStopped", "CallFinished"] == recorder.kinds
    assert [1, 2] == [event.attempt for event in recorder.of(RetryScheduled)]
    assert (3, "attempts") == (recorder.events[2].attempts, recorder.events[2].reason)
    (finished,) = recorder.of(CallFinished)
    assert ("failure", 3, "OSError") == (finished.outcome, finished.attempts, finished.error)
    assert finished.elapsed >= 3 * unit - 0.01


async def test_te_001_an_unhandled_failure_is_told_of_as_one(backend):
    """
    TE-001: not worth another attempt: one event that says so.
    """
    recorder = Recorder(RetryScheduled, RetryStopped)

    await timed(Pipeline(retry(), listeners=[recorder])(Script(KeyError)))

    (stopped,) = recorder.events
    assert (1, "not retryable", "KeyError") == (stopped.attempts, stopped.reason, stopped.error)


async def test_te_002_what_nobody_hears_is_not_made(backend, unit, monkeypatch):
    """
    TE-002: without a listener and with logging off no event is even built.
    """

    def boom(*_, **__):
        raise AssertionError("an event was made")

    for name in ("RetryScheduled", "RetryStopped", "TimedOut", "CallRejected"):
        for module in ("_retrying", "timeout", "circuit_breaker"):
            monkeypatch.setattr(f"resilience.policies.{module}.{name}", boom, raising=False)
    monkeypatch.setattr(events_module.LOGGER, "disabled", True)

    async def exercise(**options):
        guarded = Pipeline(retry(), breaker(1), Timeout(unit), **options)
        scripts = (Script(KeyError), Script(Wait(5 * unit)), Script(OSError))
        return [(await timed(guarded(script)))[0] for script in scripts]

    assert [KeyError, TimeoutExceededError, CircuitOpenError] == list(map(type, await exercise()))
    heard = await exercise(listeners=[Recorder()])
    assert ["an event was made"] * 3 == list(map(str, heard))


async def test_te_002_levels_are_the_loggers(backend, caplog):
    """
    TE-002: retries at DEBUG, an opening at WARNING, what it goes back to at INFO; a level of the user's silences them.
    """
    gate = breaker(1)
    guarded = Pipeline(retry(2), gate, Timeout(50))
    with caplog.at_level(logging.DEBUG, "resilience"):
        await timed(Pipeline(retry(2))(Script(OSError)))
        await timed(guarded(Script(OSError)))
        gate.reset()
    levels = {record.levelname for record in caplog.records}
    assert {"DEBUG", "WARNING", "INFO"} == levels

    caplog.clear()
    with caplog.at_level(logging.ERROR, "resilience"):
        await timed(guarded(Script(OSError)))
        gate.reset()
    assert [] == caplog.records


async def test_te_003_events_name_pipeline_policy_and_error(backend):
    """
    TE-003: the tags an exporter needs are fields; names are the user's static ones.
    """
    recorder = Recorder()
    gate = breaker(1)
    guarded = Pipeline(retry(), gate, Timeout(50), name="catalogue", listeners=[recorder])

    await timed(guarded(Script(OSError)))
    await timed(guarded(Script(OSError)))

    for event in recorder:
        expected = None if "Circuit" in type(event).__name__ else "catalogue"
        assert expected == event.pipeline
        assert event.policy
        assert isinstance(event.at, float)
    assert gate.name in {event.policy for event in recorder}
    assert {"OSError", "CircuitOpenError"} <= {getattr(event, "error", None) for event in recorder}
