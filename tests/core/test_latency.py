"""
The quantiles of latency against sorted lists, and what is forgotten when.
"""

from __future__ import annotations

import math
import random
import sys

import pytest

from resilience.core.latency import Latencies, Quantile


def exact(samples: list[float], ratio: float) -> float:
    return sorted(samples)[max(0, math.ceil(ratio * len(samples) - 1e-9) - 1)]


@pytest.mark.parametrize("ratio", [0.01, 0.5, 0.9, 0.95, 0.99, 1.0])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["uniform", "log-normal", "two humps", "constant"])
def test_it_is_within_two_percent_of_what_was_observed(kind, seed, ratio):
    """DDSketch: a relative error, at every quantile, of every distribution."""
    rng = random.Random(f"{kind} {seed}")
    draw = {
        "uniform": lambda: rng.uniform(0.001, 2),
        "log-normal": lambda: rng.lognormvariate(-3, 1.5),
        "two humps": lambda: rng.choice([rng.gauss(0.01, 0.001), rng.gauss(5, 0.5)]),
        "constant": lambda: 0.25,
    }[kind]
    latencies = Latencies(Quantile(ratio, minimum_calls=1))
    samples = [draw() for _ in range(rng.randint(1, 3000))]
    for sample in samples:
        latencies.add(sample, 0.0)

    assert pytest.approx(exact(samples, ratio), rel=0.0201) == latencies.read(0.0)


def test_before_there_are_enough_it_says_nothing():
    """HG-017: warm-up, twenty calls."""
    latencies = Latencies(Quantile())

    for number in range(20):
        assert latencies.read(0.0) is None, number
        latencies.add(0.1, 0.0)
    assert pytest.approx(0.1, rel=0.021) == latencies.read(0.0)


def test_what_is_too_short_or_too_long_stays_inside():
    """From a microsecond to a day; nothing raises beyond."""
    latencies = Latencies(Quantile(1.0, minimum_calls=1))

    for seconds, read in ((0.0, 1e-6), (-5.0, 1e-6), (1e-9, 1e-6), (1e300, 86_400)):
        latencies = Latencies(Quantile(1.0, minimum_calls=1))
        latencies.add(seconds, 0.0)
        assert pytest.approx(read, rel=0.05) == latencies.read(0.0)


def test_what_is_older_than_the_window_is_forgotten():
    """Between half a window and a whole one; after an idle day it warms up again."""
    latencies = Latencies(Quantile(0.5, minimum_calls=1, window=60))

    latencies.add(1.0, 0.0)
    assert pytest.approx(1.0, rel=0.021) == latencies.read(29.9)
    latencies.add(9.0, 31.0)
    latencies.add(9.0, 31.0)
    assert pytest.approx(9.0, rel=0.021) == latencies.read(32.0)
    latencies.add(9.0, 62.0)
    latencies.add(2.0, 62.0)
    latencies.add(2.0, 62.0)
    assert pytest.approx(2.0, rel=0.021) == latencies.read(93.0)
    assert latencies.read(86_400.0) is None


def test_time_that_runs_backwards_forgets_nothing():
    """Law 20."""
    latencies = Latencies(Quantile(0.5, minimum_calls=1))
    latencies.add(1.0, 100.0)

    assert pytest.approx(1.0, rel=0.021) == latencies.read(-1e9)


def test_the_answer_follows_within_a_few_samples():
    """It is worked out anew for each eighth sample, later for a sixteenth of them: reading is cheap."""
    latencies = Latencies(Quantile(1.0, minimum_calls=1))
    latencies.add(1.0, 0.0)
    latencies.read(0.0)

    for _ in range(7):
        latencies.add(2.0, 0.0)
        assert pytest.approx(1.0, rel=0.021) == latencies.read(0.0)
    latencies.add(2.0, 0.0)
    assert pytest.approx(2.0, rel=0.021) == latencies.read(0.0)


def test_memory_does_not_grow():
    """Two histograms, whatever is observed."""
    latencies = Latencies(Quantile())
    rng = random.Random(1)

    def size() -> int:
        halves = latencies._halves or ()
        return sum(sys.getsizeof(each.buckets) for each in halves)

    latencies.add(1.0, 0.0)
    before = size()
    for number in range(20_000):
        latencies.add(rng.expovariate(1), number / 100)
    assert before == size() < 12_000
