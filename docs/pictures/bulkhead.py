"""
The picture of docs/reference/bulkhead.md.
"""

from __future__ import annotations

import anyio

from docs.pictures.drawing import Curve, Kind, Lane, Lanes, Mark, Plot, Span, drawn
from resilience import Bulkhead, BulkheadFullError, Call, Pipeline
from resilience.testing import run

__all__ = ["bulkhead_picture"]

_SECONDS = 8.0
# When each call comes, and how long it runs once it is in; the fourth caller leaves at 3.2 s.
_CALLS = ((0.2, 2.4), (0.5, 3.0), (0.9, 1.6), (1.2, 1.8), (1.5, 2.0), (3.3, 1.4), (5.6, 1.5))
_LEAVES = 3, 3.2


def bulkhead_picture() -> str:
    """Two places, two more in the queue: who comes when, and what becomes of it."""
    lanes: list[Lane] = []
    taken: list[tuple[float, float]] = [(0.0, 0)]
    waiting: list[tuple[float, float]] = [(0.0, 0)]

    async def main() -> None:
        bulkhead = Bulkhead(2, queue=2)
        guarded = Pipeline(bulkhead)
        began = anyio.current_time()
        told: dict[int, list[Span | Mark]] = {}

        def now() -> float:
            return anyio.current_time() - began

        def look() -> None:
            taken.append((now(), bulkhead.in_flight))
            waiting.append((now(), bulkhead.waiting))

        async def call(number: int, at: float, seconds: float) -> None:
            await anyio.sleep(at)
            came, entered = now(), 0.0
            parts = told[number] = []

            async def work(_: Call) -> None:
                nonlocal entered
                entered = now()
                look()
                await anyio.sleep(seconds)

            ended: Kind = "cancelled"
            try:
                with anyio.CancelScope() as scope:
                    if number == _LEAVES[0]:
                        scope.deadline = began + _LEAVES[1]
                    await guarded.informed(work)()
                    ended = "run"
            except BulkheadFullError:
                ended = "rejected"
            look()
            if ended == "rejected":
                parts.append(Mark(came, "rejected", "BulkheadFullError"))
                return
            until = entered or now()
            if until > came:
                parts.append(Span(came, until, "wait"))
            if entered:
                parts.append(Span(entered, now(), "run"))
            else:
                parts.append(Mark(now(), "cancelled", "the caller left"))

        async with anyio.create_task_group() as group:
            for number, (at, seconds) in enumerate(_CALLS):
                group.start_soon(call, number, at, seconds)
            group.start_soon(_watch, look)
        lanes.extend(Lane(f"call {number + 1}", told[number]) for number in sorted(told))

    run(main)
    return drawn(
        "Bulkhead(2, queue=2)",
        "Two calls run at once, two more wait in order. Who finds the queue full is turned away at once. A caller who "
        "leaves the queue holds nothing, and the place in it is free again.",
        _SECONDS,
        [
            Lanes("Calls", lanes),
            Plot(
                "Places",
                [
                    Curve(
                        "taken", "run", [*taken, (_SECONDS, taken[-1][1])], steps=True, area=True
                    ),
                    Curve("waiting", "wait", [*waiting, (_SECONDS, waiting[-1][1])], steps=True),
                ],
                top=4,
                height=72,
            ),
        ],
        legend={"wait": "waits", "run": "runs", "rejected": "rejected", "cancelled": "cancelled"},
    )


async def _watch(look: object) -> None:
    """Callers that begin to wait tell nobody: looked at every tenth of a second."""
    for _ in range(int(_SECONDS * 10)):
        await anyio.sleep(0.1)
        look()  # type: ignore[operator]
