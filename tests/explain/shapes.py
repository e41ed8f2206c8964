"""
Random pipelines, each as the real thing and as the bare numbers of it.
"""

from __future__ import annotations

import itertools
import random
from typing import Any

import attrs
import tenacity

from resilience import (
    CircuitBreaker,
    ConsecutiveFailures,
    FullJitter,
    Policy,
    Retry,
    RetryBudget,
    Timeout,
)
from tests.explain.plans import Draw, Limit, Shape, Tries


class Boom(Exception):  # noqa: N818 - it fails, as a bomb does
    """What every retry takes up."""

    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__()
        self.retry_after = retry_after


class Bang(Exception):  # noqa: N818 - (as Boom)
    """What only some retries take up."""

    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__()
        self.retry_after = retry_after


class Late(TimeoutError):  # noqa: N818 - (as Boom)
    """What retries take up that take up a timeout."""

    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__()
        self.retry_after = retry_after


KINDS: dict[str, type[Boom | Bang | Late]] = {"boom": Boom, "bang": Bang, "late": Late}


class Chance:
    """In the place of ``random``: what the plan says."""

    def __init__(self) -> None:
        self.coming: list[float] = []
        self.drawn = 0

    def random(self) -> float:
        self.drawn += 1
        return self.coming.pop(0) if self.coming else 0.0

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.random()


@attrs.frozen
class Pair:
    """A pipeline and its shape."""

    number: int
    policies: tuple[Policy, ...]
    shape: Shape
    chance: Chance

    @property
    def nested(self) -> bool:
        return sum(isinstance(each, Tries) for each in self.shape) > 1

    def __str__(self) -> str:
        return f"#{self.number}: {', '.join(map(repr, self.policies))}"


# One that never runs out: explain takes budgets to give.
_RICH = RetryBudget(1000, minimum_per_second=1000)


def _seconds(rng: random.Random, low: float, high: float) -> float:
    """No two sums of these are alike: a tie is a test of its own."""
    return round(rng.uniform(low, high), 4)


def _wait(rng: random.Random, chance: Chance, count: int, cap: float) -> tuple[Any, list[Draw]]:
    """A wait strategy, and what it does after each of *count* attempts."""
    kind = rng.choice(
        ["none", "fixed", "exponential", "random", "full", "chain", "sum", "jitter", "grow"]
    )
    a, b = _seconds(rng, 0.1, 2.0), _seconds(rng, 2.0, 4.0)
    numbers = range(1, count + 1)
    match kind:
        case "none":
            return tenacity.wait_none(), [Draw(0.0, 0.0, 0, cap) for _ in numbers]
        case "fixed":
            return tenacity.wait_fixed(a), [Draw(a, a, 0, cap) for _ in numbers]
        case "exponential":
            each = [min(a * 2 ** (n - 1), b) for n in numbers]
            return tenacity.wait_exponential(a, max=b), [Draw(s, s, 0, cap) for s in each]
        case "random":
            return tenacity.wait_random(a, b), [Draw(a, b, 1, cap) for _ in numbers]
        case "full":
            each = [min(a * 2 ** (n - 1), b) for n in numbers]
            return FullJitter(a, b, rng=chance), [Draw(0.0, s, 1, cap) for s in each]
        case "chain":
            chain = tenacity.wait_chain(tenacity.wait_fixed(a), tenacity.wait_random(0, b))
            return chain, [Draw(a, a, 0, cap) if n == 1 else Draw(0, b, 1, cap) for n in numbers]
        case "sum":
            strategy = tenacity.wait_fixed(a) + tenacity.wait_random(0, b)
            return strategy + tenacity.wait_random(a, b), [
                Draw(2 * a, a + 2 * b, 2, cap) for _ in numbers
            ]
        case "jitter":
            strategy = tenacity.wait_exponential_jitter(multiplier=a, max=50, jitter=b)
            each = [a * 2 ** (n - 1) for n in numbers]
            return strategy, [Draw(s, s + b, 1, cap) for s in each]
        case _:
            strategy = tenacity.wait_incrementing(a, b, max=50)
            each = [a + b * (n - 1) for n in numbers]
            return strategy, [Draw(s, s, 0, cap) for s in each]


def _retry(
    rng: random.Random, chance: Chance, count: int, *, asked: bool, cap: float, kinds: set[str]
) -> tuple[Retry, Tries]:
    wait, waits = _wait(rng, chance, count, cap)
    counted: dict[str, Any] = rng.choice(
        [
            {"attempts": count},
            {"stop": tenacity.stop_after_attempt(count)},
            {"attempts": count, "stop": tenacity.stop_after_attempt(count + 1)},
            {"attempts": count + 2, "stop": tenacity.stop_after_attempt(count)},
            {"stop": tenacity.stop_any(*map(tenacity.stop_after_attempt, (count, count + 1)))},
            {"stop": tenacity.stop_all(*map(tenacity.stop_after_attempt, (count, 1)))},
        ]
    )
    on = tuple(TimeoutError if kind == "late" else KINDS[kind] for kind in sorted(kinds))
    # Asked in tenacity's order: retry, wait, stop.
    unused = 0 if counted.get("attempts") == count else waits[-1].draws
    budgeted = rng.random() < 0.4
    retry = Retry(
        on=on,
        wait=wait,
        max_delay=cap,
        retry_after=asked,
        budget=_RICH if budgeted else None,
        **counted,
    )
    return retry, Tries(tuple(waits[:-1]), unused, frozenset(kinds), asked, cap, budgeted)


def random_pair(number: int) -> Pair:
    """The pipeline of that number, always the same."""
    rng = random.Random(number)
    chance = Chance()
    layers: list[tuple[Policy, Tries | Limit | None]] = []
    levels = rng.choice([0, 1, 1, 1, 1, 2, 2, 3]) if number % 4 else rng.choice([2, 2, 3])
    cap = _seconds(rng, 1.0, 12.0)
    asked = rng.random() < 0.5
    limited = rng.random() < 0.75
    if limited:
        total = _seconds(rng, 0.5, rng.choice([2.5, 5.0, 10.0, 40.0]))
        layers.append((Timeout(total), Limit(total)))
    else:
        total = float("inf")
    kinds = {"boom", "late"}
    most = {0: 1, 1: 6, 2: 3, 3: 2}[levels]
    for level in range(levels):
        # What passes two retries to a third is bounded from above only; see test_upper_bounds.
        if levels < 3:
            kinds = {"boom", *(each for each in ("bang", "late") if rng.random() < 0.3)}
        layers.append(_retry(rng, chance, rng.randint(1, most), asked=asked, cap=cap, kinds=kinds))
        if rng.random() < 0.3:
            layers.append((_breaker(), None))
        # A deadline between two retries that hear the server is bounded from above only; see test_upper_bounds.
        if 0 < level + 1 < levels and not asked and rng.random() < 0.4:
            total = _seconds(rng, 0.3, 0.9) * min(total, 20.0)
            layers.append((Timeout(total), Limit(total)))
    if rng.random() < 0.3:
        layers.append((_breaker(), None))
    if rng.random() < 0.75:
        seconds = _seconds(rng, 0.05, 0.95) * min(total, 5.0)
        layers.append((Timeout(seconds), Limit(seconds)))
    return Pair(
        number,
        tuple(policy for policy, _ in layers),
        tuple(layer for _, layer in layers if layer is not None),
        chance,
    )


_breakers = itertools.count(1)


def _breaker() -> CircuitBreaker:
    """One that no single call can open."""
    return CircuitBreaker(
        f"explained-{next(_breakers)}", on=(Boom, Bang), trip=ConsecutiveFailures(1000)
    )
