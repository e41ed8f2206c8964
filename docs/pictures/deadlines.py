"""
The picture of docs/reference/deadlines.md.
"""

from __future__ import annotations

import anyio
from tenacity import wait_fixed

from docs.pictures.drawing import Kind, Lane, Lanes, Mark, Span, Strip, drawn
from resilience import (
    DeadlineExpiredError,
    Pipeline,
    Retry,
    Timeout,
    TimeoutExceededError,
    deadline,
)
from resilience.testing import run

__all__ = ["deadline_picture"]

_SECONDS = 12.0
_BLOCK = 0.5, 8.0


def deadline_picture() -> str:
    """A block of eight seconds: what is left is what every call inside has."""
    rows: list[Lane] = []

    async def main() -> None:
        began = anyio.current_time()

        def now() -> float:
            return anyio.current_time() - began

        async def asked(name: str, guarded: Pipeline, *plans: tuple[float, bool]) -> None:
            parts: list[Span | Mark] = []
            calls = iter(plans)
            ended = now()

            async def attempt() -> None:
                nonlocal ended
                if now() > ended:
                    parts.append(Span(ended, now(), "wait"))
                seconds, well = next(calls)
                started, kind = now(), "bad"
                try:
                    await anyio.sleep(seconds)
                    kind = "good" if well else "bad"
                except anyio.get_cancelled_exc_class():
                    kind = "run"
                    raise
                finally:
                    ended = now()
                    parts.append(Span(started, ended, _KINDS[kind]))
                if not well:
                    raise OSError

            try:
                await guarded(attempt)
            except TimeoutExceededError as error:
                parts.append(Mark(now(), "cancelled", error.policy))
            except DeadlineExpiredError:
                parts.append(Mark(now(), "rejected", "DeadlineExpiredError"))
            except OSError:
                parts.append(Mark(now(), "rejected", "no wait that does not fit"))
            rows.append(Lane(name, parts))

        await anyio.sleep(_BLOCK[0])
        with deadline(_BLOCK[1]):
            await asked("in time", Pipeline(Timeout(5)), (1.5, True))
            async with anyio.create_task_group() as group:
                group.start_soon(asked, "its own timeout", Pipeline(Timeout(3)), (9, True))
                group.start_soon(asked, "the rest", Pipeline(Timeout(20)), (9, True))
                retry = Retry(5, on=OSError, wait=wait_fixed(1.5))
                group.start_soon(
                    asked,
                    "attempts",
                    Pipeline(retry),
                    (1, False),
                    (1, False),
                    (1.2, False),
                    (9, True),
                )
            await anyio.sleep(0.3)
            await asked("too late", Pipeline(Timeout(5)), (1, True))

    run(main)
    start, seconds = _BLOCK
    return drawn(
        "with deadline(8.0):",
        "Every call in the block has what is left of it. A timeout of its own may come first; a retry begins no wait "
        "that does not fit; a call after the end never runs.",
        _SECONDS,
        [
            Strip("The block", [Span(start, start + seconds, "quiet", "deadline(8.0)")]),
            Lanes("Calls inside", rows),
        ],
        legend={"good": "answers", "bad": "fails", "run": "is cut off", "wait": "waits"},
    )


_KINDS: dict[str, Kind] = {"good": "good", "bad": "bad", "run": "run"}
