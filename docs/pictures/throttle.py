"""
The picture of docs/reference/throttle.md.
"""

from __future__ import annotations

import random

import anyio

from docs.pictures.drawing import Curve, Plot, drawn
from resilience import Throttle, ThrottledError
from resilience.testing import run

__all__ = ["throttle_picture"]

_SECONDS = 120
_OFFERED = 60  # calls a second
_FAULT = 30, 70


def _takes(second: float) -> int:
    """What the dependency takes in a second."""
    return 15 if _FAULT[0] <= second < _FAULT[1] else 100


def throttle_picture() -> str:
    """A dependency that takes a quarter of what it is asked for, for forty seconds."""
    let_through: list[tuple[float, float]] = []
    answered: list[tuple[float, float]] = []
    share: list[tuple[float, float]] = []

    async def main() -> None:
        throttle = Throttle(2.0, window=20, rng=random.Random(11))
        asked = taken = 0

        async def dependency(second: int) -> None:
            nonlocal asked, taken
            asked += 1
            if asked > _takes(second):
                raise ConnectionError
            taken += 1

        for second in range(_SECONDS):
            asked = taken = 0
            for _ in range(_OFFERED):
                await anyio.sleep(1 / _OFFERED)
                try:
                    await throttle(dependency, second)
                except (ThrottledError, ConnectionError):
                    continue
            let_through.append((second + 0.5, asked))
            answered.append((second + 0.5, taken))
            share.append((second + 0.5, 100 * throttle.snapshot().probability))

    run(main)
    return drawn(
        "Throttle(2.0, window=20)",
        "60 calls a second come. From 30 to 70 s the dependency takes 15 of them and fails the others: the throttle "
        "soon asks for little more than twice that, and lets everything through again when the window has passed.",
        _SECONDS,
        [
            Plot(
                "Calls per second",
                [
                    Curve("let through", "bad", let_through),
                    Curve("taken", "run", answered, area=True),
                    Curve("offered", "quiet", [(0, _OFFERED), (_SECONDS, _OFFERED)]),
                ],
                top=80,
            ),
            Plot("Turned away, per cent", [Curve("share", "wait", share)], top=100, height=72),
        ],
        shaded=[_FAULT],
    )
