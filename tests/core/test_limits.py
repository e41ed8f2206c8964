"""
AIMD, Vegas and Gradient2 against the vectors of Netflix's own tests, and what is done otherwise here.
"""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience import AIMD, ConfigurationError, Gradient2, Vegas

RNG = random.Random(5)
MS = 1e-3


def test_aimd_backs_off_and_grows_by_one() -> None:
    """
    AL-001: a drop takes 30 to 27; an answer while more than half is used adds one; clamped on both sides.
    """
    estimate = AIMD(initial=30).start(RNG)
    assert 27 == estimate.sample(1.0, 0, dropped=True)
    assert 28 == estimate.sample(1.0, 14, dropped=False)
    assert 28 == estimate.sample(1.0, 13, dropped=False)
    assert 25 == estimate.sample(5.1, 20, dropped=False)
    assert 10 == AIMD(initial=10, minimum=10).start(RNG).sample(1.0, 5, dropped=True)
    assert 11 == AIMD(initial=11, minimum=10, maximum=11).start(RNG).sample(1.0, 11, dropped=False)


def vegas(**options):
    given = {"initial": 100, "maximum": 200, "decrease": lambda limit: limit / 2} | options
    return Vegas(**given).start(RNG)


def test_vegas_halves_where_calls_take_twice_as_long() -> None:
    """
    AL-002: 10 ms at first, then 20 ms: 50, 25; with a smoothing of a half 75, 56.
    """
    estimate = vegas()
    assert 100 == estimate.sample(10 * MS, 10, dropped=False)
    assert 50 == estimate.sample(20 * MS, 100, dropped=False)
    assert 25 == estimate.sample(20 * MS, 50, dropped=False)
    smooth = vegas(smoothing=0.5)
    assert 100 == smooth.sample(10 * MS, 10, dropped=False)
    assert 75 == smooth.sample(20 * MS, 100, dropped=False)
    assert 56 == smooth.sample(20 * MS, 75, dropped=False)


@pytest.mark.parametrize(
    ("seconds", "queue", "expected"),
    [
        (0.01, 0, 16),
        (0.0105, 1, 16),
        (0.0124, 2, 11),
        (0.0133, 3, 10),
        (0.024, 6, 10),
        (0.03, 7, 9),
    ],
)
def test_vegas_by_the_length_of_the_queue(seconds: float, queue: int, expected: int) -> None:
    """
    AL-003: at most the threshold: beta more; below alpha: one step more; beyond beta: one step less; else the same.
    """
    estimate = Vegas(initial=10).start(RNG)
    estimate.sample(0.01, 10, dropped=False)
    assert queue == math.ceil(10 * (1 - 0.01 / seconds))
    # with a limit of 10 the threshold is 1, alpha 3 and beta 6
    assert expected == estimate.sample(seconds, 10, dropped=False)


def test_vegas_measures_the_shortest_time_anew() -> None:
    """
    AL-002: a shortest time of another day does not hold the limit down for ever.
    """
    estimate = vegas(initial=10, probe_after=1, decrease=None)
    assert 10 == estimate.sample(1 * MS, 10, dropped=False)
    limits = [estimate.sample(20 * MS, 100, dropped=False) for _ in range(40)]
    assert min(limits) < 10
    assert limits[-1] > min(limits)


def test_vegas_with_functions_of_ones_own() -> None:
    """
    AL-003: `increase` and `decrease`.
    """
    estimate = Vegas(initial=100, increase=lambda limit: limit + 7).start(RNG)
    estimate.sample(10 * MS, 100, dropped=False)
    assert 107 == estimate.sample(10.4 * MS, 100, dropped=False)  # a queue of 4: above 2, below 6


@pytest.mark.parametrize("algorithm", [AIMD(), Vegas(), Gradient2()], ids=repr)
def test_nothing_is_learned_of_a_limit_that_is_not_used(algorithm) -> None:
    """
    AL-005: with fewer than half as many in flight it never grows.
    """
    estimate = algorithm.start(RNG)
    for _ in range(300):
        estimate.sample(0.1, 5, dropped=False)
    assert 20 == estimate.limit


@pytest.mark.parametrize("algorithm", [AIMD(), Vegas(), Gradient2()], ids=repr)
@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_call_takes_time(algorithm, seconds: float) -> None:
    """
    AL-006: no time, or less, is refused; for a dropped one it does not matter.
    """
    estimate = algorithm.start(RNG)
    with pytest.raises(ValueError, match="more than no time"):
        estimate.sample(seconds, 20, dropped=False)
    assert estimate.sample(seconds, 20, dropped=True) <= 20


@pytest.mark.parametrize("algorithm", [AIMD(minimum=1), Vegas(), Gradient2(minimum=1)], ids=repr)
def test_a_dropped_call_is_not_a_fast_one(algorithm) -> None:
    """
    AL-007: however soon it failed, it lowers the limit, and later answers are not slow beside it.
    """
    estimate, plain = algorithm.start(RNG), algorithm.start(RNG)
    for each in (estimate, plain):
        for _ in range(50):
            each.sample(0.1, each.limit, dropped=False)
    before = estimate.limit
    assert estimate.sample(1e-6, before, dropped=True) < before
    for _ in range(100):
        estimate.sample(0.1, estimate.limit, dropped=False)
        plain.sample(0.1, plain.limit, dropped=False)
    assert estimate.limit > before or estimate.limit >= plain.limit - 1


def test_gradient2_grows_by_its_headroom_and_shrinks_by_the_slope() -> None:
    """
    Netflix: limit * slope + 4, smoothed by 0.2; no steeper than a half.
    """
    estimate = Gradient2().start(RNG)
    expected = 20.0
    for _ in range(10):
        expected = expected * 0.8 + (expected + 4) * 0.2
        assert int(expected) == estimate.sample(0.1, 200, dropped=False)
    assert 28 == int(expected)
    # 1.5 * average / time: the average of 600 hardly moves
    average = 0.1 * (1 - 2 / 601) + 1.0 * 2 / 601
    slope = max(0.5, 1.5 * average / 1.0)
    expected = expected * 0.8 + (expected * slope + 4) * 0.2
    assert max(20, int(expected)) == estimate.sample(1.0, 200, dropped=False)


def test_gradient2_catches_up_with_a_dependency_that_became_fast() -> None:
    """
    Netflix: an average more than twice the last time is lowered at once.
    """
    estimate = Gradient2().start(RNG)
    for _ in range(20):
        estimate.sample(1.0, 1, dropped=False)
    for _ in range(60):
        estimate.sample(0.1, 1, dropped=False)
    assert estimate._average < 0.25  # type: ignore[attr-defined]  # looked at from inside


@settings(deadline=None)
@given(
    algorithm=st.sampled_from(
        [AIMD(minimum=5), Vegas(maximum=60), Gradient2(minimum=5, maximum=60)]
    ),
    samples=st.lists(
        st.tuples(st.floats(1e-6, 100), st.integers(1, 500), st.booleans()), max_size=200
    ),
)
def test_a_limit_stays_within_its_bounds(algorithm, samples) -> None:
    """
    AL-001 to AL-007: whatever is measured.
    """
    estimate = algorithm.start(random.Random(1))
    low = 1 if isinstance(algorithm, Vegas) else 5
    for seconds, in_flight, dropped in samples:
        before = estimate.limit
        limit = estimate.sample(seconds, in_flight, dropped=dropped)
        assert low <= limit <= algorithm.maximum
        assert limit == estimate.limit
        if dropped:
            assert limit <= before


@pytest.mark.parametrize(
    "make",
    [
        lambda: AIMD(initial=5, minimum=6),
        lambda: AIMD(initial=300),
        lambda: Vegas(initial=2000),
        lambda: Gradient2(initial=500),
    ],
    ids=["below", "aimd", "vegas", "gradient2"],
)
def test_an_initial_limit_stands_between_the_others(make) -> None:
    """
    Law 21: what contradicts itself is refused.
    """
    with pytest.raises(ConfigurationError, match="initial must be from the minimum to the maximum"):
        make()


def test_it_finds_a_capacity() -> None:
    """
    Issue 5: a dependency does 40 calls at once and makes the others wait: about that many are found.
    """
    for algorithm in (AIMD(timeout=0.12), Vegas()):
        estimate = algorithm.start(random.Random(2))
        limits = []
        for _ in itertools.repeat(None, 4000):
            running = estimate.limit
            estimate.sample(0.1 * max(1.0, running / 40), running, dropped=False)
            limits.append(estimate.limit)
        steady = sum(limits[-1000:]) / 1000
        assert 35 < steady < 90, (algorithm, steady)


def test_gradient2_gives_way_where_calls_become_slow() -> None:
    """
    Issue 5: a dependency that takes five times as long gets fewer at once within a few dozen calls.
    """
    estimate = Gradient2(initial=100).start(RNG)
    for _ in range(50):
        estimate.sample(0.1, 200, dropped=False)
    before = estimate.limit
    for _ in range(30):
        estimate.sample(0.5, 200, dropped=False)
    assert estimate.limit < before / 2
