"""
`Pipeline.explain` is held to its word: what it reports is reached exactly, and never exceeded.
"""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest
import tenacity

from resilience import Explanation, Pipeline
from resilience.testing import run
from tests.explain.kit import built
from tests.explain.plans import HAIR, Plan, Search
from tests.explain.shapes import KINDS, Pair, random_pair

COUNT = 300
BACKENDS = ("asyncio", "trio")
FOREVER = 1e7


class Adversary:
    """A callee that plays a plan, whatever is done to it: one that is cut off raises what it would have raised."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.entered = 0

    async def __call__(self) -> None:
        failing = self._plan.failings[min(self.entered, self._plan.attempts - 1)]
        self.entered += 1
        error = KINDS[failing.kind](failing.ask)
        try:
            await anyio.sleep(failing.after)
        except anyio.get_cancelled_exc_class():
            raise error from None
        raise error


def play(pipeline: Pipeline, pair: Pair, plan: Plan, backend: Any) -> tuple[int, float, int]:
    """Attempts and duration of the real pipeline with this plan, and the draws chance was not asked for."""
    adversary = Adversary(plan)
    pair.chance.coming = list(plan.chances)

    async def main() -> float:
        before = anyio.current_time()
        outcome = await pipeline.outcome(adversary)
        assert not outcome.ok
        assert adversary.entered == outcome.attempts
        return anyio.current_time() - before

    duration = run(main, backend=backend)
    return adversary.entered, duration, len(pair.chance.coming)


@pytest.fixture(autouse=True)
def scripted_chance(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What tenacity's strategies draw from is a module they imported: for a test it is the plan."""

    def use(pair: Pair) -> None:
        monkeypatch.setattr(tenacity.wait, "random", pair.chance)

    return use


@pytest.mark.parametrize("number", range(COUNT))
def test_what_is_explained_is_reached_exactly(number, scripted_chance):
    """Issue 2: an adversary that knows the pipeline reaches the reported attempts, and the reported duration."""
    pair = random_pair(number)
    scripted_chance(pair)
    pipeline = built(*pair.policies)
    explained = pipeline.explain()
    search = Search(pair.shape)

    plan = search.plan("attempts", explained.attempts)
    assert plan is not None, f"{pair}: nothing reaches {explained.attempts} attempts"
    for backend in BACKENDS:
        attempts, _, undrawn = play(pipeline, pair, plan, backend)
        assert explained.attempts == attempts, str(pair)
        assert 0 == undrawn, str(pair)

    if explained.duration == float("inf"):
        assert_it_can_last(pipeline)
        return
    plan = search.plan("duration", explained.duration - 100 * HAIR)
    assert plan is not None, f"{pair}: nothing lasts {explained.duration} s"
    for backend in BACKENDS:
        _, duration, undrawn = play(pipeline, pair, plan, backend)
        assert pytest.approx(explained.duration, abs=100 * HAIR) == duration, str(pair)
        assert 0 == undrawn, str(pair)


def assert_it_can_last(pipeline: Pipeline) -> None:
    async def main() -> bool:
        with anyio.move_on_after(FOREVER) as scope:
            await pipeline(anyio.sleep_forever)
        return scope.cancelled_caught

    assert all(run(main, backend=backend) for backend in BACKENDS)


@pytest.mark.parametrize("number", range(COUNT))
def test_no_plan_exceeds_what_is_explained(number, scripted_chance):
    """Issue 2: never more; every way through small pipelines, and a hundred by chance through each."""
    pair = random_pair(number)
    scripted_chance(pair)
    pipeline = built(*pair.policies)
    explained = pipeline.explain()
    search = Search(pair.shape)
    rng = random.Random(number)

    assert None is search.plan("attempts", explained.attempts + 1, 2000)
    assert None is search.plan("duration", explained.duration + HAIR, 2000)
    plans = [search.wander(rng) for _ in range(100)]
    assert explained.attempts >= max(plan.attempts for plan in plans)
    assert explained.duration >= max(plan.duration for plan in plans) - 1e-9
    for plan in plans[:3]:
        attempts, duration, _ = play(pipeline, pair, plan, BACKENDS[number % 2])
        assert plan.attempts == attempts, f"{pair} {plan}"
        assert pytest.approx(plan.duration, abs=HAIR) == duration, f"{pair} {plan}"
        assert_within(explained, attempts, duration)


def assert_within(explained: Explanation, attempts: int, duration: float) -> None:
    assert explained.attempts >= attempts
    assert explained.duration >= duration - HAIR


def test_the_pipelines_are_worth_the_name():
    """Instrument: all kinds of policies and waits are among the 300, and deadlines that cut them short."""
    pairs = [random_pair(number) for number in range(COUNT)]
    written = " ".join(map(str, pairs))
    explained = [built(*pair.policies).explain() for pair in pairs]
    most = [Search(pair.shape).most() for pair in pairs]

    for name in ("Timeout(", "Retry(", "CircuitBreaker(", "wait_fixed", "wait_exponential ",
                 "wait_random ", "wait_chain", "wait_combine", "wait_exponential_jitter",
                 "wait_incrementing", "FullJitter", "stop_any", "stop_all", "retry_after=False",
                 "budget="):  # fmt: skip
        assert written.count(name) >= 5, name
    cut = [one.attempts < other for one, other in zip(explained, most, strict=True)]
    assert 100 <= sum(pair.nested for pair in pairs) <= 200
    assert 50 <= sum(cut) <= 200
    assert 25 <= sum(pair.nested for pair, short in zip(pairs, cut, strict=True) if short)
    assert 15 <= sum(each.duration == float("inf") for each in explained) <= 50
