"""
Time and chance, the two things a policy may not make for itself.

Why one clock for the process and never a loop's: a breaker is shared by loops and threads whose clocks start at
different points, and an instant of one means nothing to the other. The default clock is an object with a slot, so that
``resilience.testing`` can put virtual time in while a test runs and nobody pays for the possibility.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import ClassVar, Protocol, final, runtime_checkable

from resilience.here import running_loop, task_of
from resilience.loaded import loaded

__all__ = [
    "PROCESS_CLOCK",
    "RNG",
    "CallableClock",
    "Clock",
    "ProcessClock",
    "Rng",
    "loop_time",
    "never_raises",
]


@runtime_checkable
class Clock(Protocol):
    """
    A monotonic clock: ``now()`` in seconds from any origin. It may be read from any thread.

    A class that says ``never_raises = True`` is read in the express lane as well; any other clock only by the steps,
    which give back what a call holds when it raises.
    """

    def now(self) -> float: ...


class Rng(Protocol):
    """A source of chance: ``random()`` in [0, 1). ``random.Random`` is one."""

    def random(self) -> float: ...


@final
class ProcessClock:
    """The default clock. ``now`` is `time.monotonic`, ``wall`` is `time.time` (for HTTP dates only)."""

    __slots__ = ("now", "wall")
    never_raises: ClassVar[bool] = True

    now: Callable[[], float]
    wall: Callable[[], float]

    def __init__(self) -> None:
        self.restore()

    def restore(self) -> None:
        """Back to real time."""
        self.now = time.monotonic
        self.wall = time.time


@final
class CallableClock:
    """A bare function such as `time.monotonic` in the place of a clock."""

    __slots__ = ("_now", "never_raises")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.never_raises: bool = any(now is each for each in _BUILT_IN)

    def __repr__(self) -> str:
        return repr(self._now)

    def now(self) -> float:
        return self._now()


_BUILT_IN = time.monotonic, time.perf_counter
PROCESS_CLOCK = ProcessClock()


def never_raises(clock: Clock) -> bool:
    """Whether it promises so."""
    return getattr(clock, "never_raises", False) is True


def loop_time() -> float:
    """The clock that sleeps and deadlines go by: of the running asyncio loop or of trio; real time outside of both."""
    loop = running_loop()
    trio = loaded("trio")
    # trio may be a guest of a running asyncio loop, and then no asyncio task is running.
    if trio is not None and trio.lowlevel.in_trio_run() and (loop is None or task_of(loop) is None):
        return trio.current_time()  # type: ignore[no-any-return]
    return time.monotonic() if loop is None else loop.time()


# Our own generator: a user's random.seed(0) must not synchronise the jitter of a fleet.
RNG = random.Random()  # noqa: S311 - jitter, not a secret

if hasattr(os, "register_at_fork"):  # pragma: no branch - absent on Windows only
    # Forked workers start with the parent's generator state and would all draw the same jitter.
    os.register_at_fork(after_in_child=RNG.seed)
