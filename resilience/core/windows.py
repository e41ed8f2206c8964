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
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias, final

import attrs

from resilience.errors import ConfigurationError
from resilience.validation import as_seconds, count, duration

__all__ = ["CountWindow", "Counts", "Span", "Tally", "TimeWindow", "Window"]


class Counts(NamedTuple):  # which is made in half the time of a frozen class
    """What a window holds: calls in it, and how many of them were hits (failures or slow calls)."""

    calls: int
    hits: int


# As Counts(calls, hits), without the frame of its constructor.
_counts: Any = partial(tuple.__new__, Counts)


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
    """``_positions``: of hits, and of what is neither a hit nor a success (it may be taken back too)."""

    __slots__ = ("_positions", "_size", "edge")

    def __init__(self, size: int) -> None:
        self._size = size
        self._positions: dict[bool, _Positions] = {}  # made when there is one: most never fail
        self.edge = math.inf

    def _of(self, hit: bool) -> _Positions:  # noqa: FBT001 - the key
        found = self._positions.get(hit)
        return self._positions.setdefault(hit, _Positions()) if found is None else found

    def roll(self, tally: Tally, now: float) -> None:
        """Nothing rolls."""

    def record(self, tally: Tally, now: float, *, hit: bool, success: bool) -> tuple[int, int]:  # noqa: ARG002
        position = tally.successes + tally.others
        if hit or not success:
            self._of(hit).add(position)
        return position, 0

    def retract(self, place: tuple[int, int], *, hit: bool) -> None:
        # The position stays taken: later records lie behind it and must not move.
        self._of(hit).drop(place[0])

    def read(self, tally: Tally, now: float) -> Counts:  # noqa: ARG002
        position = tally.successes + tally.others
        limit = position - self._size
        hits, taken_back = 0, 0
        for hit, positions in tuple(self._positions.items()):
            there, dropped = positions.behind(limit)
            taken_back += dropped
            if hit:
                hits = there
        return Counts(min(position, self._size) - taken_back, hits)


@final
class _TimeSpan:
    """
    Three rings in one list, made when something is to be written to it.

    By bucket number modulo the number of buckets: what the success counter read when the bucket began, the hits in it,
    the calls in it that are no success.
    """

    __slots__ = (
        "_begin", "_bucket", "_buckets", "_hits_sum", "_others_sum", "_ring", "_turn", "_width", "edge",
    )  # fmt: skip

    def __init__(self, seconds: float, buckets: int, now: float) -> None:
        self._width = seconds / buckets
        self._buckets = buckets
        self._begin = now
        self._bucket = 0
        self._ring: list[int] = []
        self._hits_sum = 0
        self._others_sum = 0
        self._turn = [None]
        self.edge = now + self._width

    def _made(self) -> list[int]:
        ring = self._ring
        if not ring:  # two threads may find it so: then it is longer than it need be
            ring.extend([0] * (3 * self._buckets))
        return ring

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
            reached, ring, buckets = tally.successes, self._made(), self._buckets
            # An idle day passes more buckets than there are: one sweep of the ring empties it.
            for number in range(max(self._bucket + 1, bucket - self._buckets + 1), bucket + 1):
                slot = number % buckets
                ring[slot] = reached
                self._hits_sum -= ring[buckets + slot]
                self._others_sum -= ring[2 * buckets + slot]
                ring[buckets + slot] = ring[2 * buckets + slot] = 0
            self._bucket = bucket
            self.edge = self._begin + (bucket + 1) * self._width
        finally:
            self._turn.append(None)

    def record(self, tally: Tally, now: float, *, hit: bool, success: bool) -> tuple[int, int]:
        if now >= self.edge:
            self.roll(tally, now)
        bucket, buckets, ring = self._bucket, self._buckets, self._ring or self._made()
        slot = buckets + bucket % buckets
        if hit:
            ring[slot] += 1
            self._hits_sum += 1
        if not success:
            ring[buckets + slot] += 1
            self._others_sum += 1
        return 0, bucket

    def retract(self, place: tuple[int, int], *, hit: bool) -> None:
        bucket = place[1]
        if bucket <= self._bucket - self._buckets:
            return
        buckets, ring = self._buckets, self._ring
        slot = buckets + bucket % buckets
        ring[buckets + slot] -= 1
        self._others_sum -= 1
        if hit:
            ring[slot] -= 1
            self._hits_sum -= 1

    def read(self, tally: Tally, now: float) -> Counts:
        if now >= self.edge:
            self.roll(tally, now)
        ring = self._ring
        oldest = ring[(self._bucket + 1) % self._buckets] if ring else 0
        calls = tally.successes - oldest + self._others_sum
        return _counts((calls, self._hits_sum))  # type: ignore[no-any-return]
