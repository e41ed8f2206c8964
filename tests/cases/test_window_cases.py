"""
What other toolkits' suites expect of the arithmetic of windows: the cases WIN-*, seen through a breaker.

A trip that never comes true lets a breaker count without opening. Windows by themselves are in ``tests/core``.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience import (
    CircuitBreaker,
    CircuitState,
    CountWindow,
    FailureRate,
    SlowRate,
    TimeWindow,
)
from resilience.testing import ManualClock
from tests.laws.breaker.kit import a_breaker, examples

NEVER = 10**9


def counting(clock: ManualClock, window: TimeWindow | CountWindow) -> CircuitBreaker:
    """A breaker that counts in *window* and opens at no share of failures that this module makes."""
    minimum = window.calls if isinstance(window, CountWindow) else NEVER
    return a_breaker(clock, trip=FailureRate(1.0, window, minimum))


def play(breaker: CircuitBreaker, outcomes: str) -> CircuitBreaker:
    """Calls that end at once: S well, F badly, i in nothing."""
    for outcome in outcomes:
        permit = breaker.admit()
        {"S": permit.success, "F": permit.failure, "i": permit.ignore}[outcome]()
    return breaker


def held(breaker: CircuitBreaker) -> tuple[int, int]:
    """Calls and failures in the window."""
    seen = breaker.snapshot()
    return seen.calls, seen.failures


def test_a_time_window_holds_the_last_seconds(clock):
    """
    WIN-001: throughput, share and failures, read after every 2 s of a 10 s window.
    """
    breaker, read = counting(clock, TimeWindow(10, buckets=10)), []
    for outcomes in ("FS", "FS", "SS", "SS", "SS", ""):
        play(breaker, outcomes)
        clock.advance(2.0)
        seen = breaker.snapshot()
        read.append((seen.calls, seen.failure_rate, seen.failures))
    assert [(2, 0.5, 1), (4, 0.5, 2), (6, 2 / 6, 2), (8, 0.25, 2), (8, 0.125, 1), (6, 0, 0)] == read


def test_the_oldest_bucket_leaves_at_exactly_the_length_of_the_window(clock):
    """
    WIN-002: of one call in each of 10 buckets, 9 are left, then 8, and so on to none.
    """
    breaker = counting(clock, TimeWindow(10, buckets=10))
    for _ in range(10):
        play(breaker, "F")
        clock.advance(1.0)
    left = []
    for _ in range(10):
        left.append(held(breaker))
        clock.advance(1.0)
    assert [(count, count) for count in range(9, -1, -1)] == left


@pytest.mark.parametrize("after", [10.0, 10.001])
@pytest.mark.parametrize("buckets", [1, 3, 10])
def test_a_window_is_empty_when_its_length_has_passed(clock, buckets, after):
    """
    WIN-003: at exactly its length and a millisecond later.
    """
    breaker = play(counting(clock, TimeWindow(10, buckets)), "SSFF")
    assert (4, 2) == held(breaker)
    clock.advance(after)
    assert (0, 0) == held(breaker)


def test_a_time_window_of_slices_counts_as_resilience4j_does(clock):
    """
    WIN-005: totals of a window of 5 s in slices of 1 s, after each of nine calls and of one 5 s later.
    """
    breaker, totals, before = counting(clock, TimeWindow(5, buckets=5)), [], 0.0
    for at in (0.0, 0.1, 0.2, 1.2, 2.2, 3.2, 4.2, 5.2, 6.2, 11.2):
        clock.advance(at - before)
        before = at
        totals.append(held(play(breaker, "S"))[0])
    assert [1, 2, 3, 4, 5, 6, 7, 5, 5, 1] == totals


def test_a_count_window_holds_the_last_calls_only(clock):
    """
    WIN-006: of 7 outcomes the last 5 count; what is evicted takes its failure and its slowness along.
    """
    window = CountWindow(5)
    trip = FailureRate(1.0, window, 5) & SlowRate(1.0, 3.0, window, 5)
    breaker, seen = a_breaker(clock, trip=trip), []
    for outcome, seconds in zip("FSFSSSS", (3.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0), strict=True):
        permit = breaker.admit()
        clock.advance(seconds)
        permit.failure() if outcome == "F" else permit.success()
        snapshot = breaker.snapshot()
        seen.append((snapshot.calls, snapshot.failures, snapshot.slow))
    assert [
        (1, 1, 1), (2, 1, 2), (3, 2, 2), (4, 2, 2), (5, 2, 2), (5, 1, 1), (5, 1, 0),
    ] == seen  # fmt: skip


def test_a_count_window_wraps_at_its_size_and_divides_by_what_it_holds(clock):
    """
    WIN-007: denominators 1, 2, 3, 4, 4, 4, and the numerators of a sliding window of 4.
    """
    breaker = counting(clock, CountWindow(4))
    seen = [held(play(breaker, outcome)) for outcome in "FFSFSSSS"]
    assert [(1, 1), (2, 2), (3, 2), (4, 3), (4, 2), (4, 1), (4, 1), (4, 0)] == seen


class Watched(list):
    """A ring that counts how often a bucket began in it."""

    turns = 0

    def __setitem__(self, place, item) -> None:
        self.turns += place < 10
        super().__setitem__(place, item)


def test_an_idle_day_costs_one_sweep_of_the_buckets(clock):
    """
    WIN-009, law 19: 864,000 slots of 100 ms went by; the ring of 10 turns 10 times, and the window is right.
    """
    breaker = play(counting(clock, TimeWindow(1.0, buckets=10)), "FS")
    span = breaker._core.circuit.current.meter._span
    ring = span._ring = Watched(span._ring)
    clock.advance(86_400.0)
    play(breaker, "F")
    assert (1, 1) == held(breaker)
    assert 10 == ring.turns


def test_boundaries_are_aligned_to_the_start_and_do_not_drift(clock):
    """
    WIN-010, law 19: calls late in their slots, a hundred times over, and each still leaves at its slot's own end.
    """
    breaker = counting(clock, TimeWindow(1.0, buckets=2))
    clock.advance(-0.01)
    for slot in range(100):
        clock.advance(0.5)
        play(breaker, "F")
        before = min(slot, 1)
        assert (before + 1, before + 1) == held(breaker)
    clock.advance(0.02)  # into the next slot, and half a slot before one that drifted would end
    assert (1, 1) == held(breaker)


def test_buckets_rotate_while_every_outcome_is_ignored(clock):
    """
    WIN-011: ignored calls count nothing, and the failures from before age all the same.
    """
    breaker, seen = play(counting(clock, TimeWindow(4, buckets=4)), "FFS"), []
    for _ in range(5):
        seen.append(held(breaker))
        clock.advance(1.0)
        play(breaker, "iii")
    assert [(3, 2)] * 4 + [(0, 0)] == seen


@pytest.mark.parametrize("step", [0.0, -0.4, -86_400.0])
def test_a_clock_that_stands_or_steps_back_loses_and_raises_nothing(clock, step):
    """
    WIN-013, law 20: no negative age; what is recorded meanwhile is in the window, and leaves it in time.
    """
    breaker = counting(clock, TimeWindow(1.0, buckets=10))
    clock.advance(0.5)
    play(breaker, "F")
    clock.advance(step)
    play(breaker, "FS")
    assert (3, 2) == held(breaker)
    clock.advance(-step)
    assert (3, 2) == held(breaker)
    clock.advance(1.0)
    assert (0, 0) == held(breaker)


@pytest.mark.parametrize(("seconds", "buckets"), [(10, 3), (1, 7), (0.3, 10), (7, 11)])
def test_any_length_divides_into_any_number_of_buckets(clock, seconds, buckets):
    """
    WIN-014, decided otherwise: nothing is rounded up; buckets are a number, and a window is as long as it says.
    """
    breaker = play(counting(clock, TimeWindow(seconds, buckets)), "F")
    clock.advance(seconds * 0.999)
    assert (1, 1) == held(breaker)
    clock.advance(seconds * 0.001 + 1e-9)
    assert (0, 0) == held(breaker)


class Oracle:
    """All outcomes with their instants, counted again at every question; time only goes on, in whole quarters."""

    def __init__(self, window: TimeWindow | CountWindow) -> None:
        self.window = window
        self.outcomes: list[tuple[int, bool]] = []
        self.quarters = 0

    def inside(self) -> list[bool]:
        if isinstance(self.window, CountWindow):
            return [failed for _, failed in self.outcomes][-self.window.calls :]
        width = self.window.seconds / self.window.buckets * 4
        oldest = self.quarters // width - self.window.buckets + 1
        return [failed for at, failed in self.outcomes if at // width >= oldest]

    def counts(self) -> tuple[int, int]:
        found = self.inside()
        return len(found), sum(found)


WINDOWS = st.one_of(
    st.builds(CountWindow, st.integers(1, 9)),
    # Widths that are whole quarters of a second, so that the oracle's division is exact.
    st.builds(
        lambda width, buckets: TimeWindow(width / 4 * buckets, buckets),
        st.integers(1, 9),
        st.integers(1, 9),
    ),
)
PLANS = st.lists(
    st.one_of(st.sampled_from("SFi"), st.integers(0, 12), st.sampled_from([400, 345_600])),
    max_size=60,
)


@examples(300)
@given(window=WINDOWS, plan=PLANS)
def test_a_window_agrees_with_a_list_of_everything(window, plan):
    """
    WIN-015, law 19: calls and failures after every outcome and every pause, against an oracle that keeps all of it.
    """
    clock, oracle = ManualClock(0.0), Oracle(window)
    breaker = counting(clock, window)
    breaker.observe()
    for step in plan:
        if isinstance(step, int):
            clock.advance(step / 4)
            oracle.quarters += step
        else:
            play(breaker, step)
            if step != "i":
                oracle.outcomes.append((oracle.quarters, step == "F"))
        assert oracle.counts() == held(breaker)


@pytest.mark.parametrize("window", [TimeWindow(1.0), CountWindow(1)])
def test_a_window_without_calls_has_no_rate(clock, window):
    """
    WIN-017: throughput 0 and an unknown rate, before the first call and after an ignored one; no division by zero.
    """
    breaker = counting(clock, window)
    for _ in range(2):
        seen = breaker.snapshot()
        assert (0, 0, 0) == (seen.calls, seen.failures, seen.slow)
        assert seen.failure_rate is None
        assert seen.slow_rate is None
        play(breaker, "i")
    assert CircuitState.CLOSED is breaker.state
