"""
Law 21: a setting is checked once, at construction; what a user's function returns later is mended, with one warning.

That every field of every option has its rule is held elsewhere, from the options' own definitions.
"""

from __future__ import annotations

import math
import warnings
from datetime import timedelta

import anyio
import pytest
import tenacity

from resilience import (
    CircuitBreaker,
    CircuitState,
    ConfigurationError,
    ConsecutiveFailures,
    CountWindow,
    FailureRate,
    ResilienceWarning,
    SlowRate,
    TimeWindow,
)
from resilience.policies.circuit_breaker import live_breakers
from resilience.testing import Script
from tests.laws.breaker.kit import a_breaker, due, free_seats, open_up, pipeline

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN

DURATIONS = [
    math.nan,
    math.inf,
    -math.inf,
    -1.0,
    0.0,
    -0.0,
    True,
    "30",
    timedelta(0),
    timedelta(-1),
    10**400,
]
COUNTS = [0, -1, True, 1.5, 1.0, math.nan, math.inf, "3"]
RATIOS = [0.0, -0.1, 1.001, math.nan, math.inf, True, "0.5", 50, None]


@pytest.mark.parametrize(
    ("make", "field", "bad"),
    [
        *[
            (lambda bad, name=name: a_breaker(**{name: bad}), f"CircuitBreaker.{name}", bad)
            for name in ("break_duration", "probe_lease", "overdue_after")
            for bad in DURATIONS
        ],
        *[
            (lambda bad, name=name: a_breaker(**{name: bad}), f"CircuitBreaker.{name}", bad)
            for name in ("probes", "successes_to_close")
            for bad in COUNTS
        ],
        *[(ConsecutiveFailures, "ConsecutiveFailures.n", bad) for bad in [*COUNTS, None]],
        *[(CountWindow, "CountWindow.calls", bad) for bad in [*COUNTS, None]],
        *[(TimeWindow, "TimeWindow.seconds", bad) for bad in [*DURATIONS, None]],
        *[(lambda bad: TimeWindow(5, bad), "TimeWindow.buckets", bad) for bad in [*COUNTS, None]],
        *[(FailureRate, "FailureRate.ratio", bad) for bad in RATIOS],
        *[(lambda bad: SlowRate(bad, 1.0), "SlowRate.ratio", bad) for bad in RATIOS],
        *[
            (lambda bad: SlowRate(0.5, bad), "SlowRate.slower_than", bad)
            for bad in [*DURATIONS, None]
        ],
        *[
            (lambda bad: FailureRate(0.5, TimeWindow(5), bad), "FailureRate.minimum_calls", bad)
            for bad in COUNTS
        ],
        *[
            (lambda bad: SlowRate(0.5, 1.0, TimeWindow(5), bad), "SlowRate.minimum_calls", bad)
            for bad in COUNTS
        ],
        (lambda bad: FailureRate(0.5, CountWindow(5), bad), "FailureRate.minimum_calls", 6),
        (lambda bad: SlowRate(0.5, 1.0, CountWindow(5), bad), "SlowRate.minimum_calls", 6),
    ],
)
def test_a_number_that_cannot_be_meant_is_refused_where_it_is_written(make, field, bad):
    """
    Law 21, CB-021, H22, H29: not a number, infinite, negative, zero, boolean, text; field, got and allowed are named.
    """
    with pytest.raises(ConfigurationError) as caught:
        make(bad)
    error = caught.value
    assert field == error.field
    assert error.got
    assert error.allowed
    assert f"{field} must be {error.allowed}, got {error.got}" == str(error)


@pytest.mark.parametrize("seconds", [7, 7.0, timedelta(seconds=7)])
async def test_a_duration_is_seconds_however_it_is_written(backend, clock, seconds):
    """
    Law 21: whole numbers and timedeltas are welcome at the door, for every duration there is.
    """
    trip = SlowRate(0.9, seconds, TimeWindow(seconds), 1) | ConsecutiveFailures(1)
    breaker = a_breaker(
        clock, trip=trip, break_duration=seconds, probe_lease=seconds, overdue_after=seconds
    )
    await pipeline(breaker).outcome(Script(OSError))
    assert (OPEN, 7.0, 7.0, 7.0) == (
        breaker.state,
        breaker.retry_after,
        breaker.probe_lease,
        breaker.overdue_after,
    )
    assert TimeWindow(7.0) == TimeWindow(seconds)


def test_nothing_is_left_of_a_breaker_that_was_refused(clock):
    """
    Law 21: checked before anything is made; the name is free for the next.
    """
    with pytest.raises(ConfigurationError):
        CircuitBreaker("refused once", on=OSError, probes=0)
    assert CLOSED is CircuitBreaker("refused once", on=OSError).state


@pytest.mark.parametrize(
    "drawn",
    [math.nan, math.inf, -math.inf, -1.0, -1, None, "30", True, 10**400, timedelta(-1), object()],
)
async def test_a_break_that_cannot_be_meant_becomes_the_default_with_one_warning(
    backend, clock, drawn
):
    """
    Law 21, H22: opened all the same, for 30 s; warned of once, however often it is drawn.
    """
    breaker = a_breaker(clock, break_duration=lambda _: drawn)
    guarded = pipeline(breaker)
    with pytest.warns(ResilienceWarning, match="break_duration returned") as caught:
        await guarded.outcome(Script(OSError))
    assert (1, OPEN, 30.0) == (len(caught), breaker.state, breaker.retry_after)
    clock.advance(30.0)
    with warnings.catch_warnings(record=True) as again:
        warnings.simplefilter("always")
        await guarded.outcome(Script(OSError))
    assert ([], OPEN, 30.0) == (again, breaker.state, breaker.retry_after)


async def test_a_filter_that_makes_an_error_of_the_warning_breaks_no_transition(backend, clock):
    """
    Laws 6 and 21: warnings are errors in these tests; the caller still gets its own error, and the circuit is open.
    """
    breaker, error = a_breaker(clock, break_duration=lambda _: math.nan), OSError("down")
    outcome = await pipeline(breaker).outcome(Script(error))
    assert error is outcome.error
    assert (OPEN, 30.0) == (breaker.state, breaker.retry_after)


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [(0.0, 0.0), (0, 0.0), (2, 2.0), (timedelta(seconds=3), 3.0), (1e308, 1e308)],
)
async def test_a_break_that_can_be_meant_is_taken_as_it_is(backend, clock, drawn, expected):
    """
    Law 21, HO-019: no time at all, whole seconds, a timedelta, and more seconds than any clock will see.
    """
    breaker = a_breaker(clock, break_duration=lambda _: drawn)
    await pipeline(breaker).outcome(Script(OSError))
    assert (OPEN, expected) == (breaker.state, breaker.retry_after)


async def test_a_break_is_drawn_once_per_opening_by_the_number_of_the_consecutive_opening(
    backend, clock
):
    """
    HO-017, HO-018, and api.md: 1, 2, 3 while it reopens, and from 1 again after it has closed.
    """
    drawn = []

    def breaks(opening):
        drawn.append(opening)
        return 10.0 * opening

    breaker = a_breaker(clock, break_duration=breaks)
    guarded = pipeline(breaker)
    for step in (OSError, OSError, OSError, 1, OSError):
        await guarded.outcome(Script(step))
        if breaker.state is OPEN:
            expected = 10.0 * drawn[-1]
            for _ in range(3):
                assert expected == breaker.retry_after
                await guarded.outcome(Script(step))
            clock.advance(expected - 0.001)
            await guarded.outcome(Script(1))
            assert OPEN is breaker.state
            clock.advance(0.001)
    assert [1, 2, 3, 1] == drawn


async def test_tenacitys_waits_are_breaks(backend, clock):
    """
    HO-017, and api.md: a ``wait_*`` object sees the number of the consecutive opening as its attempt.
    """
    waits = tenacity.wait_exponential(multiplier=2, max=10) + tenacity.wait_fixed(1)
    breaker = a_breaker(clock, break_duration=waits)
    guarded, seen = pipeline(breaker), []
    for _ in range(5):
        await guarded.outcome(Script(OSError))
        seen.append(breaker.retry_after)
        clock.advance(seen[-1])
    assert [3.0, 5.0, 9.0, 11.0, 11.0] == seen


def test_a_break_that_asks_its_own_breaker_gets_the_state_of_before(clock):
    """
    Law 21: the function runs while the circuit moves, and finds it where it was; nothing loops, nothing is lost.
    """
    asked = []

    def breaks(_):
        asked.append(breaker.state)
        breaker.admit().ignore()
        return 5.0

    breaker = a_breaker(clock, break_duration=breaks)
    open_up(breaker)
    assert ([CLOSED], OPEN, 5.0, 1) == (
        asked,
        breaker.state,
        breaker.retry_after,
        breaker.snapshot().openings,
    )


async def test_a_break_of_no_time_admits_the_next_caller_as_a_probe(backend, clock):
    """
    Law 21: 0 is a number of seconds; the circuit is half-open at once, and one caller at a time tries.
    """
    breaker = due(a_breaker(clock, break_duration=lambda _: 0.0, successes_to_close=2), clock)
    guarded = pipeline(breaker)
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(guarded.outcome, Script(1))
    assert CLOSED is breaker.state or 1 == free_seats(breaker)
    await guarded.outcome(Script(1))
    assert CLOSED is breaker.state


def test_breakers_of_equal_options_share_what_does_not_change():
    """
    Memory of a breaker for each host: numbers and judgement are one object, state and changes are each one's own.
    """
    one, other = (a_breaker(trip=FailureRate(), break_duration=5) for _ in range(2))
    assert one._core.circuit.rules is other._core.circuit.rules
    assert one._core.judge is other._core.judge
    third = a_breaker(trip=FailureRate(), break_duration=6)
    assert third._core.circuit.rules is not one._core.circuit.rules
    one._change({"overdue_after": 3.0})
    assert (3.0, None) == tuple(each._core.circuit.rules.overdue_after for each in (one, other))


def test_a_trip_without_a_hash_is_one_as_well():
    """
    What cannot be looked up is made for each breaker.
    """

    class Own(ConsecutiveFailures):
        __hash__ = None

    breakers = [a_breaker(trip=Own(2)) for _ in range(2)]
    assert 2 == len({id(each._core.circuit.rules) for each in breakers})


@pytest.mark.filterwarnings("ignore:two live circuit breakers")
def test_all_of_one_name_are_found_as_long_as_they_live():
    """
    Whatever is made and dropped meanwhile, each live breaker is listed once.
    """
    made = [a_breaker() for _ in range(1)]
    made += [CircuitBreaker(made[0].name, on=OSError) for _ in range(2)]

    def found() -> int:
        return sum(each.name == name for each in live_breakers())

    name = made[0].name
    assert 3 == found()
    for left in (2, 1):
        made.pop(left // 2)
        assert left == found()
