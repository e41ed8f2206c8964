"""
Law 19 through a pipeline: what a breaker has counted equals a recount, whatever happened in between.

The windows by themselves are held against slower oracles in ``tests/core``.
"""

from __future__ import annotations

import random

import pytest

from resilience import ConsecutiveFailures, CountWindow, FailureRate, SlowRate, TimeWindow
from resilience.testing import Script
from tests.laws.breaker.kit import a_breaker, pipeline

SIZES = [
    CountWindow(1),
    CountWindow(7),
    CountWindow(1000),
    TimeWindow(10),
    TimeWindow(3.7, 1),
    TimeWindow(60, 100),
]


class RefusedError(Exception):
    """What a breaker of these tests ignores."""


@pytest.mark.parametrize("window", SIZES, ids=repr)
@pytest.mark.parametrize("lane", ["plain", "watched"])
async def test_what_is_counted_is_what_a_recount_finds(*, backend, clock, window, lane):
    """
    Law 19, B13, WIN-011, WIN-015: random calls at random times, slow ones, ignored ones and idle days among them.
    """
    rng, begin = random.Random(repr(window)), clock.now()
    trip = FailureRate(1.0, window, 1) & ConsecutiveFailures(10_000)
    if lane == "watched":
        trip &= SlowRate(1.0, 2.0, window, 1)
    breaker = a_breaker(clock, trip=trip, ignore=RefusedError)
    guarded, history = pipeline(breaker), []
    for _ in range(300):
        clock.advance(rng.choice([0.0, 0.01, 0.3, 1.0, 2.5, 11.0, rng.choice([0.0, 86_400.0])]))
        ending = rng.choice([1, 1, OSError, ValueError, RefusedError])
        lasted = rng.choice([0.0, 0.0, 1.9, 2.0, 5.0])

        def callee(ending=ending, lasted=lasted):
            clock.advance(lasted)
            if isinstance(ending, type):
                raise ending
            return ending

        await guarded.outcome(Script(callee))
        if ending is not RefusedError:
            history.append((clock.now(), ending is OSError, lasted >= 2.0))
        seen, inside = breaker.snapshot(), _inside(window, history, begin, clock.now())
        assert (len(inside), sum(failed for _, failed, _ in inside)) == (seen.calls, seen.failures)
        if lane == "watched":
            assert sum(slow for _, _, slow in inside) == seen.slow


def _inside(window, history, begin, now):
    """The calls that a window aligned to *begin* holds."""
    if isinstance(window, CountWindow):
        return history[-window.calls :]
    width = window.seconds / window.buckets

    def bucket(at):
        number = int((at - begin) / width) + 2
        while begin + number * width > at:
            number -= 1
        return number

    oldest = bucket(now) - window.buckets + 1
    return [each for each in history if bucket(each[0]) >= oldest]


@pytest.mark.parametrize("idle", [11.0, 86_400.0, 400 * 86_400.0])
async def test_after_an_idle_time_the_window_is_empty_and_works(backend, clock, idle):
    """
    Law 19, WIN-009: nothing of before counts, and the next calls count as they always did.
    """
    breaker = a_breaker(clock, trip=FailureRate(0.5, TimeWindow(10, 100), 3))
    guarded = pipeline(breaker)
    for step in (OSError, OSError):
        await guarded.outcome(Script(step))
    clock.advance(idle)
    assert (0, None) == (breaker.snapshot().calls, breaker.snapshot().failure_rate)
    for step, expected in ((OSError, (1, 1)), (1, (2, 1))):
        await guarded.outcome(Script(step))
        assert expected == (breaker.snapshot().calls, breaker.snapshot().failures)


async def test_a_window_without_a_call_has_no_rate(backend, clock):
    """
    Law 19, WIN-017, CB-001: no division by zero; unknown, not 0.
    """
    breaker = a_breaker(clock, ignore=RefusedError, trip=FailureRate(0.5, TimeWindow(10), 1))
    seen = breaker.snapshot()
    assert (0, None, None) == (seen.calls, seen.failure_rate, seen.slow_rate)
    await pipeline(breaker).outcome(Script(RefusedError))
    assert (0, None) == (breaker.snapshot().calls, breaker.snapshot().failure_rate)
