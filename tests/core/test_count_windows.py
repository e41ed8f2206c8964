"""
Count windows against a naive one: a list of everything, of which the end is counted again each time.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resilience.core.windows import Counts, CountWindow
from tests.laws.breaker.kit import examples


class Numbers:
    """The tally of a generation, as a window sees it."""

    def __init__(self) -> None:
        self.successes = 0
        self.others = 0


class Naive:
    """Every call ever recorded: None for a plain success, else (hit, taken back)."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.calls: list[list[bool]] = []

    def counts(self) -> Counts:
        inside = [call for call in self.calls[-self.size :] if not call[1]]
        return Counts(len(inside), sum(hit for hit, _ in inside))


STEPS = st.lists(
    st.one_of(
        st.sampled_from(["success", "slow success", "hit", "miss", "read"]),
        st.tuples(st.just("retract"), st.integers(0, 30)),
    ),
    max_size=80,
)


@examples(300)
@given(st.integers(1, 12), STEPS)
@example(3, ["hit", "hit", "success", ("retract", 1), ("retract", 0), "success", "read"])
@example(2, ["hit", "success", "success", ("retract", 0), "read"])
def test_the_last_calls_are_counted_exactly_with_records_taken_back_in_any_order(size, steps):
    """
    Law 19, B13, WIN-015: a count window equals a recount of the last calls.

    A record that is taken back leaves its place empty, in whatever order and however late that happens.
    """
    tally, naive = Numbers(), Naive(size)
    span = CountWindow(size).start(0.0)
    provisional: list[tuple[int, bool, Any]] = []
    for step in steps:
        match step:
            case "success":
                tally.successes += 1
                naive.calls.append([False, False])
            case "slow success":
                tally.successes += 1
                span.record(tally, 0.0, hit=True, success=True)
                naive.calls.append([True, False])
            case "hit" | "miss":
                tally.others += 1
                place = span.record(tally, 0.0, hit=step == "hit", success=False)
                provisional.append((len(naive.calls), step == "hit", place))
                naive.calls.append([step == "hit", False])
            case ("retract", which):
                if provisional:
                    number, hit, place = provisional.pop(which % len(provisional))
                    span.retract(place, hit=hit)
                    naive.calls[number][1] = True
            case "read":
                assert naive.counts() == span.read(tally, 0.0)
    assert naive.counts() == span.read(tally, 0.0)


@pytest.mark.parametrize("size", [1, 10, 1000, 1_000_000_000])
def test_a_call_costs_the_same_at_any_size(size, lines_of_windows):
    """
    Law 19: O(1) per call at any size, and no memory for successes.
    """
    tally = Numbers()
    span = CountWindow(size).start(0.0)

    def call(number: int) -> None:
        if number % 3:
            tally.successes += 1
        else:
            tally.others += 1
            place = span.record(tally, 0.0, hit=True, success=False)
            span.read(tally, 0.0)
            if not number % 2:
                span.retract(place, hit=True)

    assert lines_of_windows(lambda: [call(number) for number in range(3000)]) <= 25 * 3000


def test_a_window_that_is_full_exactly_still_holds_its_first_call():
    """
    WIN-007: it wraps exactly at its capacity, and a part-filled window tells the real denominator.
    """
    tally = Numbers()
    span = CountWindow(3).start(0.0)
    seen = []
    for hit in (True, False, False, False, True):
        if hit:
            tally.others += 1
            span.record(tally, 0.0, hit=True, success=False)
        else:
            tally.successes += 1
        seen.append(span.read(tally, 0.0))
    assert [Counts(1, 1), Counts(2, 1), Counts(3, 1), Counts(3, 0), Counts(3, 1)] == seen


def test_time_means_nothing_to_it():
    """
    Law 19: no instant rolls a count window; its edge is never reached.
    """
    tally = Numbers()
    span = CountWindow(2).start(1000.0)
    tally.others += 1
    span.record(tally, -1e9, hit=True, success=False)
    span.roll(tally, 1e18)
    assert (float("inf"), Counts(1, 1)) == (span.edge, span.read(tally, 1e18))
