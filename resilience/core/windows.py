"""
How many of the latest calls were bad, exactly and in O(1), while a good call costs one increment.

Why nothing is stored for a success: the generation counts its successes in one attribute, and a window only needs to
know how many of them it holds. A count window keeps the *positions* of the bad calls (a position is the number of calls
recorded so far); what lies behind ``position - size`` has left. A time window keeps what that one counter read at the
start of each bucket; what has been counted since the oldest start is inside.

Buckets are aligned to the start of the window and never re-based, so that boundaries do not drift. A window of
``seconds`` holds the bucket that is filling and the ``buckets - 1`` before it: an outcome leaves it between
``seconds - seconds/buckets`` and ``seconds`` after it was recorded.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple, Protocol, TypeAlias, final

import attrs

from resilience.errors import ConfigurationError
from resilience.validation import as_seconds, count, duration

__all__ = ["CountWindow", "Counts", "Span", "Tally", "TimeWindow", "Window"]


class Counts(NamedTuple):  # which is made in half the time of a frozen class
    """What a window holds: calls in it, and how many of them were hits (failures or slow calls)."""

    calls: int
    hits: int


class Tally(Protocol):
    """The counters of one generation: successes, and positions taken by everything else."""

    successes: int
    others: int


class Span(Protocol):
    """A running window. ``edge`` is the instant from which `roll` has something to do."""

    edge: float

    def roll(self, tally: Tally, now: float) -> None: ...

    def record(self, tally: Tally, now: float, *, hit: bool, success: bool) -> tuple[int, int]:
        """Record what is not a plain success, after the tally counted it; returns where it was put."""
        ...

    def retract(self, place: tuple[int, int], *, hit: bool) -> None:
        """Take back a provisional record that was no success."""
        ...

    def read(self, tally: Tally, now: float) -> Counts: ...


@final
@attrs.frozen
class CountWindow:
    """
    The last calls, whenever they were.

    Args:
        calls: How many, >= 1.
    """

    calls: int = attrs.field(validator=count())

    def start(self, now: float) -> Span:  # noqa: ARG002 - a count window has no use for the time
        return _CountSpan(self.calls)


# Below that, clocks that count seconds in a float cannot tell one bucket from the next.
_NARROWEST = 1e-6


@final
@attrs.frozen
class TimeWindow:
    """
    The calls of the last seconds.

    Args:
        seconds: Length, > 0, or a timedelta.
        buckets: Slices it is counted in, >= 1. Default 10. More are more exact and cost memory, not time.
    """

    seconds: float = attrs.field(converter=as_seconds, validator=duration())
    buckets: int = attrs.field(default=10, validator=count(high=10**6))

    def __attrs_post_init__(self) -> None:
        if self.seconds / self.buckets < _NARROWEST:
            raise ConfigurationError(
                "TimeWindow.buckets",
                got=f"{self.buckets} in {self.seconds:g} seconds",
                allowed="few enough for a bucket to last a microsecond",
            )

    def start(self, now: float) -> Span:
        return _TimeSpan(self.seconds, self.buckets, now)


Window: TypeAlias = CountWindow | TimeWindow


@final
class _Positions:
    """Ascending positions, of which those behind a limit fall off. Safe for concurrent use under the GIL."""

    __slots__ = ("_dropped", "_queue")

    def __init__(self) -> None:
        self._queue: deque[int] = deque()
        self._dropped: set[int] = set()

    def add(self, position: int) -> None:
        self._queue.append(position)

    def drop(self, position: int) -> None:
        queue = self._queue
        if queue and position >= queue[0]:
            self._dropped.add(position)

    def behind(self, limit: int) -> tuple[int, int]:
        """How many remain above *limit*, and how many there were dropped."""
        queue, dropped = self._queue, self._dropped
        while queue:
            # Taken out and looked at in this order: another thread may have taken the one that we saw at the front.
            try:
                position = queue.popleft()
            except IndexError:  # pragma: no cover - lost a race between threads
                break
            if position > limit:
                queue.appendleft(position)
                break
            dropped.discard(position)
        return len(queue) - len(dropped), len(dropped)


@final
class _CountSpan:
    __slots__ = ("_hits", "_misses", "_size", "edge")

    def __init__(self, size: int) -> None:
        self._size = size
        self._hits = _Positions()
        self._misses = _Positions()  # what is neither a hit nor a success: it may be taken back too
        self.edge = math.inf

    def roll(self, tally: Tally, now: float) -> None:
        """Nothing rolls."""

    def record(self, tally: Tally, now: float, *, hit: bool, success: bool) -> tuple[int, int]:  # noqa: ARG002
        position = tally.successes + tally.others
        if hit:
            self._hits.add(position)
        elif not success:
            self._misses.add(position)
        return position, 0

    def retract(self, place: tuple[int, int], *, hit: bool) -> None:
        # The position stays taken: later records lie behind it and must not move.
        (self._hits if hit else self._misses).drop(place[0])

    def read(self, tally: Tally, now: float) -> Counts:  # noqa: ARG002
        position = tally.successes + tally.others
        limit = position - self._size
        hits, taken_back = self._hits.behind(limit)
        _, also_taken_back = self._misses.behind(limit)
        return Counts(min(position, self._size) - taken_back - also_taken_back, hits)


@final
class _TimeSpan:
    """
    ``_starts[0]`` is what the success counter read when the oldest bucket of the window began.

    The rings hold hits, and calls that are no success, by bucket number modulo the number of buckets.
    """

    __slots__ = (
        "_begin", "_bucket", "_buckets", "_hits", "_hits_sum",
        "_others", "_others_sum", "_starts", "_turn", "_width", "edge",
    )  # fmt: skip

    def __init__(self, seconds: float, buckets: int, now: float) -> None:
        self._width = seconds / buckets
        self._buckets = buckets
        self._begin = now
        self._bucket = 0
        self._starts: deque[int] = deque([0] * buckets, buckets)
        self._hits = [0] * buckets
        self._others = [0] * buckets
        self._hits_sum = 0
        self._others_sum = 0
        self._turn = [None]
        self.edge = now + self._width

    def roll(self, tally: Tally, now: float) -> None:
        if now < self.edge:
            return
        try:
            self._turn.pop()
        except IndexError:  # another thread is rolling
            return
        try:
            bucket = max(int((now - self._begin) / self._width), self._bucket)
            # Division and multiplication round differently; the edge is the definition.
            while now >= self._begin + (bucket + 1) * self._width:
                bucket += 1
            while bucket > self._bucket and now < self._begin + bucket * self._width:
                bucket -= 1
            reached = tally.successes
            # An idle day passes more buckets than there are: one sweep of the ring empties it.
            for number in range(max(self._bucket + 1, bucket - self._buckets + 1), bucket + 1):
                slot = number % self._buckets
                self._starts.append(reached)
                self._hits_sum -= self._hits[slot]
                self._others_sum -= self._others[slot]
                self._hits[slot] = self._others[slot] = 0
            self._bucket = bucket
            self.edge = self._begin + (bucket + 1) * self._width
        finally:
            self._turn.append(None)

    def record(self, tally: Tally, now: float, *, hit: bool, success: bool) -> tuple[int, int]:
        if now >= self.edge:
            self.roll(tally, now)
        bucket = self._bucket
        slot = bucket % self._buckets
        if hit:
            self._hits[slot] += 1
            self._hits_sum += 1
        if not success:
            self._others[slot] += 1
            self._others_sum += 1
        return 0, bucket

    def retract(self, place: tuple[int, int], *, hit: bool) -> None:
        bucket = place[1]
        if bucket <= self._bucket - self._buckets:
            return
        slot = bucket % self._buckets
        self._others[slot] -= 1
        self._others_sum -= 1
        if hit:
            self._hits[slot] -= 1
            self._hits_sum -= 1

    def read(self, tally: Tally, now: float) -> Counts:
        if now >= self.edge:
            self.roll(tally, now)
        return Counts(tally.successes - self._starts[0] + self._others_sum, self._hits_sum)
