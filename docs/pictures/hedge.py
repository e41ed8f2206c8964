"""
The picture of docs/reference/hedge.md.
"""

from __future__ import annotations

import anyio

from docs.pictures.drawing import Lane, Lanes, Mark, Span, drawn
from resilience import Call, Hedge, Pipeline
from resilience.testing import run

__all__ = ["hedge_picture"]

_SECONDS = 8.0
_AFTER = 1.0
# When a call comes, and how its attempts go: how long, and whether they fail.
_CALLS = (
    ("in time", 0.2, [(0.7, True)]),
    ("a slow one", 0.8, [(4.5, True), (0.8, True)]),
    ("slow, yet first", 1.5, [(1.6, True), (2.5, True)]),
    ("one that fails", 3.0, [(0.5, False), (0.9, True)]),
    ("both fail", 4.2, [(2.0, False), (1.8, False)]),
)


def hedge_picture() -> str:
    """Five calls and their attempts: who runs, who wins, who is cancelled."""
    rows: list[Lane] = []

    async def main() -> None:
        began = anyio.current_time()
        told: dict[tuple[int, int], list[Span | Mark]] = {}
        guarded = Pipeline(Hedge(_AFTER, idempotent=True))

        def now() -> float:
            return anyio.current_time() - began

        async def call(number: int) -> None:
            _, at, plans = _CALLS[number]
            await anyio.sleep(at)

            async def attempt(this: Call) -> None:
                seconds, well = plans[this.attempt - 1]
                started = now()
                parts = told[number, this.attempt] = []
                try:
                    await anyio.sleep(seconds)
                except anyio.get_cancelled_exc_class():
                    parts += [Span(started, now(), "run"), Mark(now(), "cancelled", "loses")]
                    raise
                parts.append(Span(started, now(), "good" if well else "bad"))
                if not well:
                    raise OSError

            try:
                await guarded.informed(attempt)()
            except OSError:
                parts = told[number, 1 + (len(plans) > 1)]
                parts.append(Mark(now(), "rejected", "its error is raised"))

        async with anyio.create_task_group() as group:
            for number in range(len(_CALLS)):
                group.start_soon(call, number)
        for (number, attempt), parts in sorted(told.items()):
            name = _CALLS[number][0] if attempt == 1 else "beside it"
            rows.append(Lane(name, parts))

    run(main)
    return drawn(
        "Hedge(1.0, idempotent=True)",
        "Another attempt is started when the first takes longer than a second, or at once when it has failed. The "
        "first answer is taken; the loser is cancelled.",
        _SECONDS,
        [Lanes("Attempts of five calls", rows)],
        legend={"run": "loses", "good": "answers", "bad": "fails"},
    )
