"""
Law 22: whose dice they are.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
import tenacity

from resilience import CircuitState, FullJitter
from resilience.testing import Script
from tests.laws.breaker.kit import a_breaker, open_up, pipeline

OPEN = CircuitState.OPEN
JITTER = FullJitter(initial=100.0, cap=100.0)


async def _breaks(clock, breaker, number=5):
    """The breaks of so many openings in a row."""
    guarded, drawn = pipeline(breaker), []
    for _ in range(number):
        await guarded.outcome(Script(OSError))
        drawn.append(breaker.retry_after)
        clock.advance(drawn[-1])
    return drawn


async def test_the_break_is_drawn_from_the_generator_that_was_given(backend, clock):
    """
    Law 22, JT-010: the same seed, the same breaks; they are its draws and nobody else's.
    """
    dice = random.Random(7)
    expected = [pytest.approx(100.0 * dice.random()) for _ in range(5)]
    breaker = a_breaker(clock, break_duration=JITTER, rng=random.Random(7))
    assert expected == await _breaks(clock, breaker)


async def test_a_generator_of_the_jitters_own_comes_first(backend, clock):
    """
    Law 22: the nearest ``rng=`` counts.
    """
    dice = random.Random(8)
    expected = [pytest.approx(100.0 * dice.random()) for _ in range(5)]
    jitter = FullJitter(initial=100.0, cap=100.0, rng=random.Random(8))
    breaker = a_breaker(clock, break_duration=jitter, rng=random.Random(7))
    assert expected == await _breaks(clock, breaker)


async def test_random_seed_does_not_touch_the_librarys_own(backend, clock):
    """
    Law 22, H37: a test that seeds the global generator does not freeze the breaks, and they do not move it.
    """
    drawn = []
    for _ in range(3):
        random.seed(0)
        drawn.append(await _breaks(clock, a_breaker(clock, break_duration=JITTER)))
        assert random.Random(0).random() == random.random()
    assert 3 == len({tuple(each) for each in drawn})


async def test_tenacitys_objects_draw_as_tenacity_does(backend, clock):
    """
    Law 22: from the global generator, so that a seed there does determine them; documented.
    """
    drawn = []
    for _ in range(2):
        random.seed(5)
        breaker = a_breaker(
            clock, break_duration=tenacity.wait_random(0, 100), rng=random.Random(1)
        )
        drawn.append(await _breaks(clock, breaker))
    random.seed(5)
    expected = [pytest.approx(random.uniform(0, 100)) for _ in range(5)]
    assert [expected, expected] == drawn


@pytest.mark.parametrize("opening", [1, 2, 60, 10_000])
def test_full_jitter_stays_within_its_bound(opening):
    """
    Law 22, H35: between nothing and the capped exponential, for any number of openings.
    """
    jitter = FullJitter(initial=0.5, cap=20.0)
    bound = min(20.0, 0.5 * 2.0 ** min(opening - 1, 60))
    dice = random.Random(opening)
    draws = [jitter.draw(opening, dice) for _ in range(500)]
    assert 0.0 <= min(draws) < 0.05 * bound
    assert 0.95 * bound < max(draws) <= bound


FORKED = """
import os, sys
from resilience import CircuitBreaker, ConsecutiveFailures, FullJitter

def first_break():
    breaker = CircuitBreaker("b", on=OSError, trip=ConsecutiveFailures(1),
                             break_duration=FullJitter(initial=1e6, cap=1e6))
    breaker.admit().failure()
    return breaker.retry_after

first_break()
for _ in range(8):
    sys.stdout.flush()
    if os.fork() == 0:
        print(f"{first_break():.3f}", flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on Windows")
def test_forked_workers_draw_breaks_of_their_own():
    """
    Law 22, H25, H36: reseeded after ``fork``, or a fleet that was opened together would come back together.
    """
    ran = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=300, check=True
    )
    drawn = [float(line) for line in ran.stdout.split()]
    assert (8, 8) == (len(drawn), len(set(drawn)))
    gaps = sorted(abs(one - other) for one in drawn for other in drawn if one < other)
    assert gaps[0] > 0.01


def test_a_breaker_draws_nothing_that_it_was_not_told_to(clock):
    """
    Law 22: a fixed break takes no chance at all.
    """

    class Loaded(random.Random):
        def random(self):
            raise AssertionError("drawn")

    assert 10.0 == open_up(a_breaker(clock, rng=Loaded())).retry_after
