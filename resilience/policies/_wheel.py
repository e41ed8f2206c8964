"""
Deadlines on asyncio for the price of a dict entry.

All calls of one `Timeout` on one loop get the same number of seconds, so the order in which they start is the order in
which they fall due: a dict is the queue, and one timer of the loop serves all calls in flight. A wheel belongs to its
loop and dies with it; nothing here is held from outside but by weak references.
"""

from __future__ import annotations

import asyncio
import functools
import math
import time
from asyncio.events import _get_running_loop as running_loop
from collections.abc import Callable
from typing import Any, final
from weakref import WeakKeyDictionary, ref

from resilience.call import GRAIN, Call
from resilience.policies._shield import when_unshielded

__all__ = ["Wheel", "Wheels", "uncancel", "without_cancellation"]


def uncancel(task: asyncio.Task[Any], before: int) -> int:
    """Take our cancellation back, unless the callee has; how many are pending."""
    pending = task.cancelling()
    return task.uncancel() if pending > before else pending


def without_cancellation(error: BaseException) -> BaseException | None:
    """What is left of it where our cancellation ends: a scope of trio takes it out of a group as well."""
    if isinstance(error, asyncio.CancelledError):
        return None
    return (
        error.split(asyncio.CancelledError)[1] if isinstance(error, BaseExceptionGroup) else error
    )


@final
class Wheel:
    """
    The calls in flight under one deadline length on one loop, oldest first: call -> until.

    In the express lane there is no call yet: its task stands for it, also in ``cut``, where those of the lane are that
    were cut off and have not ended yet. Who finds its call gone was cut off. One that is due and waits for a shield has
    a minus infinity of its own. ``now`` is the loop's clock, read without its method where that is plain
    `time.monotonic`; or always *instant*, if the calls share not a length but a deadline.
    """

    __slots__ = ("__weakref__", "cut", "entries", "loop", "now", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, instant: float | None = None) -> None:
        plain = type(loop).time is asyncio.BaseEventLoop.time
        self.loop: asyncio.AbstractEventLoop = loop
        self.now: Callable[[], float] = time.monotonic if plain else loop.time
        if instant is not None:
            self.now = lambda: instant
        self.entries: dict[Any, float] = {}
        self.cut: set[object] = set()
        self.timer: asyncio.TimerHandle | None = None

    def arm(self, until: float) -> None:
        self.timer = self.loop.call_at(until, self._fire)

    def _fire(self) -> None:
        self.timer = None
        now = self.loop.time() + GRAIN
        entries = self.entries
        expired = []
        for call, until in entries.items():
            if until > now:
                self.arm(until)
                break
            if until != -math.inf:
                expired.append(call)
        for call in expired:
            task = call.task if type(call) is Call else call
            entries[call] = float("-inf")  # a new object: who waits for a shield asks for this one
            cancel = functools.partial(self._cancel, call, task)
            if not when_unshielded(task, call, entries, self.loop, cancel):
                cancel()

    def _cancel(self, call: object, task: asyncio.Task[Any]) -> None:
        del self.entries[call]
        if call is task:
            self.cut.add(task)
        task.cancel()

    def swallowed(self, task: asyncio.Task[Any]) -> None:
        """The callee has kept our cancellation to itself."""
        self.cut.discard(task)
        uncancel(task, 0)


def _no_wheel() -> None:
    """In the place of a reference, before there is a wheel."""


@final
class Wheels:
    """
    The wheels of one deadline length, one per loop. ``latest`` saves the look-up where there is one loop.

    They are held weakly: a wheel lives by its timer, which is the loop's, and by the calls in flight.

    Args:
        instant: What the length is added to, on the clock of the running loop, asked once for each. Default: now.
    """

    __slots__ = ("_by_loop", "_instant", "latest")

    def __init__(self, instant: Callable[[], float] | None = None) -> None:
        self._instant = instant
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, ref[Wheel]] = (
            WeakKeyDictionary()
        )
        self.latest: Callable[[], Wheel | None] = _no_wheel

    def of(self, loop: asyncio.AbstractEventLoop) -> Wheel:
        instant = None if self._instant is None else self._instant()
        wheel = self._by_loop.get(loop, _no_wheel)() or Wheel(loop, instant)
        self._by_loop[loop] = self.latest = ref(wheel)
        return wheel

    def rest(self) -> None:
        """Whoever is in flight is still cut off; with nobody in flight the running loop needs no timer."""
        loop = running_loop()
        wheel = None if loop is None else self._by_loop.get(loop, _no_wheel)()
        if wheel is not None and wheel.timer is not None and not wheel.entries:
            wheel.timer.cancel()
            wheel.timer = None

    def stop(self) -> None:
        """No deadline will be asked for again."""
        for known in self._by_loop.values():
            wheel = known()
            if wheel is not None and wheel.timer is not None:
                wheel.timer.cancel()
