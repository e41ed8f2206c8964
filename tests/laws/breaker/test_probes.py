"""
Laws 11, 12 and 13: who may try while a circuit is half-open, for how long, and what they decide.
"""

from __future__ import annotations

import contextlib

import anyio
import pytest

from resilience import (
    CircuitOpenError,
    CircuitState,
    ConfigurationError,
    ConsecutiveFailures,
    CountWindow,
    FailureRate,
    Pipeline,
    Retry,
    SlowRate,
    Timeout,
)
from resilience.testing import Script
from resilience.verdicts import Verdict
from tests.laws.breaker.kit import (
    Caught,
    Held,
    a_breaker,
    due,
    free_seats,
    gained,
    pipeline,
    settle,
    stranger,
    totals,
    visible,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


class RefusedError(Exception):
    """What a breaker of these tests ignores."""


# ----------------------------------------------------------------------------------------- law 11


@pytest.mark.parametrize(("racing", "probes"), [(1, 1), (3, 5), (100, 1), (100, 7), (10_000, 3)])
async def test_exactly_as_many_as_there_are_probes_are_in_flight(backend, clock, racing, probes):
    """
    Law 11, HO-003, HO-025, H25, B3: of 1 or of 10,000 racing; the others are turned away at once, by half-open.
    """
    breaker, callee = due(a_breaker(clock, probes=probes), clock), Held("fine")
    guarded = pipeline(breaker)
    refused, admitted = [], []

    async def caller():
        try:
            admitted.append(await guarded(callee))
        except CircuitOpenError as error:
            refused.append((error.state, error.retry_after))
            if len(refused) == racing - probes:
                callee.go.set()

    async with anyio.create_task_group() as group:
        for _ in range(racing):
            group.start_soon(caller)
        if racing <= probes:
            callee.go.set()
    expected = min(racing, probes)
    assert (expected, ["fine"] * expected) == (callee.calls, admitted)
    assert [("HALF_OPEN", None)] * (racing - expected) == refused
    assert racing - expected == breaker.snapshot().rejected
    assert (CLOSED if racing >= probes else HALF_OPEN) is breaker.state


@pytest.mark.parametrize("leaving", ["cancelled", "ignored", "interrupted", "good, of several"])
async def test_a_probe_that_says_nothing_hands_its_place_to_the_next_caller(
    backend, clock, leaving
):
    """
    Law 11, H1, HO-005, B7: one place, given back and taken again, any number of times.
    """
    breaker = due(
        a_breaker(clock, ignore=RefusedError, successes_to_close=100),
        clock,
    )
    guarded = pipeline(breaker)
    for _ in range(5):
        ending = {"ignored": RefusedError(), "interrupted": SystemExit()}.get(leaving, "fine")
        callee, caught = Held(ending), Caught()
        async with anyio.create_task_group() as group:
            group.start_soon(_survivor, caught, guarded, callee)
            await callee.entered.wait()
            assert (HALF_OPEN, None) == (breaker.state, stranger(breaker))
            callee.go.set()
            if leaving == "cancelled":
                group.cancel_scope.cancel()
        assert caught.done.is_set()
        assert (HALF_OPEN, 1) == (breaker.state, free_seats(breaker))
    assert 1 == breaker.snapshot().openings


async def _survivor(caught, guarded, callee):
    with contextlib.suppress(SystemExit):
        await caught(guarded, callee)


@pytest.mark.parametrize(
    ("probes", "given", "needed"), [(1, None, 1), (3, None, 3), (1, 3, 3), (3, 1, 1), (2, 5, 5)]
)
async def test_successes_to_close_close_over_any_number_of_probes(
    *, backend, clock, probes, given, needed
):
    """
    Law 11, HO-011, B11: its default is ``probes``; one after the other they count as well as side by side.
    """
    breaker = due(a_breaker(clock, probes=probes, successes_to_close=given), clock)
    guarded = pipeline(breaker)
    for number in range(1, needed + 1):
        await guarded(Script("fine"))
        assert (CLOSED if number == needed else HALF_OPEN) is breaker.state
        if number < needed:
            assert probes == free_seats(breaker)


async def test_one_failed_probe_reopens_whatever_the_others_said(backend, clock):
    """
    Law 11, HO-010, HO-023, B10: after any number of good ones, below any minimum of calls, the timer from now.

    HO-013 waits here for a verdict over a sample; the law decides at the first failure.
    """
    trip = FailureRate(0.9, CountWindow(100), 50)
    breaker = a_breaker(clock, trip=trip, probes=3, successes_to_close=10)
    for _ in range(50):
        breaker.admit().failure()
    clock.advance(10.0)
    guarded = pipeline(breaker)
    for _ in range(9):
        await guarded(Script("fine"))
    others = [stranger(breaker), stranger(breaker)]
    clock.advance(3.0)
    await guarded.outcome(Script(OSError))
    assert (OPEN, 10.0, 2) == (breaker.state, breaker.retry_after, breaker.snapshot().openings)
    for other in others:
        settle(breaker, other, Verdict.SUCCESS)
    assert OPEN is breaker.state


@pytest.mark.parametrize("ran", [4.999, 5.0])
@pytest.mark.parametrize("option", ["SlowRate", "overdue_after"])
async def test_a_slow_probe_reopens_though_it_succeeds(backend, clock, option, ran):
    """
    Law 11: from the threshold on, the exact threshold included.
    """
    options = {
        "SlowRate": {"trip": ConsecutiveFailures(1) | SlowRate(1.0, 5.0, CountWindow(10), 10)},
        "overdue_after": {"overdue_after": 5.0},
    }[option]
    breaker = due(a_breaker(clock, **options), clock)
    guarded = pipeline(breaker)
    await guarded(Script(lambda: clock.advance(ran)))
    if ran < 5.0:
        assert CLOSED is breaker.state
    else:
        assert (OPEN, 10.0) == (breaker.state, breaker.retry_after)


async def test_an_ignored_probe_may_take_its_time(backend, clock):
    """
    Laws 1 and 11: it is nothing, and slow is a word about an answer.
    """
    breaker = due(a_breaker(clock, overdue_after=5.0, ignore=RefusedError), clock)

    def slowly():
        clock.advance(7.0)
        raise RefusedError

    await pipeline(breaker).outcome(Script(slowly))
    assert (HALF_OPEN, 1) == (breaker.state, free_seats(breaker))


# ----------------------------------------------------------------------------------------- law 12


async def test_a_probe_that_hangs_past_its_lease_has_failed_from_that_instant(backend, clock):
    """
    Law 12, HO-009, H2, B16: the next caller finds the circuit open, since the lease ended and not since now.
    """
    breaker, callee = due(a_breaker(clock, probe_lease=30.0, break_duration=20.0), clock), Held()
    guarded = pipeline(breaker)
    async with anyio.create_task_group() as group:
        group.start_soon(Caught(), guarded, callee)
        await callee.entered.wait()
        began = clock.now()
        clock.advance(29.999)
        with pytest.raises(CircuitOpenError) as caught:
            await guarded(Script(1))
        assert ("HALF_OPEN", None) == (caught.value.state, caught.value.retry_after)
        clock.set(began + 37.0)
        # No timer: until somebody asks, nothing has moved.
        assert (HALF_OPEN, 3) == (breaker.state, breaker.generation)
        with pytest.raises(CircuitOpenError) as caught:
            await guarded(Script(1))
        assert ("OPEN", 13.0) == (caught.value.state, caught.value.retry_after)
        assert (OPEN, began + 30.0, 2) == (
            breaker.state,
            breaker.snapshot().since,
            breaker.snapshot().openings,
        )
        callee.go.set()


@pytest.mark.parametrize("ending", ["fine", OSError("late"), RefusedError("late")])
@pytest.mark.parametrize("asked", [False, True])
async def test_the_late_answer_of_a_probe_that_lost_its_place_is_ignored(
    *, backend, clock, ending, asked
):
    """
    Law 12, B16: whatever it is, and whether or not somebody asked before it came.
    """
    breaker = due(
        a_breaker(clock, probe_lease=30.0, break_duration=20.0, ignore=RefusedError), clock
    )
    callee = Held(ending)
    guarded = pipeline(breaker)
    async with anyio.create_task_group() as group:
        group.start_soon(Caught(), guarded, callee)
        await callee.entered.wait()
        clock.advance(37.0)
        if asked:
            await guarded.outcome(Script(1))
        callee.go.set()
    assert (OPEN, 13.0, 2) == (breaker.state, breaker.retry_after, breaker.snapshot().openings)


async def test_the_caller_that_comes_after_lease_and_break_takes_the_place(backend, clock):
    """
    Law 12, B15: a probe that hangs for ever holds nobody up for longer than lease and break.
    """
    breaker = due(a_breaker(clock, probe_lease=30.0), clock)
    for _ in range(3):
        assert stranger(breaker) is not None
        clock.advance(40.0)
        assert HALF_OPEN is breaker.state
    assert "fine" == await pipeline(breaker)(Script("fine"))
    assert (CLOSED, 4) == (breaker.state, breaker.snapshot().openings)


async def test_a_success_after_anothers_lease_does_not_close(backend, clock):
    """
    Laws 11 and 12: one probe has failed since; the answer comes from a round that is over.
    """
    breaker = due(a_breaker(clock, probes=2, successes_to_close=1, probe_lease=30.0), clock)
    stranger(breaker)
    clock.advance(10.0)
    later = stranger(breaker)
    clock.advance(21.0)
    settle(breaker, later, Verdict.SUCCESS)
    assert (OPEN, 9.0) == (breaker.state, breaker.retry_after)


@pytest.mark.parametrize("shape", ["plain", "in a retry", "in a named pipeline"])
def test_a_lease_below_the_attempt_timeout_is_refused_at_build(shape):
    """
    Law 12: a probe that is still in time would count as failed; equal lengths are allowed.
    """

    def build(breaker, timeout):
        inner = Pipeline(timeout, name="attempt") if shape == "in a named pipeline" else timeout
        return pipeline(*([Retry(3, on=OSError)] if shape == "in a retry" else []), breaker, inner)

    breaker = a_breaker(probe_lease=5.0)
    with pytest.raises(ConfigurationError, match=rf"probe_lease=5 of '{breaker.name}'"):
        build(breaker, Timeout(5.001))
    assert breaker in build(breaker, Timeout(5.0)).policies


# ----------------------------------------------------------------------------------------- law 13


@pytest.mark.parametrize("ending", ["fine", OSError("down"), RefusedError("no")])
async def test_a_probe_that_calls_itself_rides_on_its_own_permit(backend, clock, ending):
    """
    Law 13, H26: recursion through the same guard is one call to the breaker; strangers are still turned away.
    """
    breaker = due(a_breaker(clock, ignore=RefusedError), clock)
    before, depth, refusals = totals(breaker), [], []

    async def countdown(n):
        depth.append(n)
        if n:
            return await guarded(countdown, n - 1)
        refusals.append(stranger(breaker))
        if isinstance(ending, Exception):
            raise ending
        return ending

    guarded = pipeline(breaker)
    outcome = await guarded.outcome(countdown, 3)
    assert ([3, 2, 1, 0], [None]) == (depth, refusals)
    if isinstance(ending, Exception):
        assert ending is outcome.error
    else:
        assert ending == outcome.value
    counted = {"fine": "successes"}.get(str(ending)) or (
        "ignored" if isinstance(ending, RefusedError) else "failures"
    )
    expected = {counted: 1, "rejected": 1} | ({"openings": 1} if counted == "failures" else {})
    assert expected == gained(breaker, before)


async def test_a_wrapped_helper_rides_too_and_its_failure_is_the_callers_affair(backend, clock):
    """
    Law 13: counts once, by the outcome of the outer call, which may have dealt with the error.
    """
    breaker = due(a_breaker(clock), clock)

    @breaker.wrap
    async def helper():
        raise OSError("dealt with")

    @pipeline(breaker).wrap
    async def outer():
        with pytest.raises(OSError, match="dealt with"):
            await helper()
        with breaker.admit():
            return "fine"

    before = totals(breaker)
    assert "fine" == await outer()
    assert (CLOSED, {"successes": 1}) == (breaker.state, gained(breaker, before))


async def test_a_task_that_a_probe_starts_is_another_caller(backend, clock):
    """
    Law 13: a *task* that holds a probe; its children ask for themselves.
    """
    breaker = due(a_breaker(clock), clock)
    guarded = pipeline(breaker)
    child = Caught()

    async def parent():
        async with anyio.create_task_group() as group:
            group.start_soon(child, guarded, Script(1))
        return "fine"

    assert "fine" == await guarded(parent)
    assert isinstance(child.error, CircuitOpenError)
    assert CLOSED is breaker.state


async def test_a_ride_ends_with_the_permit_it_rode_on(backend, clock):
    """
    Law 13: the same task asks again after its probe has ended, and then it takes a place as anybody does.
    """
    breaker = due(a_breaker(clock, successes_to_close=3), clock)
    guarded = pipeline(breaker)
    await guarded(Script(1))
    permit = breaker.admit()
    assert stranger(breaker) is None
    seen = visible(breaker)
    breaker.admit().failure()
    assert seen == visible(breaker)
    permit.success()
    assert (HALF_OPEN, 1) == (breaker.state, free_seats(breaker))


@pytest.mark.parametrize(
    "shape",
    [
        lambda one, guard: (one, one),
        lambda one, guard: (one, Timeout(5), one),
        lambda one, guard: (one, guard(one)),
        lambda one, guard: (one, guard(one, name="named")),
        lambda one, guard: (guard(one, name="a"), Retry(3, on=OSError), guard(one, name="b")),
    ],
    ids=["twice", "apart", "nested", "in a named pipeline", "in two named pipelines"],
)
def test_the_same_breaker_twice_in_one_pipeline_is_refused(shape):
    """
    Law 13: it would count every call twice; the error names the breaker.
    """
    breaker = a_breaker()
    with pytest.raises(ConfigurationError, match=f"CircuitBreaker.*{breaker.name}.*twice"):
        pipeline(*shape(breaker, pipeline))
