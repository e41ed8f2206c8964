"""
One task that waits for its turn, on whatever loop it runs, woken from any thread by whoever gives something back.

The rules, for a gate with a `resilience.core.lines.Line`:

1. ``waiter = waiter_here(weight)`` in the task that waits, then the gate's own ``join(waiter)``, which may refuse.
   Nothing is awaited from there to `stand_in_line`.
2. ``await stand_in_line(...)``: True, and what was asked for is the caller's, to be given back as if it had been taken
   at once; False, and the caller is out of the line and holds nothing. If anything is raised, a cancellation on any
   backend or the closing of the coroutine, it is out of the line too, and what was handed over in that very moment has
   gone to the next.
3. Whoever gives something back calls the gate's ``give``, from any thread; that wakes who is next. To wake is to set a
   future or an event, on another loop by that loop's own door for threads. A waiter whose loop is closed is skipped.
4. There is no timer but the waiter's own, and none unless ``left`` is finite.

Nothing here knows what is waited for, and no waiter is bound to a loop before it waits.
"""

from __future__ import annotations

import asyncio
import math
from asyncio.events import _get_running_loop as running_loop
from collections.abc import Callable
from typing import Any, final

from resilience.core.lines import Line, Waiting
from resilience.loaded import loaded

__all__ = ["Waiter", "stand_in_line", "waiter_here"]


class Waiter(Waiting):
    """
    A task in a line; see `Waiting`.

    Attributes:
        latest: Until when it waits, on the clock of its gate.
        look_at: When it looks by itself.
        nudged: That is too late; it looks now.
    """

    __slots__ = ("handed", "latest", "look_at", "nudged", "refused", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.handed: list[None] = []
        self.refused = False
        self.latest: float = math.inf
        self.look_at: float = math.inf
        self.nudged: bool = False

    def ready(self) -> bool:
        """Whether there is something to look at."""
        return self.nudged or self.refused or bool(self.handed)

    async def wait(self, seconds: float) -> None:
        """Until it is woken or *seconds*, which may be infinite, have passed; perhaps a little earlier."""
        raise NotImplementedError  # pragma: no cover - the two below are all there are


def waiter_here(weight: int) -> Waiter:
    """
    A waiter for the running task.

    Raises:
        RuntimeError: neither asyncio nor trio runs here.
    """
    loop = running_loop()
    trio = loaded("trio")
    # trio may be a guest of a running asyncio loop, and then no asyncio task is running.
    if (
        trio is not None
        and (loop is None or asyncio.current_task(loop) is None)
        and trio.lowlevel.in_trio_task()
    ):
        return _OnTrio(weight, trio)
    if loop is None:
        raise RuntimeError("only a task of asyncio or trio can wait in a queue")
    return _OnAsyncio(weight, loop)


async def stand_in_line(
    line: Line, waiter: Waiter, left: Callable[[], float], now: Callable[[], float]
) -> bool:
    """
    Wait in *line*, which *waiter* has joined.

    Args:
        left: Seconds it may wait before it is asked again; 0 or less: no longer.
        now: The instant on the line's clock.

    Returns:
        Whether it was handed what it waits for.
    """
    try:
        line.advance(now())
        while not waiter.handed:
            if waiter.refused:
                return False
            waiter.nudged = False
            seconds = left()
            if waiter.handed:
                break
            if seconds > 0:
                await waiter.wait(seconds)
            elif line.withdraw(waiter):
                # It may have kept those behind it from what is too little for itself.
                line.advance(now())
                return False
    except BaseException:
        line.leave(waiter, now())
        raise
    return True


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@final
class _OnAsyncio(Waiter):
    __slots__ = ("_future", "_loop")

    def __init__(self, weight: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(weight)
        self._loop = loop
        self._future: asyncio.Future[None] | None = None

    async def wait(self, seconds: float) -> None:
        loop = self._loop
        # First the future, then a look: who wakes this does it the other way round.
        self._future = future = loop.create_future()
        if self.ready():
            return
        timer = None if seconds == math.inf else loop.call_later(seconds, _resolve, future)
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()

    def wake(self) -> bool:
        loop, future = self._loop, self._future
        if future is None:
            return True  # it has not waited yet, and looks before it does
        if running_loop() is loop:
            _resolve(future)
            return True
        try:
            loop.call_soon_threadsafe(_resolve, future)
        except RuntimeError:
            return False
        return True


@final
class _OnTrio(Waiter):
    __slots__ = ("_event", "_token", "_trio")

    def __init__(self, weight: int, trio: Any) -> None:
        super().__init__(weight)
        self._trio = trio
        self._token = trio.lowlevel.current_trio_token()
        self._event: Any = None

    async def wait(self, seconds: float) -> None:
        self._event = event = self._trio.Event()
        if self.ready():
            return
        if seconds == math.inf:
            await event.wait()
            return
        with self._trio.move_on_after(seconds):
            await event.wait()

    def wake(self) -> bool:
        trio, event = self._trio, self._event
        if event is None:
            return True
        if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token:
            event.set()
            return True
        try:
            self._token.run_sync_soon(event.set)
        except trio.RunFinishedError:
            return False
        return True
