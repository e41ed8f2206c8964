"""
Time that jumps: as soon as every task waits, it is the next thing's time.

On trio that is `trio.testing.MockClock`; on asyncio a loop whose selector does not sleep. The clocks of the policies
follow, so a break of 30 s passes together with the sleep that waits for it.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import sys
from asyncio.events import _get_running_loop as running_loop
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar, TypeVarTuple, final

import anyio

from resilience.clock import PROCESS_CLOCK, loop_time
from resilience.errors import ConfigurationError, brief
from resilience.loaded import loaded

__all__ = ["BACKENDS", "Backend", "ManualClock", "VirtualEventLoop", "follow", "run"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Backend: TypeAlias = Literal["asyncio", "asyncio+eager", "uvloop", "trio"]
BACKENDS: tuple[Backend, ...] = ("asyncio", "asyncio+eager", "uvloop", "trio")
"""What `run` can run on. uvloop keeps real time: it has no clock that could jump."""

_WALL_AT_ZERO = 1_700_000_000.0


@final
class ManualClock:
    """
    A clock that stands until it is told to move: for ``clock=`` of any policy, and for tests without an event loop.

    Args:
        start: The first reading, seconds. Default 1000.
    """

    __slots__ = ("_now",)
    never_raises: ClassVar[bool] = True

    def __init__(self, start: float = 1000.0) -> None:
        self._now = float(start)

    def __repr__(self) -> str:
        return f"ManualClock({self._now!r})"

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> float:
        """Move on, or back with a negative number; returns the new reading."""
        self._now += seconds
        return self._now

    def set(self, instant: float) -> None:
        """To any reading, as a broken clock would."""
        self._now = float(instant)


class _JumpingSelector:
    """A selector that never sleeps: where the loop would, its time moves on instead."""

    def __init__(self, inner: selectors.BaseSelector, loop: VirtualEventLoop) -> None:
        self._inner = inner
        self._loop = loop

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._inner, attribute)

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            return self._inner.select(None)  # nothing scheduled: a thread or a socket will wake it
        ready = self._inner.select(0)
        if not ready and timeout > 0:
            self._loop.jump(timeout)
        return ready


class VirtualEventLoop(asyncio.SelectorEventLoop):
    """
    An asyncio loop in virtual time, from 1000.0 s on.

    Real sockets and threads are served, but time does not wait for them: use it where only sleeps and deadlines matter.
    As a ``loop_factory`` it serves `asyncio.Runner`, `anyio.run` and the test plugins alike.
    """

    def __init__(self) -> None:
        self._virtual_now = 1000.0
        super().__init__()
        self._selector: Any = _JumpingSelector(self._selector, self)

    def time(self) -> float:
        return self._virtual_now

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109
        # Threads end in real time; the runner's limit of 300 s would be over, and warned of, at once.
        await super().shutdown_default_executor()

    def jump(self, seconds: float) -> None:
        """Time passes at once. To the earliest timer itself, so that no rounding leaves it a hair in the future."""
        scheduled = self._scheduled  # type: ignore[attr-defined]
        aim = self._virtual_now + seconds
        first = scheduled[0].when() if scheduled else math.inf
        self._virtual_now = max(self._virtual_now, min(aim, first))
        # The loop runs what is due before now + resolution; from 194 days on that sum would be now.
        self._clock_resolution = max(1e-9, 2 * math.ulp(self._virtual_now))


class _Here:
    """The time of the loop this code runs in; of the last one asked, outside of any."""

    def __init__(self) -> None:
        self._last = 1000.0

    def __call__(self) -> float:
        trio = loaded("trio")
        if running_loop() is not None or (trio is not None and trio.lowlevel.in_trio_run()):
            self._last = loop_time()
        return self._last


@contextmanager
def follow(clock: ManualClock | None = None) -> Iterator[None]:
    """
    While this holds, every policy without a ``clock=`` of its own follows *clock*, or the running loop's time.

    Process-wide: it is for a test that runs alone in its process. HTTP dates are read against the same time.
    """
    before = PROCESS_CLOCK.now, PROCESS_CLOCK.wall
    now = _Here() if clock is None else clock.now
    PROCESS_CLOCK.now = now
    PROCESS_CLOCK.wall = lambda: _WALL_AT_ZERO + now()
    try:
        yield
    finally:
        PROCESS_CLOCK.now, PROCESS_CLOCK.wall = before


def run(
    function: Callable[[*Ts], Awaitable[T]],
    *args: *Ts,
    backend: Backend = "asyncio",
    real: bool = False,
) -> T:
    """
    Run an async function to its end in virtual time.

    Args:
        function: Called with *args*.
        backend: One of `BACKENDS`. Default asyncio. On uvloop time is real.
        real: Real time on every backend. Default False.

    Raises:
        ConfigurationError: an unknown backend, or one this Python does not have.
        ModuleNotFoundError: trio or uvloop is not installed.
    """
    if backend not in BACKENDS:
        raise ConfigurationError(
            "run.backend", got=brief(backend), allowed=f"one of {', '.join(BACKENDS)}"
        )
    with follow():
        if backend == "trio":
            return anyio.run(_call, function, args, backend="trio", backend_options=_trio(real))
        factory: Callable[[], asyncio.AbstractEventLoop]
        if backend == "uvloop":
            import uvloop  # noqa: PLC0415 - an extra

            factory = uvloop.new_event_loop
        else:
            factory = asyncio.new_event_loop if real else VirtualEventLoop
        if backend == "asyncio+eager":
            factory = _eager(factory)
        options = {"loop_factory": factory}
        return anyio.run(_call, function, args, backend="asyncio", backend_options=options)


async def _call(function: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
    return await function(*args)


def _trio(real: bool) -> dict[str, Any]:  # noqa: FBT001 - run's own
    import trio.testing  # noqa: PLC0415 - an extra

    return {} if real else {"clock": trio.testing.MockClock(autojump_threshold=0)}


def _eager(
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> Callable[[], asyncio.AbstractEventLoop]:
    if sys.version_info < (3, 12):
        raise ConfigurationError(
            "run.backend",
            got="'asyncio+eager'",
            allowed="another one: eager tasks came with Python 3.12",
        )

    def made() -> asyncio.AbstractEventLoop:
        loop = factory()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    return made
