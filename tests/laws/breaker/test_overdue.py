"""
Law 18: a call that runs too long counts while it still runs.
"""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from resilience import (
    CircuitOpenError,
    CircuitState,
    ConsecutiveFailures,
    CountWindow,
    FailureRate,
    SlowRate,
    Timeout,
    TimeoutExceededError,
)
from resilience.core.generations import Closed
from resilience.testing import Hang, Script
from resilience.verdicts import Verdict
from tests.laws.breaker.kit import Caught, Held, a_breaker, gained, pipeline, totals, visible

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


async def test_a_hang_opens_the_circuit_before_the_first_timeout_fires(backend, unit):
    """
    Law 18: at the third call, while the first two still hang and their timeouts are far away.
    """
    breaker = a_breaker(trip=ConsecutiveFailures(2), overdue_after=2 * unit, probe_lease=60.0)
    guarded = pipeline(breaker, Timeout(50.0))
    script = Script(Hang())
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(Caught(), guarded, script)
        await anyio.sleep(2.5 * unit)
        assert CLOSED is breaker.state
        with pytest.raises(CircuitOpenError):
            await guarded(script)
        assert (OPEN, 2) == (breaker.state, script.calls)
        group.cancel_scope.cancel()


@pytest.mark.parametrize("by", ["admission", "success", "failure", "ignored"])
async def test_it_counts_as_soon_as_another_call_is_admitted_or_settled(backend, clock, by):
    """
    Law 18: no timer and no task; whatever happens next finds it.
    """
    breaker = a_breaker(clock, on=OSError, ignore=KeyError, overdue_after=5.0)
    other = breaker.admit()
    hanging = breaker.admit()
    clock.advance(4.999)
    await pipeline(breaker)(Script(1))
    clock.advance(0.001)
    assert CLOSED is breaker.state
    if by == "admission":
        with pytest.raises(CircuitOpenError):
            await pipeline(breaker)(Script(1))
    elif by == "failure":
        other.failure()
    else:
        (other.success if by == "success" else other.ignore)()
    assert (OPEN, 10.0, 1) == (breaker.state, breaker.retry_after, breaker.snapshot().openings)
    hanging.ignore()
    other.ignore()


@pytest.mark.parametrize(("ending", "failures"), [("success", 0), ("failure", 1), ("ignored", 0)])
async def test_its_end_corrects_the_record(backend, clock, ending, failures):
    """
    Law 18: what was counted of it while it ran is taken back, and its real outcome is recorded in its place.
    """
    trip = FailureRate(0.9, CountWindow(100), 50)
    breaker = a_breaker(clock, trip=trip, ignore=KeyError, overdue_after=5.0)
    guarded, callee = pipeline(breaker), Held()
    callee.ending = {"failure": OSError("late"), "ignored": KeyError("late")}.get(ending)
    async with anyio.create_task_group() as group:
        group.start_soon(Caught(), guarded, callee)
        await callee.entered.wait()
        clock.advance(6.0)
        await guarded(Script(1))
        seen = breaker.snapshot()
        assert (2, 1, 0) == (seen.calls, seen.failures, seen.totals.failures)
        callee.go.set()
    seen = breaker.snapshot()
    assert (1 + (ending != "ignored"), failures) == (seen.calls, seen.failures)
    assert failures == seen.totals.failures


async def test_an_opening_that_it_caused_stands(backend, clock):
    """
    Law 18: it succeeds after all, and the circuit stays open for its break.
    """
    breaker, callee = a_breaker(clock, overdue_after=5.0), Held("fine")
    guarded, caught = pipeline(breaker), Caught()
    async with anyio.create_task_group() as group:
        group.start_soon(caught, guarded, callee)
        await callee.entered.wait()
        clock.advance(5.0)
        await guarded.outcome(Script(1))
        before, counted = visible(breaker), totals(breaker)
        callee.go.set()
    assert "fine" == caught.result
    assert (before, {"successes": 1}) == (visible(breaker), gained(breaker, counted))


async def test_a_slow_rate_counts_slow_calls_while_they_run_and_when_they_have_ended(
    backend, clock
):
    """
    Law 18: one still runs, one has ended slowly, one was fast: 2 of 3.
    """
    trip = SlowRate(0.9, 5.0, CountWindow(10), 10)
    breaker = a_breaker(clock, trip=trip)
    ended, running = breaker.admit(), breaker.admit()
    clock.advance(5.0)
    ended.success()
    await pipeline(breaker)(Script(1))
    seen = breaker.snapshot()
    assert (2, 2 / 3, 1) == (seen.slow, seen.slow_rate, seen.totals.slow)
    running.success()
    seen = breaker.snapshot()
    assert (2, 2 / 3, 2) == (seen.slow, seen.slow_rate, seen.totals.slow)


async def test_slow_comes_first_and_overdue_later_and_each_counts_for_what_it_is(backend, clock):
    """
    Law 18: from 2 s it is slow, which is no failure; from 5 s it is a failure too; it is one call all the time.
    """
    trip = FailureRate(0.9, CountWindow(10), 10) | SlowRate(0.9, 2.0, CountWindow(10), 10)
    breaker = a_breaker(clock, trip=trip, overdue_after=5.0)
    hanging, guarded, seen = breaker.admit(), pipeline(breaker), []
    for seconds in (1.0, 1.0, 2.5, 0.5):
        clock.advance(seconds)
        await guarded(Script(1))
        now = breaker.snapshot()
        seen.append((now.calls, now.failures, now.slow))
    assert [(1, 0, 0), (3, 0, 1), (4, 0, 1), (5, 1, 1)] == seen
    hanging.success()
    now = breaker.snapshot()
    assert (5, 0, 1) == (now.calls, now.failures, now.slow)


async def test_a_timeout_settles_an_overdue_call_once(backend, unit):
    """
    Laws 3 and 18: it was counted as a failure while it ran, and it ends as one; that is one failure.
    """
    trip = FailureRate(1.0, CountWindow(10), 10)
    breaker = a_breaker(trip=trip, overdue_after=unit)
    guarded = pipeline(breaker, Timeout(3 * unit))
    async with anyio.create_task_group() as group:
        caught = Caught()
        group.start_soon(caught, guarded, Script(Hang()))
        await anyio.sleep(1.5 * unit)
        await guarded(Script(1))
        assert 1 == breaker.snapshot().failures
        await caught.done.wait()
    assert isinstance(caught.error, TimeoutExceededError)
    seen = breaker.snapshot()
    assert (2, 1, 1) == (seen.calls, seen.failures, seen.totals.failures)


async def test_a_cancelled_call_that_was_overdue_takes_its_record_with_it(backend, clock):
    """
    Laws 2 and 18: who leaves says nothing, also of the time that went before.
    """
    trip = FailureRate(1.0, CountWindow(10), 10)
    breaker, callee = a_breaker(clock, trip=trip, overdue_after=5.0), Held()
    guarded = pipeline(breaker)
    async with anyio.create_task_group() as group:
        group.start_soon(Caught(), guarded, callee)
        await callee.entered.wait()
        clock.advance(5.0)
        await guarded(Script(1))
        assert (2, 1) == (breaker.snapshot().calls, breaker.snapshot().failures)
        group.cancel_scope.cancel()
    assert (1, 0) == (breaker.snapshot().calls, breaker.snapshot().failures)


async def test_breakers_without_it_keep_no_register(backend, clock):
    """
    Law 18: nothing of a running call is kept; with it, exactly the calls that run.
    """
    for options, kept in (({}, 0), ({"overdue_after": 5.0}, 3)):
        breaker, callee = a_breaker(clock, **options), Held()
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(Caught(), pipeline(breaker), callee)
            while callee.calls < 3:
                await anyio.lowlevel.checkpoint()
            generation = breaker._core.circuit.current
            assert isinstance(generation, Closed)
            assert kept == sum(len(queue) for _, queue in generation.watches)
            callee.go.set()
        assert 0 == sum(len(queue) for _, queue in generation.watches)


@pytest.mark.parametrize("in_flight", [10, 3000])
def test_the_cost_of_a_call_does_not_grow_with_the_calls_in_flight(clock, in_flight):
    """
    Law 18: O(1); the oldest are at the front, and a look at the front is enough.
    """
    breaker = a_breaker(clock, trip=ConsecutiveFailures(10_000), overdue_after=5.0)
    permits = [breaker.admit() for _ in range(in_flight)]
    looked_at = []

    class Counting(float):
        """A clock's reading that knows how often it is compared."""

        def __sub__(self, other):
            looked_at.append(other)
            return float(self) - float(other)

    circuit = breaker._core.circuit
    for _ in range(10):
        circuit.settle(circuit.admit(Counting(clock.now())), Verdict.SUCCESS, Counting(clock.now()))
    assert len(looked_at) <= 10 * 5
    for permit in permits:
        permit.ignore()
