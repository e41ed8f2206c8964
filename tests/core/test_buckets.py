"""
The bucket without a loop: against an oracle that counts tokens in fractions, and against the bounds a limit promises.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resilience.call import GRAIN
from resilience.core import buckets
from resilience.core.buckets import Bucket
from resilience.core.lines import locked

KINDS = (Bucket, locked(Bucket))


class Waiter:
    """Who waits, and is told."""

    def __init__(self, weight: int = 1, latest: float = math.inf) -> None:
        self.weight = weight
        self.latest = latest
        self.look_at = math.inf
        self.handed: list[None] = []
        self.refused = self.nudged = False
        self.woken = 0

    def wake(self) -> bool:
        self.woken += 1
        return True


class Naive:
    """A bucket as a number of tokens and a list, looked at every eighth of a second."""

    def __init__(self, speed: Fraction, burst: int) -> None:
        self.speed, self.burst = speed, burst
        self.tokens = Fraction(burst)
        self.line: list[tuple[int, int]] = []
        self.served: list[int] = []

    def pass_by(self, seconds: Fraction) -> None:
        most = max(self.burst, self.line[0][1]) if self.line else self.burst
        self.tokens = min(self.tokens + seconds * self.speed, max(Fraction(most), self.tokens))
        self.serve()

    def wait(self, weight: int) -> Fraction:
        tokens = self.tokens if self.line else min(self.tokens, Fraction(self.burst))
        missing = sum(each for _, each in self.line) + weight - tokens
        return max(Fraction(0), missing / self.speed)

    def ask(self, who: int, weight: int, patience: int) -> str:
        if not self.line:
            self.tokens = min(self.tokens, Fraction(self.burst))
        if self.wait(weight) > patience:
            return "refused"
        self.line.append((who, weight))
        self.serve()
        return "served" if who in self.served else "waits"

    def leave(self, who: int) -> None:
        self.line = [each for each in self.line if each[0] != who]
        if self.line:  # what was gathered for a larger one is not for who comes after it
            self.tokens = min(self.tokens, Fraction(max(self.burst, self.line[0][1])))
        self.serve()

    def serve(self) -> None:
        while self.line and self.line[0][1] <= self.tokens:
            who, weight = self.line.pop(0)
            self.tokens -= weight
            self.served.append(who)


steps = st.one_of(
    st.tuples(st.just("ask"), st.integers(1, 5), st.integers(0, 6)),
    st.tuples(st.just("pass"), st.integers(1, 40)),
    st.tuples(st.just("leave"), st.integers(0, 30)),
    st.tuples(st.just("drain")),
)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@example(
    speed=1.0, burst=1, plan=[("ask", 2, 1), ("pass", 1), ("ask", 1, 2), ("leave", 0)]
)  # what was gathered for the first is more than a bucket holds
@given(
    speed=st.sampled_from([0.5, 1.0, 2.0, 4.0]),
    burst=st.integers(1, 4),
    plan=st.lists(steps, max_size=40),
)
def test_the_bucket_is_that_of_the_oracle(
    kind: type[Bucket], speed: float, burst: int, plan: list[tuple[Any, ...]]
) -> None:
    """
    L1 to L7, RL-001 to RL-013: after each step the same were served, in the same order, and waits are told exactly.
    """
    now = 1000.0
    bucket, naive = kind(speed, burst, now), Naive(Fraction(speed), burst)
    waiters: dict[int, Waiter] = {}
    served: list[int] = []

    def look() -> None:
        for who, waiter in list(waiters.items()):
            if waiter.handed:
                served.append(who)
                del waiters[who]

    for number, (what, *args) in enumerate(plan):
        if what == "ask":
            weight, patience = args
            wait = float(naive.wait(weight))
            assert wait == pytest.approx(bucket.wait(weight, now))
            expected = naive.ask(number, weight, patience)
            waiter = Waiter(weight, now + patience)
            if bucket.take(weight, now):
                found = "served"
                served.append(number)
            elif bucket.join(waiter, now, patience):
                waiters[number] = waiter
                bucket.advance(now)
                look()
                found = "served" if number in served else "waits"
            else:
                found = "refused"
                again = bucket.retry_after(weight, now, patience)
                if weight <= burst:
                    assert again == pytest.approx(wait)
                elif (weight - burst) / speed > patience:
                    assert again is None
                else:
                    assert again == pytest.approx(wait - patience)
            assert expected == found
        elif what == "pass":
            for _ in range(args[0]):
                now += 0.125
                naive.pass_by(Fraction(1, 8))
                bucket.advance(now)
                look()
        elif what == "leave" and waiters:
            who = list(waiters)[args[0] % len(waiters)]
            naive.leave(who)
            bucket.leave(waiters.pop(who), now)
            look()
        elif what == "drain" and not naive.line:
            naive.tokens = min(naive.tokens, Fraction(0))
            bucket.drain(now)
        assert naive.served == served
        assert [who for who, _ in naive.line] == list(waiters)
        assert (len(waiters), sum(each.weight for each in waiters.values())) == (
            bucket.waiting,
            bucket.queued,
        )
        shown = max(0, min(Fraction(burst), naive.tokens))
        assert float(shown) == pytest.approx(bucket.level(now), abs=1e-5 * speed)


@settings(deadline=None)
@given(
    speed=st.floats(0.01, 1e6),
    burst=st.integers(1, 1000),
    start=st.floats(0, 1e7),
    gaps=st.lists(st.floats(0, 10), min_size=1, max_size=60),
)
def test_no_window_has_more_than_it_may(
    speed: float, burst: int, start: float, gaps: list[float]
) -> None:
    """
    L1, L3, RL-009: in any window at most the burst and what comes in while it lasts, one more for rounding.
    """
    bucket, now = Bucket(speed, burst, start), start
    granted: list[float] = []
    for gap in gaps:
        now += gap / speed
        while len(granted) < 300 and bucket.take(1, now):
            granted.append(now)
    for first in range(0, len(granted), max(1, len(granted) // 50)):
        for last in range(first, len(granted), max(1, len(granted) // 50)):
            window = granted[last] - granted[first]
            assert last - first + 1 <= burst + speed * window + 1 + 1e-9 * speed * now


@settings(deadline=None)
@given(speed=st.floats(1e-3, 1e6), burst=st.integers(1, 50), start=st.floats(0, 1e9))
def test_who_comes_back_when_told_is_served(speed: float, burst: int, start: float) -> None:
    """
    L7: `retry_after` is enough, finite and no longer than one token takes.
    """
    bucket = Bucket(speed, burst, start)
    while bucket.take(1, start):
        pass
    wait = bucket.retry_after(1, start, 0.0)
    assert wait is not None
    assert 0 <= wait <= 1 / speed + 1e-6 + 1e-15 * start
    assert bucket.take(1, start + wait)


def test_before_that_nobody_is_served() -> None:
    """
    L7: and it is not more than enough.
    """
    bucket = Bucket(2.0, 1, 0.0)
    assert bucket.take(1, 0.0)
    assert not bucket.take(1, 0.5 - 2 * GRAIN)
    assert bucket.take(1, 0.5)


def test_it_does_not_drift() -> None:
    """
    H34: a hundred thousand tokens, each taken when it is there, take as long as they should, to the microsecond.
    """
    bucket, now = Bucket(10.0, 1, 1e6), 1e6
    for _ in range(100_000):
        assert bucket.take(1, now)
        now += bucket.wait(1, now)
    assert 1e6 + 10_000 == pytest.approx(now, abs=2e-6)


@pytest.mark.parametrize("back", [0.5, 3600.0])
def test_a_clock_that_runs_backwards_adds_nothing(back: float) -> None:
    """
    Law 20, L4, H33: nothing is gained, and nothing is raised.
    """
    bucket = Bucket(1.0, 3, 5000.0)
    for _ in range(3):
        assert bucket.take(1, 5000.0)
    for _ in range(10):
        assert not bucket.take(1, 5000.0 - back)
    assert 1.0 + back == pytest.approx(bucket.wait(1, 5000.0 - back))
    assert bucket.take(1, 5001.0)


def test_draining_twice_is_draining_once() -> None:
    """
    RL-007: what is empty is not emptied further.
    """
    bucket = Bucket(1.0, 3, 0.0)
    bucket.drain(0.0)
    assert not bucket.take(1, 0.0)
    bucket.drain(0.0)
    assert 1.0 == pytest.approx(bucket.wait(1, 0.0))
    assert bucket.take(1, 1.0)


def test_a_change_neither_gives_nor_takes_what_is_in_the_bucket() -> None:
    """
    RL-006: a larger bucket fills at the new rate; a smaller one runs over.
    """
    bucket = Bucket(1.0, 10, 100.0)
    assert bucket.take(6, 100.0)
    bucket.change(5.0, 20, 100.0)
    assert 4.0 == pytest.approx(bucket.level(100.0))
    assert 14.0 == pytest.approx(bucket.level(102.0))
    bucket.change(1.0, 2, 102.0)
    assert 2.0 == pytest.approx(bucket.level(102.0))
    rested = Bucket(1.0, 2, 0.0)
    rested.change(1.0, 5, 1000.0)
    assert 2.0 == pytest.approx(rested.level(1000.0))


def test_who_would_wait_too_long_after_a_change_is_sent_away() -> None:
    """
    RL-006: a place in the queue that cannot be met any more is refused at once, and those behind move up.
    """
    bucket = Bucket(1.0, 1, 0.0)
    assert bucket.take(1, 0.0)
    patient, hasty, next_one = Waiter(1, 30.0), Waiter(2, 4.0), Waiter(1, 30.0)
    for each in (patient, hasty, next_one):
        assert bucket.join(each, 0.0, 30.0)
    bucket.change(0.1, 1, 0.0)
    assert [False, True, False] == [each.refused for each in (patient, hasty, next_one)]
    assert hasty.woken
    bucket.advance(10.0)
    bucket.advance(20.0)
    assert patient.handed
    assert next_one.handed


def test_the_first_is_told_to_look_earlier() -> None:
    """
    RL-005: when the one before it leaves, its turn comes earlier than it thinks.
    """
    bucket = Bucket(1.0, 5, 0.0)
    assert bucket.take(5, 0.0)
    heavy, light = Waiter(5), Waiter(1)
    bucket.join(heavy, 0.0, 100.0)
    bucket.join(light, 0.0, 100.0)
    heavy.look_at, light.look_at = 5.0, 6.0
    bucket.advance(0.0)
    assert not light.nudged
    bucket.leave(heavy, 0.0)
    assert light.nudged
    assert light.woken
    assert 1.0 == pytest.approx(bucket.due(1, 0.0))


def test_late_hands_do_not_pour_out_what_has_run_over() -> None:
    """
    L1: if nobody came to look for a while, those who wait do not all go at once.
    """
    bucket = Bucket(1.0, 1, 0.0)
    assert bucket.take(1, 0.0)
    waiters = [Waiter() for _ in range(5)]
    for each in waiters:
        bucket.join(each, 0.0, 100.0)
    bucket.advance(50.0)
    assert [True, False, False, False, False] == [bool(each.handed) for each in waiters]


def test_what_was_handed_over_and_is_not_wanted_is_spent_by_the_next() -> None:
    """
    RL-005, H4: cancelled in the moment of its turn, it has spent nothing.
    """
    bucket = Bucket(1.0, 1, 0.0)
    assert bucket.take(1, 0.0)
    first, second = Waiter(), Waiter()
    bucket.join(first, 0.0, 100.0)
    bucket.join(second, 0.0, 100.0)
    bucket.advance(1.0)
    assert first.handed
    bucket.leave(first, 1.0)
    assert second.handed


def test_the_bucket_has_a_line_of_any_length_at_flat_cost(lines_run_in: Any) -> None:
    """
    RL-013: in order, at the same number of lines for each of 100 and of 20,000, those who leave included.
    """

    def work(number: int) -> tuple[float, float]:
        bucket = Bucket(1.0, 1, 0.0)
        assert bucket.take(1, 0.0)
        waiters = [Waiter() for _ in range(number)]

        def join() -> None:
            for place, each in enumerate(waiters):
                each.look_at = place + 1.0
                bucket.join(each, 0.0, math.inf)
            for each in waiters[number // 4 : number // 2]:
                bucket.leave(each, 0.0)

        def serve() -> None:
            now = 0.0
            for each in (*waiters[: number // 4], *waiters[number // 2 :]):
                now += 1.0
                bucket.advance(now)
                assert each.handed

        return lines_run_in(buckets, join) / number, lines_run_in(buckets, serve) / number

    small, large = work(100), work(20_000)
    assert large[0] == pytest.approx(small[0], rel=0.1)
    assert large[1] == pytest.approx(small[1], rel=0.1)
