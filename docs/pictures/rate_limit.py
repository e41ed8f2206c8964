"""
The picture of docs/reference/rate-limit.md.
"""

from __future__ import annotations

import anyio

from docs.pictures.drawing import Curve, Lane, Lanes, Mark, Plot, Span, drawn
from resilience import Call, Pipeline, RateLimit, RateLimitedError
from resilience.testing import run

__all__ = ["rate_limit_picture"]

_SECONDS = 7.0
# When each call comes: a burst at 0.5 s, single ones later.
_CALLS = (0.5, 0.5, 0.5, 0.6, 0.7, 0.8, 0.9, 1.4, 5.2)
_LASTS = 0.35


def rate_limit_picture() -> str:
    """Two a second, three at once after a rest, and at most 1.5 s of waiting: who starts when."""
    lanes: list[Lane] = []
    tokens: list[tuple[float, float]] = []

    async def main() -> None:
        limit = RateLimit(2, burst=3, max_wait=1.5)
        guarded = Pipeline(limit)
        began = anyio.current_time()
        told: dict[int, list[Span | Mark]] = {}

        def now() -> float:
            return anyio.current_time() - began

        async def call(number: int, at: float) -> None:
            await anyio.sleep(at)
            parts = told[number] = []

            async def work(_: Call) -> None:
                if now() > at:
                    parts.append(Span(at, now(), "wait"))
                await anyio.sleep(_LASTS)
                parts.append(Span(now() - _LASTS, now(), "run"))

            try:
                await guarded.informed(work)()
            except RateLimitedError as error:
                parts.append(Mark(at, "rejected", f"retry_after={error.retry_after:.2f}"))

        async def look() -> None:
            for tick in range(int(_SECONDS * 50) + 1):
                tokens.append((tick / 50, limit.available))
                await anyio.sleep(1 / 50)

        async with anyio.create_task_group() as group:
            for number, at in enumerate(_CALLS):
                # One after the other, also those that come at the same instant.
                group.start_soon(call, number, at + number * 1e-3)
            group.start_soon(look)
        lanes.extend(Lane(f"call {number + 1}", told[number]) for number in sorted(told))

    run(main)
    return drawn(
        "RateLimit(2, burst=3, max_wait=1.5)",
        "Three calls at once after a rest, then one every half second, in order. Who would have to wait for more than "
        "1.5 s is turned away at once, told when it is worth coming back, and takes nothing from the others.",
        _SECONDS,
        [
            Lanes("Calls", lanes),
            Plot("Tokens", [Curve("in the bucket", "run", tokens, area=True)], top=3, height=72),
        ],
        legend={"wait": "waits", "run": "runs", "rejected": "rejected"},
    )
