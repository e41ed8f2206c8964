"""
The picture of docs/reference/concurrency-limit.md.
"""

from __future__ import annotations

import contextlib
import random

import anyio

from docs.pictures.drawing import Curve, Plot, drawn
from resilience import ConcurrencyLimit, ThrottledError, Vegas
from resilience.testing import run

__all__ = ["concurrency_limit_picture"]

_SECONDS = 60
_OFFERED = 150  # calls a second
_TAKES = 0.2  # seconds, where nobody waits
_WORKERS = 20
_FAULT = 20, 40
_FEWER = 6  # of them are left while it lasts


def concurrency_limit_picture() -> str:
    """A service with twenty workers, of which it loses all but six for a while."""
    limits: list[tuple[float, float]] = []
    times: list[tuple[float, float]] = []
    rates: list[tuple[float, float]] = []

    async def main() -> None:
        limit = ConcurrencyLimit(Vegas(initial=10), rng=random.Random(4))
        workers = anyio.CapacityLimiter(_WORKERS)
        began = anyio.current_time()
        took: list[float] = []

        async def service() -> None:
            started = anyio.current_time()
            # One task for each call: a worker is borrowed by what it works on.
            async with workers:
                await anyio.sleep(_TAKES)
            took.append(anyio.current_time() - started)

        async def call() -> None:
            with contextlib.suppress(ThrottledError):
                await limit(service)

        async def watch() -> None:
            for second in range(_SECONDS):
                workers.total_tokens = _FEWER if _FAULT[0] <= second < _FAULT[1] else _WORKERS
                took.clear()
                await _until(began + second + 1)
                limits.append((second + 1, limit.limit))
                times.append((second + 1, 1000 * sum(took) / max(1, len(took))))
                rates.append((second + 0.5, len(took)))

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            for number in range(_SECONDS * _OFFERED):
                await _until(began + (number + 0.5) / _OFFERED)
                group.start_soon(call)

    run(main)
    return drawn(
        "ConcurrencyLimit(Vegas(initial=10))",
        "150 calls a second come to 20 workers that take 0.2 s for one. From 20 to 40 s only 6 of them work: calls "
        "take longer, the limit goes down until the queue is short again, and up afterwards.",
        _SECONDS,
        [
            Plot(
                "Calls at once",
                [
                    Curve("limit", "run", [(0, 10), *limits], steps=True, area=True),
                    Curve(
                        "workers",
                        "quiet",
                        [
                            (0, _WORKERS),
                            (_FAULT[0], _FEWER),
                            (_FAULT[1], _WORKERS),
                            (_SECONDS, _WORKERS),
                        ],
                        steps=True,
                    ),
                ],
            ),
            Plot("Milliseconds a call takes", [Curve("on average", "wait", times)], height=72),
            Plot("Answers per second", [Curve("answers", "good", rates)], height=72),
        ],
        shaded=[_FAULT],
    )


async def _until(instant: float) -> None:
    await anyio.sleep(max(0.0, instant - anyio.current_time()))
