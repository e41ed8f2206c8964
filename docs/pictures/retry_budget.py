"""
The picture of docs/reference/retry-budget.md.
"""

from __future__ import annotations

from collections import Counter

import anyio
from tenacity import wait_fixed

from docs.pictures.drawing import Curve, Plot, drawn
from resilience import Pipeline, Retry, RetryBudget
from resilience.testing import run

__all__ = ["retry_budget_picture"]

_SECONDS = 40.0
_PER_SECOND = 20
_DEAD = 10.0, 25.0


def retry_budget_picture() -> str:
    """Twenty calls a second of a dependency that is dead for a while: what arrives there."""
    without, _ = _played(None)
    budget = RetryBudget()
    within, available = _played(budget)
    return drawn(
        "Retry(3, budget=RetryBudget())",
        "20 calls a second; the dependency is dead for 15 s. Three attempts each are three times the load. With a "
        "budget what was bought before is spent within seconds, and then only the free half an attempt per second is "
        "left, until calls succeed again.",
        _SECONDS,
        [
            Plot(
                "Calls that arrive, per second",
                [
                    Curve("without a budget", "bad", without),
                    Curve("with a budget", "run", within, area=True),
                ],
                top=70,
            ),
            Plot("Attempts the budget has", [Curve("available", "good", available)], height=60),
        ],
        shaded=[_DEAD],
    )


def _played(
    budget: RetryBudget | None,
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    arrived: Counter[int] = Counter()
    available: list[tuple[float, float]] = []

    async def main() -> None:
        began = anyio.current_time()
        retry = Retry(3, on=OSError, wait=wait_fixed(0.3), budget=budget)
        guarded = Pipeline(retry)

        async def dependency() -> None:
            now = anyio.current_time() - began
            arrived[int(now)] += 1
            await anyio.sleep(0.05)
            if _DEAD[0] <= now < _DEAD[1]:
                raise OSError

        async def call() -> None:
            await guarded.outcome(dependency)

        async with anyio.create_task_group() as group:
            for number in range(int(_SECONDS * _PER_SECOND)):
                group.start_soon(call)
                if budget is not None and number % _PER_SECOND == 0:
                    told = budget.snapshot()
                    available.append((number / _PER_SECOND, told.available))
                await anyio.sleep_until(began + (number + 1) / _PER_SECOND)

    run(main)
    return [(second + 0.5, arrived[second]) for second in range(int(_SECONDS))], available
