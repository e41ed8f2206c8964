"""
Deadlines on asyncio for the price of a dict entry.

All calls of one `Timeout` on one loop get the same number of seconds, so the order in which they start is the order in
which they fall due: a dict is the queue, and one timer of the loop serves any number of calls in flight. A
wheel belongs
to its loop and dies with it; nothing here is held from outside but by weak references.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from typing import Any, final
from weakref import WeakKeyDictionary, ref

from resilience.call import GRAIN, Call
from resilience.policies._shield import when_unshielded

__all__ = ["Wheel", "Wheels"]


@final
class Wheel:
    """
    The calls in flight under one deadline length on one loop, oldest first: call -> (until, task).

    Who finds its call gone was cut off. ``now`` is the loop's clock, read without its method where that is plain
    `time.monotonic`.
    """

    __slots__ = ("entries", "loop", "now", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        plain = getattr(type(loop), "time", None) is asyncio.BaseEventLoop.time
        self.loop: Callable[[], object] = _no_loop if loop is None else ref(loop)
        self.now: Callable[[], float] = time.monotonic if plain or loop is None else _LoopTime(loop)
        self.entries: dict[Call, tuple[float, asyncio.Task[Any]]] = {}
        self.timer: ref[asyncio.TimerHandle] | None = None

    def arm(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        # The loop owns its handles. Held here, one that is still armed would keep a closed loop alive.
        self.timer = ref(loop.call_at(until, self._fire, loop))

    def _fire(self, loop: asyncio.AbstractEventLoop) -> None:
        self.timer = None
        due = self.now() + GRAIN
        entries = self.entries
        expired = []
        for call, (until, task) in entries.items():
            if until > due:
                self.arm(loop, until)
                break
            expired.append((call, task))
        for call, task in expired:
            cancel = functools.partial(self._cancel, call)
            if not when_unshielded(task, call, entries, loop, cancel):
                cancel()

    def _cancel(self, call: Call) -> None:
        entry = self.entries.pop(call, None)
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


def _no_loop() -> None:
    """Of the wheel that stands for none: no loop is it."""


@final
class Wheels:
    """The wheels of one deadline length, one per loop. ``latest`` saves the look-up where there is one loop."""

    __slots__ = ("_by_loop", "latest")

    def __init__(self) -> None:
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Wheel] = WeakKeyDictionary()
        self.latest = Wheel(None)

    def of(self, loop: asyncio.AbstractEventLoop) -> Wheel:
        wheel = self._by_loop.get(loop)
        if wheel is None:
            wheel = self._by_loop[loop] = Wheel(loop)
        self.latest = wheel
        return wheel

    def stop(self) -> None:
        """No deadline will be asked for again."""
        for wheel in self._by_loop.values():
            timer = None if wheel.timer is None else wheel.timer()
            if timer is not None:
                timer.cancel()
