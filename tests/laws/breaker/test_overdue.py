"""
Law 18: a call that runs too long counts while it still runs.
"""

from __future__ import annotations

import math
from random import Random

import anyio
import anyio.lowlevel
import pytest

from resilience import (
    Bulkhead,
    BulkheadFullError,
    CircuitOpenError,
    CircuitState,
    ConsecutiveFailures,
    CountWindow,
    FailureRate,
    SlowRate,
    Timeout,
    TimeoutExceededError,
    TimeWindow,
)
from resilience.core.circuit import Circuit
from resilience.core.generations import Closed
from resilience.core.tickets import Watch
from resilience.registry import Registry
from resilience.testing import Hang, ManualClock, Script
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
            assert kept == len(generation.watch or ())
            callee.go.set()
        assert 0 == len(generation.watch or ())


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


async def test_a_watched_call_that_succeeds_in_time_takes_no_ticket(backend, clock, monkeypatch):
    """
    Law 18: it enters itself and takes itself out, and every rule is left to those who fail, or run for long.
    """
    taken = []
    monkeypatch.setattr(Circuit, "settle", lambda *given: taken.append(given))
    breaker = a_breaker(clock, trip=FailureRate() | SlowRate(0.5, 4.0), overdue_after=5.0)
    guarded = breaker.wrap(Script(1))
    for _ in range(20):
        await guarded()
        clock.advance(0.1)
    assert ([], 20) == (taken, breaker.snapshot().totals.successes)
    assert 0 == len(breaker._core.circuit.current.watch)


@pytest.mark.parametrize("seconds", [1.0, 2.5, 3.0, 4.999, 5.0, 9.0])
async def test_what_a_call_ran_for_is_exact_however_many_looks_it_saw(backend, clock, seconds):
    """
    Laws 9 and 18: slow from its threshold on and not before, whether somebody looked meanwhile or not.
    """
    for looks in range(4):
        breaker = a_breaker(clock, trip=SlowRate(0.9, 5.0, CountWindow(100), 100))
        guarded, callee = pipeline(breaker), Held()
        async with anyio.create_task_group() as group:
            group.start_soon(Caught(), guarded, callee)
            await callee.entered.wait()
            for _ in range(looks):
                clock.advance(seconds / 4)
                await guarded(Script(1))
            clock.advance(seconds - looks * seconds / 4)
            callee.go.set()
        seen = breaker.snapshot()
        slow = int(seconds >= 5.0)
        assert (slow, slow, 1 + looks) == (seen.slow, seen.totals.slow, seen.totals.successes)
        assert 0 == len(breaker._core.circuit.current.watch)


async def test_who_waits_in_a_generation_that_has_passed_is_counted_for_its_life(backend, clock):
    """
    Laws 9 and 18: late or in time, watched or taken over by a ticket, it votes no more.
    """
    breaker = a_breaker(clock, trip=SlowRate(0.9, 5.0, CountWindow(100), 100))
    guarded, callee = pipeline(breaker), Held()
    async with anyio.create_task_group() as group:
        group.start_soon(Caught(), guarded, callee)
        await callee.entered.wait()
        clock.advance(5.0)
        await guarded(Script(1))
        breaker.reset()
        callee.go.set()
    seen = breaker.snapshot()
    assert (0, 0, 2, 1) == (seen.calls, seen.slow, seen.totals.successes, seen.totals.slow)


def test_each_of_many_is_counted_at_its_own_instant(clock):
    """
    Law 18: they began one after another, and whoever asks next finds exactly those that have run too long.
    """
    breaker = a_breaker(clock, trip=FailureRate(1.0, CountWindow(10**4), 10**4), overdue_after=5.0)
    permits, began = [], []
    for step in range(100):
        if step < 40:
            permits.append(breaker.admit())
            began.append(clock.now())
        clock.advance((0.125, 0.25, 0.5, 1.0)[step % 4])
        breaker.admit().ignore()
        overdue = sum(clock.now() - each >= 5.0 for each in began)
        assert overdue == breaker.snapshot().failures
    for permit in permits:
        permit.success()
    assert (40, 0) == visible(breaker)[4:6]


@pytest.mark.parametrize("ending", ["success", "failure", "ignored", "cancelled"])
async def test_nothing_is_left_of_a_call_that_ran_for_long(backend, clock, ending):
    """
    Laws 18 and 33: not in the register, and not beside it.
    """
    breaker = a_breaker(clock, trip=ConsecutiveFailures(9), ignore=KeyError, overdue_after=5.0)
    guarded, callee = pipeline(breaker), Held()
    callee.ending = {"failure": OSError("late"), "ignored": KeyError("late")}.get(ending)
    watch = breaker._core.circuit.current.watch
    empty = [repr(getattr(watch, name)) for name in watch.__slots__ if name != "_gather_at"]
    async with anyio.create_task_group() as group:
        group.start_soon(Caught(), guarded, callee)
        await callee.entered.wait()
        for _ in range(3):
            clock.advance(2.5)
            await guarded(Script(1))
        if ending == "cancelled":
            group.cancel_scope.cancel()
        callee.go.set()
    assert empty == [repr(getattr(watch, name)) for name in watch.__slots__ if name != "_gather_at"]


async def test_a_watched_success_falls_into_its_own_bucket(backend, clock):
    """
    Laws 18 and 19: the window moves on for calls that enter themselves as it does for all.
    """
    trip = FailureRate(0.9, TimeWindow(10, 10), 100)
    breaker = a_breaker(clock, trip=trip, overdue_after=50.0)
    guarded, calls = breaker.wrap(Script(1)), []
    for _ in range(15):
        await guarded()
        clock.advance(1.0)
        calls.append(breaker.snapshot().calls)
    assert [min(1 + each, 9) for each in range(15)] == calls


def test_somebody_who_leaves_while_others_are_looked_for_is_not_missed(clock):
    """
    Laws 15 and 18: the register changes under the one who looks, who goes on at the next look.
    """
    breaker = a_breaker(clock, trip=ConsecutiveFailures(9), overdue_after=5.0)
    circuit, permits = breaker._core.circuit, [breaker.admit() for _ in range(4)]

    class Leaving(float):
        """A clock's reading; when it is compared for the n-th time, somebody leaves."""

        def __new__(cls, seconds, looks):
            made = super().__new__(cls, seconds)
            made.looks = looks
            return made

        def __sub__(self, other):
            self.looks -= 1
            if not self.looks:
                permits.pop().ignore()
            return float(self) - float(other)

    clock.advance(5.0)
    seen, tickets = [], []
    for looks in (1, 2, 99):
        tickets.append(circuit.admit(Leaving(clock.now(), looks)))
        seen.append((len(permits), breaker.snapshot().failures))
    assert [(3, 1), (2, 2), (2, 2)] == seen
    for permit in permits:
        permit.ignore()
    for ticket in tickets:
        circuit.settle(ticket, Verdict.SUCCESS, clock.now())
    assert (3, 0, 0) == (*visible(breaker)[4:6], len(circuit.current.watch))


def test_one_looks_at_a_time(clock):
    """
    Law 15: who finds another thread looking goes on; that one counts.
    """
    breaker = a_breaker(clock, trip=ConsecutiveFailures(9), overdue_after=5.0)
    hanging, watch = breaker.admit(), breaker._core.circuit.current.watch
    clock.advance(5.0)
    watch.turn.pop()
    breaker.admit().ignore()
    assert 0 == breaker.snapshot().failures
    watch.turn.append(None)
    breaker.admit().ignore()
    assert (1, [None]) == (breaker.snapshot().failures, watch.turn)
    hanging.ignore()


@pytest.mark.parametrize("origin", [-1e3, -0.3, 0.0, 0.1, 1e3, 1e9])
@pytest.mark.parametrize("threshold", [0.1, 0.25, 1 / 3, 5.0, 3600.0])
def test_no_rounding_hides_a_call_that_has_reached_its_threshold(origin, threshold):
    """
    Law 18: whatever the sums are rounded to, nobody is late before the instant that says so.
    """
    dice = Random(f"{origin} {threshold}")
    for _ in range(200):
        started = origin + dice.random()
        watch = Watch((threshold,), started)
        now = started + threshold
        for _ in range(6):
            assert now >= watch.clear_until() or now - started < threshold
            now = math.nextafter(now, -math.inf)


@pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")
async def test_a_function_wrapped_before_watches_from_its_next_call_on(backend):
    """
    Laws 18 and 38: there and back again, and nothing stays behind.
    """
    registry = Registry()
    clock = ManualClock()
    for number, first in enumerate((None, 5.0)):
        breaker = registry.breaker(
            f"{backend} {number}",
            on=OSError,
            trip=ConsecutiveFailures(9),
            overdue_after=first,
            clock=clock,
        )
        guarded, callee = breaker.wrap(Script(*[1] * 50)), Held()
        for overdue_after in (5.0, None, 5.0, None):
            registry.change(breaker.name, overdue_after=overdue_after)
            before = totals(breaker)
            async with anyio.create_task_group() as group:
                group.start_soon(Caught(), pipeline(breaker), callee)
                await callee.entered.wait()
                await guarded()
                clock.advance(5.0)
                await guarded()
                assert (overdue_after is not None) == breaker.snapshot().failures
                callee.go.set()
            assert {"successes": 3} == gained(breaker, before)
            callee = Held()


async def test_a_watched_call_that_is_turned_away_inside_has_not_begun(backend, clock):
    """
    Laws 4, 18 and 33: what stands inside is full, so nothing ran that could run too long.
    """
    breaker, callee = a_breaker(clock, trip=ConsecutiveFailures(9), overdue_after=5.0), Held()
    guarded = pipeline(breaker, Bulkhead(1)).wrap(callee)
    watch = breaker._core.circuit.current.watch
    async with anyio.create_task_group() as group:
        group.start_soon(Caught(), guarded)
        await callee.entered.wait()
        with pytest.raises(BulkheadFullError):
            await guarded()
        assert 1 == len(watch)
        clock.advance(5.0)
        with pytest.raises(BulkheadFullError):
            await guarded()
        assert 1 == breaker.snapshot().failures
        callee.go.set()
    assert (0, {"successes": 1, "ignored": 2}) == (
        len(watch),
        {each: count for each, count in totals(breaker).items() if count},
    )
