"""
Events for asynchronous consumers: a bounded queue between those who must not wait and one who may.

A listener is called in the middle of somebody's call, in any thread, and must not block. So it appends and leaves; the
consumer's loop is only woken. When the consumer is too slow something has to go: what, is the user's choice,
and counted.
"""

from __future__ import annotations

import contextlib
from asyncio import current_task
from asyncio.events import _get_running_loop as running_loop
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, Self, final

import anyio
import anyio.lowlevel

from resilience.events import Event, Subscription, listen, seldom
from resilience.loaded import loaded
from resilience.validation import check, count, flag, one_of

__all__ = ["EventQueue"]

_DROP = one_of(
    "'oldest' or 'newest'",
    lambda value: value in ("oldest", "newest"),
    {"other": "all", "none": None, "boolean": True},
)


@final
class EventQueue:
    """
    A listener to be entered and iterated over: ``async with EventQueue() as events: async for event in events: ...``.

    Any thread may publish; the consumers are tasks of the loop, of asyncio or trio, that entered it. Outside the block
    it hears nothing. Leaving the block ends the iteration.

    Args:
        limit: Events that wait, >= 1. Default 1,000.
        drop: Which event goes when it is full: ``"oldest"`` (the default) or ``"newest"``.
        listens_to: Classes of events. Default: all but the per-call ones.
        everywhere: Listen to the whole process within the block. Default True; False for a queue that stands in the
            ``listeners`` of pipelines.

    Attributes:
        dropped: How many events went because it was full.
    """

    def __init__(
        self,
        limit: int = 1000,
        *,
        drop: Literal["oldest", "newest"] = "oldest",
        listens_to: tuple[type[Event], ...] = (),
        everywhere: bool = True,
    ) -> None:
        check("EventQueue.limit", limit, count())
        check("EventQueue.drop", drop, _DROP)
        check("EventQueue.everywhere", everywhere, flag())
        self.listens_to: tuple[type[Event], ...] = listens_to or seldom()
        self.dropped: int = 0
        self._limit = limit
        self._drop_oldest = drop == "oldest"
        self._everywhere = everywhere
        self._items: deque[Event] = deque()
        self._news: anyio.Event | None = None
        self._wake: Callable[[Callable[[], None]], Any] | None = None
        self._subscription: Subscription | None = None

    def __call__(self, event: Event, /) -> None:
        items, wake = self._items, self._wake
        if wake is None:
            return
        if not self._drop_oldest and len(items) >= self._limit:
            self.dropped += 1
            return
        items.append(event)
        while len(items) > self._limit:
            with contextlib.suppress(IndexError):  # another thread, or the consumer, took it
                items.popleft()
                self.dropped += 1
        news = self._news
        if news is not None:
            self._news = None
            # The loop may be gone without having left the block.
            with contextlib.suppress(RuntimeError):
                wake(news.set)

    def __len__(self) -> int:
        return len(self._items)

    async def __aenter__(self) -> Self:
        if self._wake is not None:
            raise RuntimeError("an EventQueue is entered once at a time")
        await anyio.lowlevel.checkpoint()
        self._items.clear()
        self._wake = _waker()
        if self._everywhere:
            self._subscription = listen(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._subscription is not None:
            self._subscription.stop()
        self._wake = self._subscription = None
        if self._news is not None:
            self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while True:
            # Before the event is taken, so that a cancellation here loses none.
            await anyio.lowlevel.checkpoint()
            with contextlib.suppress(IndexError):
                return self._items.popleft()
            if self._wake is None:
                raise StopAsyncIteration
            news = self._news
            if news is None:
                news = self._news = anyio.Event()
            # Looked at again, as somebody may have published before there was anything to set.
            if not self._items:
                await news.wait()


def _waker() -> Callable[[Callable[[], None]], Any]:
    """How other threads reach the loop that runs this task."""
    loop = running_loop()
    if loop is not None and current_task(loop) is not None:
        return loop.call_soon_threadsafe
    return loaded("trio").lowlevel.current_trio_token().run_sync_soon  # type: ignore[no-any-return]
