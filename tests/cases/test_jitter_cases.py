"""
What other toolkits' suites expect of back-off and jitter: the cases JT-*.

Our own strategy is full jitter; the others are tenacity's, taken as they are. Cases without a test, and why:

======  ==========================================================================================
JT-005  a jitter of plus and minus a quarter is neither ours nor tenacity's; ``wait_random(0.75, 1.25)`` draws one
JT-006  decorrelated jitter is neither ours nor tenacity's
JT-007  (as JT-006) its vectors
JT-011  jitter after the cap may exceed it, which ``max_delay`` rules out
======  ==========================================================================================

Of JT-014 the full jitter exists, the half and the equal one do not; JT-015 is asserted of what stands in its place: no
strategy of ours has a state to share.
"""

import random
import warnings

import anyio
import pytest
import tenacity
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience import ConfigurationError, FullJitter, ResilienceWarning, Retry
from resilience.strategies import AttemptState
from resilience.testing import Script, run


class Fixed:
    """Chance that always says the same."""

    def __init__(self, value):
        self.value = value

    def random(self):
        return self.value


def waits(wait, attempts=5, **options):
    """The waits that a retry really makes between so many attempts, in virtual time."""
    script = Script(OSError)

    async def main():
        with pytest.raises(OSError, match="step"):
            await Retry(attempts, on=OSError, wait=wait, **options)(script)

    run(main)
    return [later - earlier for earlier, later in zip(script.times, script.times[1:], strict=False)]


SHAPES = {
    "constant": (tenacity.wait_fixed, [1, 1, 1, 1]),
    "linear": (lambda base: tenacity.wait_incrementing(base, base), [1, 2, 3, 4]),
    "exponential": (tenacity.wait_exponential, [1, 2, 4, 8]),
    "full jitter": (lambda base: FullJitter(base, 1e9, rng=Fixed(1.0)), [1, 2, 4, 8]),
}


@pytest.mark.parametrize(("make", "factors"), SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("base", [0.0, 0.5, 3.0])
def test_jt_001_and_002_the_shapes_are_exact(make, factors, base):
    """
    JT-001, JT-002: d, d, d; (n + 1) d; 2^n d; and of a zero base zero, in every shape.
    """
    assert [base * factor for factor in factors] == pytest.approx(waits(make(base)))


@pytest.mark.parametrize(("make", "factors"), SHAPES.values(), ids=SHAPES)
def test_jt_003_max_delay_clamps_every_shape(make, factors):
    """
    JT-003: no wait is longer, whatever the strategy asks for; a strategy that asks for more is warned of once.
    """
    expected = [min(factor, 2.5) for factor in factors]
    # Our own is clamped as it is drawn; a strategy of the user's is told that it was cut.
    cut = max(factors) > 2.5 and not isinstance(make(1), FullJitter)
    if cut:
        with pytest.warns(ResilienceWarning, match="max_delay=2.5") as warned:
            found = waits(make(1.0), max_delay=2.5)
        assert 1 == len(warned)
    else:
        found = waits(make(1.0), max_delay=2.5)

    assert expected == pytest.approx(found)


@pytest.mark.parametrize(
    "jittered", [tenacity.wait_random(1, 9), tenacity.wait_random_exponential(4)]
)
def test_jt_003_max_delay_clamps_jitter_too(jittered):
    """
    JT-003: with jitter as without.
    """
    random.seed(3)
    with pytest.warns(ResilienceWarning, match="max_delay=2"):
        found = waits(jittered, attempts=50, max_delay=2)

    assert 2 == pytest.approx(max(found))
    assert 0 <= min(found) < 2


@settings(max_examples=500, deadline=None)
@given(
    st.floats(0, 1e300),
    st.floats(0, 1e300),
    st.integers(1, 10**9),
    st.floats(0, 1, exclude_max=True),
)
def test_jt_009_and_013_every_wait_is_finite_and_within_the_cap(initial, cap, attempt, chance):
    """
    JT-009, JT-013: for any attempt, however large: not NaN, not negative, not infinite, not above the cap (H35, R5).
    """
    jitter = FullJitter(initial, cap)

    assert 0 <= jitter.draw(attempt, Fixed(chance)) <= cap
    assert jitter.bound(attempt) <= cap


@pytest.mark.parametrize(
    "wait",
    [
        tenacity.wait_exponential(),
        tenacity.wait_random_exponential(),
        tenacity.wait_exponential_jitter(),
        tenacity.wait_incrementing(0, 10**300),
        FullJitter(),
        lambda state: 2**state.attempt_number,
        lambda state: 2.0**state.attempt_number,
    ],
    ids=["exponential", "random", "jitter", "incrementing", "ours", "huge integers", "overflow"],
)
@pytest.mark.parametrize("attempt", [63, 1024, 2048, 5000])
def test_jt_009_a_wait_after_very_many_attempts(wait, attempt):
    """
    JT-009: what overflows becomes the cap, or the default where it raises; the call's error stays its own (H35).
    """

    def late(state):
        return wait(AttemptState(attempt_number=attempt))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResilienceWarning)
        (found,) = waits(late, attempts=2, max_delay=30)

    assert 0 <= found <= 30 + 1e-9


def test_jt_010_sequences_differ_and_a_seed_repeats_them():
    """
    JT-010: two policies do not jitter alike; with `rng=` of one seed they do (R9).
    """

    def drawn(**options):
        return waits(FullJitter(), attempts=9, **options)

    assert drawn() != drawn()
    assert drawn(rng=random.Random(7)) == drawn(rng=random.Random(7))
    assert drawn(rng=random.Random(7)) != drawn(rng=random.Random(8))


def test_jt_010_the_users_seed_does_not_touch_ours():
    """
    JT-010, H37: `random.seed(0)` in a user's test freezes tenacity's jitter, as documented, and never ours.
    """

    def drawn(wait):
        random.seed(0)
        return waits(wait, attempts=9)

    assert drawn(FullJitter()) != drawn(FullJitter())
    assert drawn(tenacity.wait_random(0, 1)) == drawn(tenacity.wait_random(0, 1))


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 40))
def test_jt_014_full_jitter_is_chance_times_the_bound(chance, attempt):
    """
    JT-014: U d, with d the capped exponential.
    """
    expected = chance * min(5.0, 0.1 * 2 ** (attempt - 1))

    assert expected == pytest.approx(FullJitter().draw(attempt, Fixed(chance)))


def test_jt_014_full_jitter_is_uniform():
    """
    JT-014: ten thousand draws fill the range evenly: each tenth of it gets its tenth, by five standard deviations.
    """
    chance = random.Random(11)
    draws = [FullJitter(1, 1).draw(9, chance) for _ in range(10_000)]
    counts = [sum(low <= 10 * each < low + 1 for each in draws) for low in range(10)]

    assert all(850 < count < 1150 for count in counts)


async def test_jt_015_executions_do_not_share_a_state(backend, unit):
    """
    JT-015: a second call in the middle of the first begins with the first wait, and leaves the other's as they were.
    """
    if backend == "uvloop":
        pytest.skip("real time: the exact waits are compared")
    retry = Retry(4, on=OSError, wait=FullJitter(unit, 100 * unit, rng=Fixed(1.0)))
    scripts = [Script(OSError), Script(OSError)]

    async def call(script):
        with pytest.raises(OSError, match="step"):
            await retry(script)

    async with anyio.create_task_group() as group:
        group.start_soon(call, scripts[0])
        await anyio.sleep(2 * unit)
        group.start_soon(call, scripts[1])

    assert [0.0, 1.0, 3.0, 7.0] == pytest.approx(scripts[0].times)
    assert [0.0, 1.0, 3.0, 7.0] == pytest.approx(scripts[1].times)


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), True, "1", None])
@pytest.mark.parametrize("field", ["initial", "cap"])
def test_a_jitter_that_cannot_work_is_refused(field, wrong):
    """
    Numbers are judged once, at construction, with the field's name (law 21).
    """
    with pytest.raises(ConfigurationError, match=f"FullJitter.{field} must be seconds"):
        FullJitter(**{field: wrong})
