"""
Time windows against naive ones: every call with its instant, counted again each time.

Two oracles, so that neither inherits the other's mistake: one knows that a window is made of aligned buckets, the other
knows only how long a call must and may be seen.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resilience.core.windows import Counts, TimeWindow
from tests.laws.breaker.kit import examples

DAY = 86_400.0


class Numbers:
    """The tally of a generation, as a window sees it."""

    def __init__(self) -> None:
        self.successes = 0
        self.others = 0


class Naive:
    """
    Calls as [bucket, hit, taken back]; the window is the bucket of the latest instant seen and those before it.

    The k-th bucket begins at ``begin + k * width``, found by bisection and not by division.
    """

    def __init__(self, seconds: float, buckets: int, begin: float) -> None:
        self.width = seconds / buckets
        self.buckets = buckets
        self.begin = begin
        self.latest = 0
        self.calls: list[list[Any]] = []

    def see(self, now: float) -> None:
        low, high = 0, 1
        while self.begin + high * self.width <= now:
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            if self.begin + middle * self.width <= now:
                low = middle
            else:
                high = middle
        self.latest = max(self.latest, low)

    def add(self, now: float, *, hit: bool) -> int:
        self.see(now)
        self.calls.append([self.latest, hit, False])
        return len(self.calls) - 1

    def counts(self, now: float) -> Counts:
        self.see(now)
        oldest = self.latest - self.buckets + 1
        inside = [call for call in self.calls if call[0] >= oldest and not call[2]]
        return Counts(len(inside), sum(call[1] for call in inside))


def succeed(span: Any, tally: Numbers, now: float) -> None:
    """A plain success, as the fast path of a breaker counts it."""
    if now >= span.edge:
        span.roll(tally, now)
    tally.successes += 1


PAUSES = st.one_of(
    st.just(0.0),
    st.floats(0.0, 0.5),
    st.floats(0.0, 20.0),
    st.sampled_from([0.1, 0.25, 1.0, 3.0, 30.0]),
    st.floats(DAY, 40 * DAY),
    st.floats(-50.0, 0.0),
)
KINDS = st.one_of(
    st.sampled_from(["success", "slow success", "hit", "miss", "read"]),
    st.tuples(st.just("retract"), st.integers(0, 30)),
)
STEPS = st.lists(st.tuples(PAUSES, KINDS), max_size=60)


@examples(300)
@given(
    st.floats(0.05, 60.0),
    st.integers(1, 12),
    st.sampled_from([0.0, 1000.0, 123_456.789, 1e9]),
    STEPS,
)
@example(10.0, 10, 1000.0, [(0.0, "hit"), (2 * DAY, ("retract", 0)), (0.0, "success")])
def test_a_window_equals_a_recount_at_any_times(seconds, buckets, begin, steps):
    """
    Law 19, B13, B19, WIN-009, WIN-010, WIN-013, WIN-015: a time window equals a recount.

    At random instants, after idle days, with a clock that runs backwards, with records taken back long after they left.
    """
    tally, naive = Numbers(), Naive(seconds, buckets, begin)
    span = TimeWindow(seconds, buckets).start(begin)
    provisional: list[tuple[int, bool, Any]] = []
    now = begin
    for pause, step in steps:
        now += pause
        match step:
            case "success":
                succeed(span, tally, now)
                naive.add(now, hit=False)
            case "slow success":
                span.roll(tally, now)
                tally.successes += 1
                span.record(tally, now, hit=True, success=True)
                naive.add(now, hit=True)
            case "hit" | "miss":
                tally.others += 1
                place = span.record(tally, now, hit=step == "hit", success=False)
                provisional.append((naive.add(now, hit=step == "hit"), step == "hit", place))
            case ("retract", which) if provisional:
                number, hit, place = provisional.pop(which % len(provisional))
                span.retract(place, hit=hit)
                naive.calls[number][2] = True
            case _:
                pass
        assert naive.counts(now) == span.read(tally, now)


@examples(200)
@given(
    st.floats(0.5, 60.0),
    st.integers(1, 20),
    st.lists(st.tuples(st.floats(0.0, 25.0), st.booleans()), min_size=1, max_size=50),
)
def test_a_call_is_seen_for_the_window_less_one_bucket_and_never_longer_than_the_window(
    seconds, buckets, steps
):
    """
    Law 19, WIN-010: no drift, however long it runs.

    A call leaves the window between ``seconds - seconds/buckets`` and ``seconds`` after it was recorded.
    """
    tally, now, calls = Numbers(), 1000.0, []
    span = TimeWindow(seconds, buckets).start(now)
    grain = 1e-6
    for pause, hit in steps:
        now += pause
        if hit:
            tally.others += 1
            span.record(tally, now, hit=True, success=False)
        else:
            succeed(span, tally, now)
        calls.append((now, hit))
        seen = span.read(tally, now)
        surely = [one for at, one in calls if now - at < seconds - seconds / buckets - grain]
        perhaps = [one for at, one in calls if now - at < seconds + grain]
        assert len(surely) <= seen.calls <= len(perhaps)
        assert sum(surely) <= seen.hits <= sum(perhaps)


@pytest.mark.parametrize("seconds", [10.0, 0.3, 7.7])
@pytest.mark.parametrize("buckets", [1, 3, 10])
def test_bucket_edges_stay_where_they_were_after_a_million_buckets(seconds, buckets):
    """
    Law 19, WIN-010: boundaries are multiples of the bucket's width from the start; nothing is added up.
    """
    begin, width = 1000.0, seconds / buckets
    tally = Numbers()
    span = TimeWindow(seconds, buckets).start(begin)
    for number in (1, 2, 999_999, 1_000_000):
        edge = begin + number * width
        span.roll(tally, edge - width / 2)
        assert edge == span.edge
        span.roll(tally, edge)
        assert begin + (number + 1) * width == span.edge


@pytest.mark.parametrize("backwards", [0.0, -0.1, -5.0, -1e6])
def test_a_clock_that_stands_or_runs_backwards_neither_ages_nor_loses_a_call(backwards):
    """
    Laws 19 and 20, WIN-013: no negative age, no error; what is recorded then counts as recorded at the latest instant.
    """
    tally = Numbers()
    span = TimeWindow(10.0, 10).start(1000.0)
    succeed(span, tally, 1005.0)
    tally.others += 1
    span.record(tally, 1005.0 + backwards, hit=True, success=False)
    assert Counts(2, 1) == span.read(tally, 1005.0 + backwards)
    assert Counts(2, 1) == span.read(tally, 1014.9)
    assert Counts(0, 0) == span.read(tally, 1015.0)


@pytest.mark.parametrize("idle", [3600.0, DAY, 365 * DAY])
def test_after_any_idle_time_one_sweep_of_the_buckets_is_all_the_work(idle, lines_of_windows):
    """
    Law 19, WIN-009: one O(buckets) sweep, however long nothing was called and however short a bucket is.
    """

    def work(pause: float) -> int:
        tally = Numbers()
        span = TimeWindow(10.0, 100).start(1000.0)
        tally.others += 1
        span.record(tally, 1000.0, hit=True, success=False)
        return lines_of_windows(lambda: span.read(tally, 1000.0 + pause))

    once_around = work(10.0)
    assert abs(work(idle) - once_around) <= 10
    assert once_around < 20 * 100


@pytest.mark.parametrize(("seconds", "buckets"), [(1.0, 1), (1.0, 1000), (3600.0, 10)])
def test_a_call_costs_the_same_at_any_length(seconds, buckets, lines_of_windows):
    """
    Law 19: O(1) per call, at any number of buckets, while time passes as it does in use.
    """
    tally = Numbers()
    span = TimeWindow(seconds, buckets).start(0.0)
    instants = [number * seconds / buckets / 4 for number in range(4 * 2 * buckets)][-2000:]
    span.read(tally, instants[0])

    def call(now: float) -> None:
        tally.others += 1
        span.record(tally, now, hit=True, success=False)
        span.read(tally, now)

    assert lines_of_windows(lambda: [call(now) for now in instants]) <= 40 * len(instants)


def test_buckets_empty_one_by_one():
    """
    WIN-002: one call per bucket; the oldest is gone at exactly the window's length, and then one more per bucket.
    """
    tally = Numbers()
    span = TimeWindow(10.0, 10).start(0.0)
    for second in range(10):
        succeed(span, tally, float(second))
    assert [9, 8, 7] == [span.read(tally, now).calls for now in (10.0, 11.0, 12.0)]


def test_start_gives_every_generation_a_window_of_its_own():
    """
    Law 14: the description is a value; what it starts begins empty, aligned to its own beginning.
    """
    description = TimeWindow(10.0, 10)
    tally = Numbers()
    one, other = description.start(0.0), description.start(0.5)
    tally.others += 1
    one.record(tally, 0.0, hit=True, success=False)
    assert (1.0, 1.5) == (one.edge, other.edge)
    assert (1, 0) == (one.read(tally, 0.0).hits, other.read(Numbers(), 0.5).hits)
    assert TimeWindow(10.0, 10) == description


@pytest.mark.parametrize(
    ("begin", "seconds", "buckets", "number", "now"),
    [
        (123.456, 0.7, 1, 1040, 851.4559999999999),
        (123.456, 3.3, 3, 1511, 1785.5559999999996),
        (123.456, 3.3, 10, 1033, 464.34599999999995),
    ],
)
def test_a_division_that_rounds_up_does_not_open_a_bucket_early(
    *, begin, seconds, buckets, number, now
):
    """
    Law 19, H34: a moment before an edge the quotient is that edge already; the edge itself decides.
    """
    width = seconds / buckets
    assert now < begin + number * width
    assert number == int((now - begin) / width)
    tally = Numbers()
    span = TimeWindow(seconds, buckets).start(begin)
    span.roll(tally, now)
    assert begin + number * width == span.edge
    span.roll(tally, span.edge)
    assert begin + (number + 1) * width == span.edge


def test_a_window_that_another_thread_rolls_is_left_to_it():
    """
    Law 15: one rolls, and who comes meanwhile neither waits nor rolls a second time.
    """
    tally = Numbers()
    span = TimeWindow(10.0, 10).start(0.0)
    tally.others += 1
    span.record(tally, 0.0, hit=True, success=False)
    token = span._turn.pop()
    span.roll(tally, 100.0)
    assert (1.0, Counts(1, 1)) == (span.edge, span.read(tally, 100.0))
    span._turn.append(token)
    assert Counts(0, 0) == span.read(tally, 100.0)
