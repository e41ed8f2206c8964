"""
A server with service slots and a bounded queue, as a model in the time of the running loop.

Why futures and timers and no task per request: the contenders are what is measured, so the model is as cheap as it can
be. What makes retries dangerous is in it: a client that leaves does not take its request back. The request keeps its
place in the queue and is worked on to the end, for nobody.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import attrs

from benchmarks.outcomes.plans import Plan, Span

__all__ = [
    "ROUND_TRIP",
    "Luck",
    "Server",
    "TooManyRequestsError",
    "UnavailableError",
    "erlang_work",
]

ROUND_TRIP = 0.001
"""Seconds until a refusal arrives."""


class UnavailableError(ConnectionError):
    """The server answered 503."""


class TooManyRequestsError(Exception):
    """The server answered 429; ``retry_after`` in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"429, Retry-After: {retry_after:g}")
        self.retry_after = retry_after


def erlang_work(rng: Random) -> float:
    """Work with mean 1 and a coefficient of variation of 0.5: neither constant nor wild."""
    return rng.gammavariate(4.0, 0.25)


@contextmanager
def failing_aloud() -> Iterator[None]:
    """
    An error in a callback of the running loop, which asyncio would only log, is raised when the block ends.

    A model that has broken down in silence would still give figures.
    """
    loop = asyncio.get_running_loop()
    failures: list[dict[str, Any]] = []
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    try:
        yield
    finally:
        loop.set_exception_handler(before)
    if failures:
        raise RuntimeError(f"a callback failed: {failures[0]['message']}") from failures[0].get(
            "exception"
        )


@attrs.frozen
class Draw:
    """What one request meets: its work in multiples of the mean, and two numbers in [0, 1)."""

    work: float
    luck: float
    place: float


class Luck:
    """
    Every attempt of every call, drawn beforehand: the same attempt has the same luck with every contender.

    Args:
        calls: How many calls there will be.
        seed: Of the draws.
        work: Draws the work of a request, mean 1. Default `erlang_work`.
        attempts: Attempts of one call with luck of their own; later ones start over. Default 4.
    """

    def __init__(
        self,
        calls: int,
        seed: int,
        work: Callable[[Random], float] = erlang_work,
        attempts: int = 4,
    ) -> None:
        rng = Random(seed)
        self._attempts = attempts
        self._draws = [Draw(work(rng), rng.random(), rng.random()) for _ in range(calls * attempts)]
        self._used = [0] * calls

    def draw(self, call: int) -> Draw:
        attempt = self._used[call] % self._attempts
        self._used[call] += 1
        return self._draws[call * self._attempts + attempt]


class Server:
    """
    Answers ``await server.request(call)`` as the plan says. To be made in a running loop; the plan begins then.

    Args:
        plan: What goes wrong, slots and queue.
        luck: Of the requests.

    Attributes:
        reached: Instants, seconds since the plan began, at which a request reached it: refused ones count.
        wasted: Requests that were worked on although nobody waited any more.
        busy: Slots in use.
        busy_seconds: Work done, in slot seconds.
    """

    def __init__(self, plan: Plan, luck: Luck) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._plan = plan
        self._luck = luck
        self._queue: deque[tuple[asyncio.Future[None], Draw]] = deque()
        self._running: dict[asyncio.Future[None], asyncio.TimerHandle] = {}
        self.reached: list[float] = []
        self.wasted = 0
        self.busy_seconds = 0.0
        first, *rest = plan.spans()
        self._span = first
        for span in rest:
            self._loop.call_at(self._began + span.start, self._enter, span)

    @property
    def now(self) -> float:
        """Seconds since the plan began."""
        return self._loop.time() - self._began

    @property
    def busy(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    async def request(self, call: int) -> None:
        """
        One request of this call.

        Raises:
            ConnectionError: refused, reset, or answered with an error (`UnavailableError`).
            TooManyRequestsError: the quota is spent.
        """
        self.reached.append(self.now)
        phase, draw = self._span.phase, self._luck.draw(call)
        if phase.spent:
            await asyncio.sleep(ROUND_TRIP)
            raise TooManyRequestsError(math.ceil(self._span.end - self.now))
        if draw.luck < phase.refused:
            await asyncio.sleep(ROUND_TRIP)
            raise ConnectionRefusedError
        answer: asyncio.Future[None] = self._loop.create_future()
        if draw.luck >= phase.silent:
            if self.busy >= self._slots and self.waiting >= self._plan.queue:
                await asyncio.sleep(ROUND_TRIP)
                raise UnavailableError("overloaded")
            self._queue.append((answer, draw))
            self._start()
        await answer

    @property
    def _slots(self) -> int:
        share = self._span.phase.slots
        return self._plan.slots if share == 1.0 else max(1, round(self._plan.slots * share))

    def _enter(self, span: Span) -> None:
        self._span = span
        if span.phase.refused >= 1.0:
            self._die()
        self._start()

    def _die(self) -> None:
        for timer in self._running.values():
            timer.cancel()
        held = [*self._running, *(answer for answer, _ in self._queue)]
        self._running.clear()
        self._queue.clear()
        for answer in held:
            if not answer.done():
                answer.set_exception(ConnectionResetError())

    def _start(self) -> None:
        while self._queue and self.busy < self._slots:
            answer, draw = self._queue.popleft()
            seconds = self._seconds(draw)
            self.busy_seconds += seconds
            self._running[answer] = self._loop.call_later(seconds, self._finish, answer, draw)

    def _seconds(self, draw: Draw) -> float:
        span = self._span
        share, shortest, longest = span.phase.tail
        if draw.luck >= 1.0 - share:
            return shortest + (longest - shortest) * draw.place
        first, last = span.phase.slower
        progress = (self.now - span.start) / (span.end - span.start)
        return draw.work * self._plan.work * (first + (last - first) * min(progress, 1.0))

    def _finish(self, answer: asyncio.Future[None], draw: Draw) -> None:
        del self._running[answer]
        if answer.done():  # cancelled: the client has left
            self.wasted += 1
        elif draw.luck < self._span.phase.errors:
            answer.set_exception(UnavailableError("failed"))
        else:
            answer.set_result(None)
        self._start()
