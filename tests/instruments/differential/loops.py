"""
Schedulers that are drawn from a seed: what is ready runs in another order each time, and time jumps.

On asyncio the next of what is ready is the one with the lowest rank, and a rank is a hash of the seed, the number of
the task and the number of its step; of what is no task, of the instant and the callback's name. Not the next draw of a
generator: a timer more or less of one engine must not give everything after it another order.

On trio it is its own deterministic mode, seeded, and its `MockClock`.
"""

from __future__ import annotations

import asyncio
import heapq
import zlib
from collections.abc import Callable
from typing import Any

import trio
import trio.testing
from trio._core import _run as trio_run

__all__ = ["Runaway", "SeededLoop", "run_trio"]

START = 1000.0
_MOST = 20_000
_WHEEL = "_fire"
_PATIENCE = 8  # callbacks in a row, while tasks are ready
_STANDING = 2_000


class Runaway(BaseException):
    """It goes on for ever, or nothing is left that could go on."""


class _NoSelector:
    """There are no sockets here."""

    def select(self, timeout: float | None) -> tuple[()]:
        return ()

    def close(self) -> None: ...


def _is_step(handle: Any) -> bool:
    return isinstance(getattr(handle._callback, "__self__", None), asyncio.Task)


class SeededLoop(asyncio.BaseEventLoop):
    """
    An asyncio loop in virtual time that runs one thing at a time, in an order of its own.

    Attributes:
        steps: Of each task, how often it ran.
        before, after: What to do around the n-th step of a task.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.set_debug(False)
        self._seed = seed
        self._now = START
        self._clock_resolution = 1e-9
        self._selector = _NoSelector()
        self._names: dict[str, tuple[int, int]] = {}
        self._ran = self._since = self._asked = self._stands = 0
        self._order: dict[int, int] = {}
        self.numbers: dict[asyncio.Task[Any], int] = {}
        self.steps: dict[asyncio.Task[Any], int] = {}
        self.before: dict[tuple[int, int], Callable[[], None]] = {}
        self.after: dict[tuple[int, int], Callable[[], None]] = {}

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        timer = super().call_at(when, callback, *args, context=context)
        # A heap keeps no order among what is due at one instant: another timer somewhere in it would change it.
        self._asked += 1
        self._order[id(timer)] = self._asked
        return timer

    def _process_events(self, events: Any) -> None: ...

    def _write_to_self(self) -> None: ...

    def number_of(self, task: asyncio.Task[Any]) -> int:
        """In the order in which they were first seen."""
        try:
            return self.numbers[task]
        except KeyError:
            self.steps[task] = 0
            return self.numbers.setdefault(task, len(self.numbers))

    def _rank(self, handle: Any) -> int:
        owner = getattr(handle._callback, "__self__", None)
        if isinstance(owner, asyncio.Task):
            return hash((self._seed, self.number_of(owner), self.steps[owner]))
        name = getattr(handle._callback, "__name__", "")
        code, times = self._names.get(name) or (zlib.crc32(name.encode()), 0)
        if name == _WHEEL:
            times = 0  # how often a wheel fires is the engine's own affair
        # The number of times: what calls itself again at once must not have the lowest rank for ever.
        return hash((self._seed, self._now, code, times))

    def _move(self, instant: float) -> None:
        self._now = max(self._now, instant)
        self._stands = 0

    def _run_once(self) -> None:
        ready: Any = self._ready  # type: ignore[attr-defined]
        timers: Any = self._scheduled  # type: ignore[attr-defined]
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False
        if not ready:
            if not timers:
                if self._stopping:  # type: ignore[attr-defined]
                    return
                raise Runaway("nothing is ready, and no timer is set")
            self._move(timers[0]._when)
        if self._stands > _STANDING and timers:
            # Real time goes on while anyio cancels a task that waits for one which takes its time.
            self._move(timers[0]._when)
        due: list[Any] = []
        while timers and timers[0]._when <= self._now:
            handle = heapq.heappop(timers)
            handle._scheduled = False
            if not handle._cancelled:
                due.append(handle)
        if len(due) > 1:
            due.sort(key=lambda timer: self._order[id(timer)])
        ready.extend(due)
        self._ran += 1
        if self._ran > _MOST:
            raise Runaway(f"{_MOST} steps and no end")
        if not ready:
            return
        handle = ready[0]
        if len(ready) > 1:
            # A cancellation that anyio delivers again and again must not keep the tasks from hearing of it.
            tasks = [each for each in ready if _is_step(each)] if self._since > _PATIENCE else ()
            handle = min(tasks or ready, key=self._rank)
            ready.remove(handle)
        else:
            ready.popleft()
        if handle._cancelled:
            return
        owner = getattr(handle._callback, "__self__", None)
        if not isinstance(owner, asyncio.Task):
            name = getattr(handle._callback, "__name__", "")
            code, times = self._names.get(name) or (zlib.crc32(name.encode()), 0)
            self._names[name] = code, times + 1
            if name != _WHEEL:
                self._since += 1
                self._stands += 1
            handle._run()
            return
        self._since = 0
        self._stands += 1
        number = self.number_of(owner)
        step = self.steps[owner] = self.steps[owner] + 1
        if self.before and (act := self.before.pop((number, step), None)):
            act()
        handle._run()
        if self.after and (act := self.after.pop((number, step), None)) and not owner.done():
            act()


class _Steps(trio.abc.Instrument):
    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {}
        self.steps: dict[Any, int] = {}
        self.before: dict[tuple[int, int], Callable[[], None]] = {}
        self.after: dict[tuple[int, int], Callable[[], None]] = {}
        self.ran = 0

    def number_of(self, task: Any) -> int:
        self.steps.setdefault(task, 0)
        return self.numbers.setdefault(task, len(self.numbers))

    def before_task_step(self, task: Any) -> None:
        number = self.number_of(task)
        self.steps[task] = step = self.steps[task] + 1
        self.ran += 1
        if self.ran > _MOST:
            raise Runaway(f"{_MOST} steps and no end")
        if self.before and (act := self.before.pop((number, step), None)):
            act()

    def after_task_step(self, task: Any) -> None:
        if self.after and (act := self.after.pop((self.number_of(task), self.steps[task]), None)):
            act()


def run_trio(seed: int, main: Callable[[Any, Any], Any]) -> None:
    """Run *main*, which gets the counters of steps and the clock, in virtual time and in the order of *seed*."""
    steps, clock = _Steps(), trio.testing.MockClock(autojump_threshold=0)
    before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    trio_run._r.seed(seed)
    try:
        trio.run(main, steps, clock, clock=clock, instruments=[steps])
    finally:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = before  # type: ignore[misc]
