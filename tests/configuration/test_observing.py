"""
Issue 4.2: what ``mode = "observe"`` means for gates and timeouts: they watch, tell, and change nothing.
"""

from __future__ import annotations

import itertools

import anyio
import pytest

from resilience import Bulkhead, CircuitBreaker, ConsecutiveFailures, Pipeline, Retry, Timeout
from resilience.config.observing import Observed, ObservedTimeout
from resilience.errors import BulkheadFullError, CircuitOpenError
from resilience.events import CallRejected, WouldHaveActed
from resilience.testing import Recorder, Script, Wait
from tests.composition.support import about, timed

_numbers = itertools.count(1)


async def test_a_full_bulkhead_turns_nobody_away(backend, unit):
    """
    The second call runs beside the first and is told of; places are counted as ever and are free at the end.
    """
    recorder = Recorder()
    bulkhead = Bulkhead(1, name="watched")
    guarded = Pipeline(Observed(bulkhead), listeners=[recorder], name="reads")
    call = guarded.wrap(Script(Wait(unit, 1), Wait(unit, 2)))
    got = []

    async def one() -> None:
        got.append(await call())

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        group.start_soon(one)
        await anyio.sleep(unit / 2)
        assert 1 == bulkhead.in_flight

    assert [1, 2] == sorted(got)
    assert 0 == bulkhead.in_flight
    assert ["WouldHaveActed"] == [kind for kind in recorder.kinds if kind != "CallFinished"]
    (event,) = [each for each in recorder if isinstance(each, WouldHaveActed)]
    assert ("watched", "reads", "bulkhead_full") == (event.policy, event.pipeline, event.action)


async def test_a_rejection_from_further_inside_passes(backend):
    """
    Law 4: that of another policy, which enforces, is not this one's to overrule.
    """
    guarded = Pipeline(Observed(Bulkhead(5)), Bulkhead(0))
    with pytest.raises(BulkheadFullError):
        await guarded(Script(1))


async def test_an_open_breaker_in_a_pipeline_that_observes(backend, unit):
    """
    Elsewhere it enforces; here it is told of, a retry around does not mind it, and errors are counted as ever.
    """
    gate = CircuitBreaker(
        f"observed-{next(_numbers)}",
        on=OSError,
        trip=ConsecutiveFailures(1),
        break_duration=9 * unit,
    )
    recorder = Recorder(WouldHaveActed, CallRejected)
    watched = Pipeline(Observed(gate), Timeout(50 * unit), listeners=[recorder])
    assert isinstance((await timed(watched.wrap(Script(OSError))()))[0], OSError)
    assert 1 == gate.snapshot().totals.failures
    script = Script(OSError, 42)
    around = Pipeline(Retry(2, on=OSError, wait=lambda _: 0.0), Observed(gate), Timeout(50 * unit))
    assert 42 == await around(script)
    assert 42 == await watched(Script(42))
    assert ["circuit_open"] == [event.action for event in recorder]
    with pytest.raises(CircuitOpenError):
        await gate(Script(1))


async def test_a_late_call_is_told_of_and_not_cut_off(backend, unit):
    """
    When it ends, well or badly; one in time is not.
    """
    recorder = Recorder(WouldHaveActed)
    guarded = Pipeline(ObservedTimeout(unit), listeners=[recorder], name="reads")
    assert (42, about(2 * unit, backend)) == await timed(guarded(Script(Wait(2 * unit, 42))))
    assert isinstance((await timed(guarded(Script(Wait(2 * unit, OSError)))))[0], OSError)
    assert 1 == await guarded(Script(Wait(unit / 4, 1)))
    assert ["timeout"] * 2 == [event.action for event in recorder]
    assert {f"Timeout({unit!r})"} == {event.policy for event in recorder}


async def test_cancellation_passes(backend, unit):
    """
    Law 2, law 33: nothing is held afterwards.
    """
    bulkhead = Bulkhead(1)
    guarded = Pipeline(Observed(bulkhead), ObservedTimeout(unit))
    with anyio.move_on_after(unit / 2):
        await guarded(Script(Wait(9 * unit)))
    assert 0 == bulkhead.in_flight
    assert 1 == await guarded(Script(1))


def test_they_are_values():
    """
    Equal by what they watch, and shown with it.
    """
    bulkhead = Bulkhead(1)
    assert Observed(bulkhead) == Observed(bulkhead)
    assert Observed(bulkhead) != Observed(Bulkhead(1))
    assert Observed(bulkhead) != bulkhead
    assert 1 == len({Observed(bulkhead), Observed(bulkhead)})
    assert "Observed(Bulkhead(1))" == repr(Observed(bulkhead))
    assert "ObservedTimeout(2.0)" == repr(ObservedTimeout(2.0))
