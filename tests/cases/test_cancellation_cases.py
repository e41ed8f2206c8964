"""
Cancellation on asyncio and trio: the cases PY-*, which no toolkit of another language could cover.

Cases without a test here, and why:

======  ==========================================================================================
PY-001  at *every* await point: an instrument of its own finds the points; here they are sampled in time
PY-003  there is no hedging yet
PY-005  the same attempts as tenacity: ``tests/policies/test_tenacity_parity.py``
======  ==========================================================================================
"""

import asyncio

import anyio
import pytest
from tenacity import wait_fixed

from resilience import CircuitState, Pipeline, Retry, Timeout, TimeoutExceededError
from resilience.events import CallFinished
from resilience.testing import Hang, Recorder, Script, Wait, forced
from tests.composition.support import Queue, breaker, pending_cancellations, timed

SHAPES = {
    "timeout(retry(breaker(timeout)))": lambda unit, gate: (
        Timeout(12 * unit),
        Retry(3, on=OSError, wait=wait_fixed(unit)),
        gate,
        Timeout(2 * unit),
    ),
    "retry(timeout(breaker))": lambda unit, gate: (
        Retry(3, on=OSError, wait=wait_fixed(unit)),
        Timeout(2 * unit),
        gate,
        Queue(unit / 10),
    ),
    "timeout(breaker(retry))": lambda unit, gate: (
        Timeout(12 * unit),
        gate,
        Retry(3, on=OSError, wait=wait_fixed(unit)),
        Queue(unit / 10),
    ),
}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
# Some of these shapes are what one is warned of.
pytestmark = pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")


def state_of(gate):
    """What must be as if the call had never been, or had been released without a verdict."""
    current = gate._core.circuit.current
    return (
        gate.state,
        gate.generation,
        len(getattr(current, "live", ())),
        len(getattr(current, "seats", ())),
    )


@shapes
@pytest.mark.parametrize("level", [True, False], ids=["level", "edge"])
async def test_py_001_a_cancellation_at_any_time_leaves_nothing(backend, unit, shape, level):
    """
    PY-001: cancelled after each quarter of a unit of a call of six: no permit, seat or count is left.
    """
    if backend == "trio" and not level:
        pytest.skip("trio cancels by level only")
    if backend == "uvloop":
        pytest.skip("real time: two dozen calls of a tenth of a second; the other loops do it")
    for quarter in range(24):
        gate = breaker(99, probes=3, successes_to_close=99)
        with forced(gate, CircuitState.HALF_OPEN):
            before = state_of(gate)
            guarded = Pipeline(*shape(unit, gate))
            script = Script(Wait(unit / 2, KeyError), Wait(unit / 2, 42))
            script = Script(Wait(unit, 1), Hang()) if quarter % 2 else script
            call = guarded.wrap(script)
            if level:
                with anyio.move_on_after(quarter * unit / 4):
                    await timed(call())
            else:
                task = asyncio.get_running_loop().create_task(timed(call()))
                await anyio.sleep(quarter * unit / 4)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            after = state_of(gate)
            if gate.state is CircuitState.HALF_OPEN:
                assert before == after
        assert 0 == script.running
        assert 0 == pending_cancellations()


@shapes
@pytest.mark.parametrize("moment", [0.05, 0.5, 1.5], ids=["early", "in the call", "in the wait"])
async def test_py_002_edge_and_level_give_the_same_outcome(backend, unit, shape, moment):
    """
    PY-002: by a scope or by `Task.cancel`, the call ends the same way and counts the same; the count is restored.
    """
    if backend == "uvloop":
        pytest.skip("real time: two runs are never cancelled at quite the same moment there")
    found = {}
    for kind in ("level", "edge"):
        if backend == "trio" and kind == "edge":
            continue
        gate = breaker(99)
        recorder = Recorder(CallFinished)
        script = Script(Wait(unit, OSError), Hang())
        guarded = Pipeline(*shape(unit, gate), listeners=[recorder])
        if kind == "level":
            with anyio.move_on_after(moment * unit):
                await guarded(script)
        else:
            task = asyncio.get_running_loop().create_task(guarded(script))
            await anyio.sleep(moment * unit)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert 1 == task.cancelling()
        (finished,) = recorder.events
        totals = gate.snapshot().totals
        found[kind] = (finished.outcome, finished.attempts, totals, gate.state)

    assert "cancelled" == found["level"][0]
    assert found["level"] == found.get("edge", found["level"])
    assert 0 == pending_cancellations()


@shapes
async def test_py_006_a_cancellation_is_nobodys_failure(backend, unit, shape):
    """
    PY-006: not retried, not recorded as a failure, not swallowed: twenty callers who leave open no circuit.
    """
    gate = breaker(1, on=Exception)
    guarded = Pipeline(*shape(unit, gate))
    scripts = [Script(Hang()) for _ in range(20)]

    for script in scripts:
        with anyio.move_on_after(unit / 4) as scope:
            await guarded(script)
        assert scope.cancelled_caught

    assert {1} == {script.calls for script in scripts}
    assert (CircuitState.CLOSED, 0, 20) == (
        gate.state,
        gate.snapshot().totals.failures,
        gate.snapshot().totals.ignored,
    )


@pytest.mark.parametrize("place", ["inside", "around"])
async def test_py_007_our_deadline_and_a_caller_who_leaves_are_told_apart(backend, unit, place):
    """
    PY-007: the same hang, the same instant: cut by us it is a failure, left by the caller it is nothing.
    """

    def guarded(gate, limit):
        return Pipeline(gate, limit) if place == "inside" else Pipeline(limit, gate, Queue(0))

    ours, theirs = breaker(1), breaker(1)

    error, _ = await timed(guarded(ours, Timeout(unit))(Script(Hang())))
    with anyio.move_on_after(unit):
        await guarded(theirs, Timeout(9 * unit))(Script(Hang()))

    assert isinstance(error, TimeoutExceededError)
    assert (CircuitState.OPEN, CircuitState.CLOSED) == (ours.state, theirs.state)
    assert (1, 0) == tuple(gate.snapshot().totals.failures for gate in (ours, theirs))
