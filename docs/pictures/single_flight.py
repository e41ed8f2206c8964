"""
The picture of docs/reference/single-flight.md.
"""

from __future__ import annotations

import anyio

from docs.pictures.drawing import Lane, Lanes, Mark, Span, drawn
from resilience import SingleFlight
from resilience.testing import run

__all__ = ["single_flight_picture"]

_SECONDS = 9.0
# When each caller comes, and when he leaves if he has no answer by then.
_CALLERS = ((0.3, 1.5), (0.7, None), (1.1, None), (3.6, None), (6.0, 7.0), (6.4, 7.8))
_TAKES = 2.0


def single_flight_picture() -> str:
    """The first caller leaves and the flight goes on; the last one leaves and it ends."""
    callers: list[Lane] = []
    flights: list[Span | Mark] = []

    async def main() -> None:
        policy = SingleFlight()
        began = anyio.current_time()
        told: dict[int, list[Span | Mark]] = {}

        def now() -> float:
            return anyio.current_time() - began

        async def fetch() -> str:
            came = now()
            try:
                await anyio.sleep(_TAKES if came < 6 else 99)
            except anyio.get_cancelled_exc_class():
                flights.extend([Span(came, now(), "quiet"), Mark(now(), "cancelled", "cancelled")])
                raise
            flights.append(Span(came, now(), "run", "one call"))
            return "page"

        async def caller(number: int, at: float, until: float | None) -> None:
            await anyio.sleep(at)
            parts = told[number] = []
            with anyio.CancelScope() as scope:
                if until is not None:
                    scope.deadline = began + until
                await policy(fetch)
            parts.append(Span(at, now(), "wait"))
            left = scope.cancelled_caught
            parts.append(Mark(now(), *(("cancelled", "left") if left else ("note", "answer"))))

        async with anyio.create_task_group() as group:
            for number, (at, until) in enumerate(_CALLERS):
                group.start_soon(caller, number, at, until)
        callers.extend(Lane(f"caller {number + 1}", told[number]) for number in sorted(told))

    run(main)
    return drawn(
        "SingleFlight()",
        "Callers who ask for the same thing share one call. The first one leaves and the others get the answer; when "
        "the last one leaves, the call is cancelled, and he waits until it has ended.",
        _SECONDS,
        [Lanes("Callers", callers), Lanes("The dependency", [Lane("calls", flights)])],
        legend={"wait": "waits", "run": "runs", "quiet": "runs in vain", "cancelled": "left"},
    )
