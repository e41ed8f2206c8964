"""
Trips, alone and joined, against a recount of every call (`tests.core.naive`).
"""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resilience import ConsecutiveFailures, CountWindow, FailureRate, SlowRate, TimeWindow
from resilience.core.generations import Closed, Rules, Totals
from resilience.core.trips import Record
from tests.core import naive
from tests.laws.breaker.kit import examples

WINDOWS = st.one_of(
    st.builds(CountWindow, st.integers(1, 8)),
    st.builds(TimeWindow, st.sampled_from([1.0, 3.0, 10.0]), st.integers(1, 5)),
)
RATIOS = st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.9, 1.0])


@st.composite
def rates(draw, *, slow):
    window = draw(WINDOWS)
    most = window.calls if isinstance(window, CountWindow) else 8
    minimum = draw(st.integers(1, most))
    if slow:
        return SlowRate(draw(RATIOS), draw(st.sampled_from([1.0, 2.0])), window, minimum)
    return FailureRate(draw(RATIOS), window, minimum)


PLAIN = st.one_of(
    st.builds(ConsecutiveFailures, st.integers(1, 5)), rates(slow=False), rates(slow=True)
)
SPECS = st.recursive(
    PLAIN, lambda inner: st.tuples(st.sampled_from("|&"), inner, inner), max_leaves=4
)
CALLS = st.one_of(
    st.sampled_from(["success", "slow success", "failure", "slow failure"]),
    st.sampled_from(["overdue", "running slow"]),
    st.tuples(st.just("retract"), st.integers(0, 10)),
)
RECORDS = {
    "slow success": Record(failed=False, duration=2.0, success=True),
    "failure": Record(failed=True, duration=0.5),
    "slow failure": Record(failed=True, duration=1.5),
    "overdue": Record(failed=True, duration=2.0),
    "running slow": Record(failed=False, duration=1.0),
}


def closed(trip) -> Closed:
    rules = Rules(
        trip=trip,
        break_after=lambda _: 1.0,
        probes=1,
        successes_to_close=1,
        probe_lease=60.0,
        overdue_after=None,
    )
    return Closed(1, 0.0, rules, Totals(), enforcing=True, locked=False)


@examples(300)
@given(SPECS, st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 4.0]), CALLS), max_size=60))
@example(
    ConsecutiveFailures(2),
    [(0.0, "overdue"), (0.0, "success"), (0.0, "failure"), (0.0, ("retract", 0)), (0.0, "failure")],
)
@example(
    ("|", FailureRate(0.5, CountWindow(2), 2), SlowRate(1.0, 1.0, CountWindow(2), 2)),
    [(0.0, "running slow"), (0.0, "failure"), (0.0, ("retract", 0)), (0.0, "success")],
)
def test_a_trip_holds_exactly_when_a_recount_says_so(spec, steps):
    """
    Laws 16, 18 and 19, B12 and B13: every trip, joined in any way with | and &.

    Over successes, failures, slow calls, and overdue calls whose end comes later or never.
    """
    trip = naive.joined(spec)
    generation, history, now = closed(trip), naive.History(0.0), 0.0
    overdue: list[tuple[object, Record, naive.Entry]] = []
    for pause, call in steps:
        now += pause
        match call:
            case "success":
                if now >= generation.edge:
                    generation.roll(now)
                generation.successes += 1
                history.add(now, failed=False, success=True)
            case ("retract", which):
                if overdue:
                    place, record, entry = overdue.pop(which % len(overdue))
                    generation.meter.retract(place, record)
                    entry.gone = True
            case str():
                record = RECORDS[call]
                place = generation.note(now, record)
                entry = history.add(
                    now, failed=record.failed, duration=record.duration, success=record.success
                )
                if call in {"overdue", "running slow"}:
                    overdue.append((place, record, entry))
        assert naive.holds(spec, history, now) == generation.tripped(now)
        assert naive.shown(spec, history, now) == generation.meter.read(generation, now)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_consecutive_failures_trip_at_the_nth_and_any_success_starts_anew(n):
    """
    Law 16: at n, not after n; a slow success is a success.
    """
    for between in ("success", "slow success"):
        generation = closed(ConsecutiveFailures(n))
        for _ in range(n - 1):
            generation.note(0.0, RECORDS["failure"])
        assert not generation.tripped(0.0)
        if between == "success":
            generation.successes += 1
        else:
            generation.note(0.0, RECORDS[between])
        for number in range(1, n + 1):
            generation.note(0.0, RECORDS["failure"])
            assert (number >= n) == generation.tripped(0.0)


def test_an_overdue_call_of_an_earlier_streak_takes_nothing_from_the_streak_of_now():
    """
    Law 18: the end of an overdue call corrects its own record, not the failures that came after a success.
    """
    generation = closed(ConsecutiveFailures(2))
    place = generation.note(0.0, RECORDS["overdue"])
    generation.successes += 1
    generation.note(0.0, RECORDS["failure"])
    generation.meter.retract(place, RECORDS["overdue"])
    generation.note(0.0, RECORDS["failure"])
    assert generation.tripped(0.0)


@pytest.mark.parametrize(
    ("ratio", "of", "hits"),
    [(0.07, 100, 7), (0.14, 50, 7), (0.55, 100, 55), (0.29, 100, 29), (0.3, 10, 3), (1 / 3, 3, 1)],
)
def test_a_ratio_that_is_met_exactly_trips_whatever_floats_make_of_it(ratio, of, hits):
    """
    Law 16, CB-005: ``>=`` holds for 7 of 100 at 0.07, though ``0.07 * 100`` is more than 7.
    """
    generation = closed(FailureRate(ratio, CountWindow(of), of))
    generation.successes = of - hits
    for number in range(1, hits + 1):
        generation.note(0.0, RECORDS["failure"])
        assert (number == hits) == generation.tripped(0.0)


@pytest.mark.parametrize(("calls", "trips"), [(3, False), (4, True)])
def test_a_ratio_means_nothing_below_its_minimum_of_calls(calls, trips):
    """
    H29, B12: all calls failed, and yet it trips only from ``minimum_calls`` on.
    """
    for trip in (FailureRate(0.5, CountWindow(10), 4), SlowRate(0.5, 1.0, TimeWindow(10), 4)):
        generation = closed(trip)
        for _ in range(calls):
            generation.note(0.0, RECORDS["slow failure"])
        assert trips == generation.tripped(0.0)


def test_a_call_is_slow_from_its_threshold_on():
    """
    Law 16: ``slower_than`` compares with ``>=``, as every number does.
    """
    generation = closed(SlowRate(1.0, 2.0, CountWindow(1), 1))
    for duration, slow in ((1.999, False), (2.0, True)):
        generation.note(0.0, Record(failed=False, duration=duration, success=True))
        assert slow == generation.tripped(0.0)


def test_joined_trips_are_values():
    """
    Equal when they are written alike, hashable, and spelled as one would type them.
    """
    one, other = ConsecutiveFailures(3), FailureRate(0.5, CountWindow(20), 5)
    slow = SlowRate(0.5, 2, TimeWindow(60))
    assert (one | other) == (one | other)
    assert (one | other) != (one & other)
    assert (one | other) != (other | one)
    assert (one | other) != one
    assert 1 == len({one | other, ConsecutiveFailures(3) | other})
    assert f"(({one!r} | {other!r}) & {slow!r})" == repr((one | other) & slow)


def test_only_trips_join():
    """
    Bad input at the operators is a TypeError, as between any two classes that do not know each other.
    """
    with pytest.raises(TypeError, match="unsupported operand"):
        ConsecutiveFailures(3) | 3
    with pytest.raises(TypeError, match="unsupported operand"):
        ConsecutiveFailures(3) & None


def test_a_joined_trip_knows_what_its_parts_need():
    """
    A success must be told the time where any part has a time window; a call is watched at every part's threshold.
    """
    streak, counted = ConsecutiveFailures(3), FailureRate(0.5, CountWindow(10))
    timed = FailureRate(0.5, TimeWindow(10))
    slow = SlowRate(0.5, 2.0, CountWindow(10))
    slower = SlowRate(0.5, 5.0, TimeWindow(10))
    assert (False, False, True, False, True) == tuple(
        trip.timed for trip in (streak, counted, timed, slow, slower)
    )
    assert not (streak | counted | slow).timed
    assert (streak | (counted & timed)).timed
    assert frozenset() == (streak | timed).slow_thresholds
    assert frozenset({2.0, 5.0}) == ((streak | slow) & (slower | counted)).slow_thresholds
