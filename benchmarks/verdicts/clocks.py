"""
Virtual time for libraries that read any clock of the standard library, in any way.

`install` must run before they are imported: some bind ``time.monotonic`` or ``datetime`` to a name of their own.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from typing import Any

__all__ = ["Time", "install"]

_START = 1000.0
_WALL = 1_700_000_000.0


class Time:
    """
    The clocks of this process.

    Attributes:
        loop: Whose time it is; None before there is one.
        step: Seconds the wall clock was set forward (or back) by hand.
    """

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.step = 0.0

    def monotonic(self) -> float:
        return _START if self.loop is None else self.loop.time()

    def wall(self) -> float:
        return _WALL + self.step + self.monotonic()


def install() -> Time:
    """Replace ``time.monotonic``, ``time.time`` and ``datetime.datetime``; for a process that does nothing else."""
    kept = Time()

    class Datetime(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Any:
            return cls.fromtimestamp(kept.wall(), tz)

        @classmethod
        def utcnow(cls) -> Any:
            return cls.now(dt.UTC).replace(tzinfo=None)

    time.monotonic = kept.monotonic
    time.time = kept.wall
    dt.datetime = Datetime  # type: ignore[misc]
    return kept
