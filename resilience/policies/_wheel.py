"""
Deadlines on asyncio for the price of a dict entry.

All calls of one `Timeout` on one loop get the same number of seconds, so the order in which they start is the order in
which they fall due: a dict is the queue, and one timer of the loop serves any number of calls in flight. A wheel belongs
to its loop and dies with it; nothing here is held from outside but by weak references.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, final
from weakref import WeakKeyDictionary, ref

from resilience.policies._shield import when_unshielded

__all__ = ["Wheel", "Wheels"]

# A loop's timer may come this much early by rounding; less than any deadline means.
_GRAIN = 1e-6


@final
class Wheel:
    """
    The calls in flight under one deadline length on one loop, oldest first: token -> (until, task).

    Whoever finds its token gone was cut off. ``now`` is the loop's clock, read without its method where that is plain
    `time.monotonic`.
    """

    __slots__ = ("entries", "loop", "now", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        plain = getattr(type(loop), "time", None) is asyncio.BaseEventLoop.time
        self.loop = ref(loop)
        self.now: Callable[[], float] = time.monotonic if plain else _LoopTime(loop)
        self.entries: dict[object, tuple[float, asyncio.Task[Any]]] = {}
        self.timer: asyncio.TimerHandle | None = None

    def arm(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        # The handle carries the loop: the loop owns its handles, and nobody else owns the loop.
        self.timer = loop.call_at(until, self._fire, loop)

    def _fire(self, loop: asyncio.AbstractEventLoop) -> None:
        self.timer = None
        due = self.now() + _GRAIN
        entries = self.entries
        expired = []
        for token, (until, task) in entries.items():
            if until > due:
                self.arm(loop, until)
                break
            expired.append((token, task))
        for token, task in expired:
            if not when_unshielded(task, token, loop, self._cancel):
                self._cancel(token)

    def _cancel(self, token: object) -> None:
        entry = self.entries.pop(token, None)
        if entry is not None:
            entry[1].cancel()


@final
class _LoopTime:
    """``loop.time`` of a loop that keeps its own, held weakly."""

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = ref(loop)

    def __call__(self) -> float:
        loop = self._loop()
        return time.monotonic() if loop is None else loop.time()


@final
class Wheels:
    """The wheels of one deadline length, one per loop. ``latest`` saves the look-up where there is one loop."""

    __slots__ = ("_by_loop", "latest")

    def __init__(self) -> None:
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Wheel] = WeakKeyDictionary()
        self.latest: Wheel | None = None

    def of(self, loop: asyncio.AbstractEventLoop) -> Wheel:
        wheel = self._by_loop.get(loop)
        if wheel is None:
            wheel = self._by_loop[loop] = Wheel(loop)
        self.latest = wheel
        return wheel
