"""
A line of those who wait: first come, first served, and nobody is forgotten or served twice.

It knows no loop: who waits is a `Waiting`, which can be woken. A gate is a line with something to hand out: `Places`,
here, are a bulkhead's; `resilience.core.buckets` has a rate limit's.

Why no lock. What threads share is written by these operations and no others, and the interpreter interrupts none of
them under the GIL (a test reads the bytecode of each Python version):

- one statement that looks and takes, as ``self.taken += (free := self.taken < self.limit)``: no call stands between its
  first read and its write. It is one line because a tracer may run something between two;
- setting, and removing, one key of an ordered dict. Who removes a waiter decides what becomes of it: it is handed what
  it waits for, or it leaves;
- ``turn.pop()`` on a list of one: one thread at a time hands out. Another that has something to hand out meanwhile
  knocks and goes, and who has the turn looks again. So a finalizer or a signal handler that gives a place back in the
  middle of this cannot deadlock.

Without a GIL that does not hold; `locked` makes the class to be used there.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar, cast

__all__ = ["GIL", "PLACES", "Line", "Places", "Waiting", "locked"]

GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether one statement is one step."""

_GONE = object()


class Waiting(Protocol):
    """
    Who stands in a line. One of it stands in one line, once.

    Attributes:
        weight: How much it asks for, >= 1.
        handed: Not empty: what it waits for is its own.
        refused: It was sent away: what it waits for cannot come in time any more.

    ``wake()`` has it look at *handed* and *refused*; from any thread. False: it never will, its loop is gone.
    """

    weight: int
    handed: list[None]
    refused: bool

    def wake(self) -> bool: ...


class Line:
    """
    Who waits, oldest first. All methods are synchronous and safe in any thread; each costs the same at any length.

    Attributes:
        waiting: How many.
        queued: How much they ask for together.
    """

    __slots__ = ("__weakref__", "_knocked", "_order", "_turn", "queued", "waiting")

    plain = True

    def __init__(self) -> None:
        self.waiting: int = 0
        self.queued: int = 0
        self._order: OrderedDict[Any, None] = OrderedDict()
        self._turn: list[None] = [None]
        self._knocked: bool = False

    # What a gate has to say.

    def _take_for_first(self, weight: int, now: float) -> bool:
        """Take it for who is first in line, if it is there."""
        raise NotImplementedError  # pragma: no cover - each gate says it

    def _put_back(self, weight: int) -> None:
        """What was taken and is not used."""
        raise NotImplementedError  # pragma: no cover - each gate says it

    # What everyone may do.

    def first(self) -> Any:
        """Who is next, or None."""
        while True:
            try:
                return next(iter(self._order), None)
            except (
                RuntimeError
            ):  # pragma: no cover - another thread changed it between iter and next
                continue

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._order))

    def advance(self, now: float = 0.0) -> None:
        """Hand out what is there, in order."""
        self._knocked = True
        while self._knocked:
            try:
                self._turn.pop()
            except IndexError:
                return  # who has the turn has not looked at *knocked* yet
            try:
                self._knocked = False
                self._hand_out(now)
            finally:
                self._turn.append(None)

    def _hand_out(self, now: float) -> None:
        while (first := self.first()) is not None and self._take_for_first(first.weight, now):
            # Before it is out of the line: who finds itself out looks here.
            first.handed.append(None)
            if not self.withdraw(first):
                first.handed.pop()
                self._put_back(first.weight)
            elif not first.wake():
                self._reclaim(first)

    def _reclaim(self, waiter: Waiting) -> None:
        try:
            waiter.handed.pop()
        except IndexError:
            return  # it was given back already
        self._put_back(waiter.weight)

    def _enter(self, waiter: Waiting) -> None:
        self._order[waiter] = None

    def withdraw(self, waiter: Waiting) -> bool:
        """Whether *waiter* stood in the line, and no longer does."""
        if self._order.pop(waiter, _GONE) is _GONE:
            return False
        self.waiting -= 1
        self.queued -= waiter.weight
        return True

    def leave(self, waiter: Waiting, now: float = 0.0) -> None:
        """Out of the line; what was handed over at the last moment goes to the next."""
        if not self.withdraw(waiter):
            self._reclaim(waiter)
        self.advance(now)

    def send_away(self, waiter: Waiting) -> bool:
        """Refuse who waits already; whether it still did."""
        waiter.refused = True
        if self.withdraw(waiter):
            waiter.wake()
            return True
        waiter.refused = False
        return False


class Places(Line):
    """
    Places to be taken and given back, with a line for those who find none.

    Args:
        limit: How many there are, >= 0.
        queue: How many may wait, >= 0.

    Attributes:
        taken: Places taken, those handed to who has not gone on yet included.
        rejected: Callers turned away since it was made.
    """

    __slots__ = ("limit", "queue", "rejected", "taken")

    waiting: int
    queued: int

    def __init__(self, limit: int, queue: int) -> None:
        super().__init__()
        self.limit: int = limit
        self.queue: int = queue
        self.taken: int = 0
        self.rejected: int = 0

    def take(self, weight: int = 1) -> bool:
        """Take that much now, if it is free and nobody waits."""
        self.taken += weight * (free := not self.waiting and self.taken + weight <= self.limit)  # fmt: skip
        return free

    def give(self, weight: int = 1) -> None:
        """Give back what was taken; who waits gets it."""
        self.taken -= weight
        if self.waiting:
            self.advance()

    def join(self, waiter: Waiting) -> bool:
        """
        Stand in line, if there is room. To be followed by `advance`: a place may have become free meanwhile.

        More than all places together is not waited for.
        """
        if waiter.weight > self.limit:
            return False
        self.waiting += (room := self.waiting < self.queue)
        if room:
            self.queued += waiter.weight
            self._enter(waiter)
        return room

    def change(self, limit: int, queue: int) -> None:
        """
        Other numbers from now on. What is taken stays taken, and who waits goes on waiting.

        Except for those who ask for more than there is now.
        """
        self.limit, self.queue = limit, queue
        for waiter in self:
            if waiter.weight > limit:
                self.send_away(waiter)
        self.advance()

    def reject(self) -> None:
        """Count one who was turned away."""
        self.rejected += 1

    def _take_for_first(self, weight: int, now: float) -> bool:  # noqa: ARG002 - places do not depend on time
        self.taken += weight * (free := self.taken + weight <= self.limit)
        return free

    def _put_back(self, weight: int) -> None:
        self.taken -= weight


L = TypeVar("L", bound=Line)


def locked(kind: type[L]) -> type[L]:
    """The same gate, one step at a time under a lock, for interpreters without a GIL."""

    def step(name: str) -> Callable[..., Any]:
        method = getattr(kind, name)

        def under_lock(self: Any, *args: Any) -> Any:
            with self._lock:
                return method(self, *args)

        return under_lock

    def made(self: Any, *args: Any) -> None:
        self._lock = threading.RLock()
        kind.__init__(self, *args)

    steps: dict[str, Any] = {
        name: step(name)
        for name in dir(kind)
        if not name.startswith("_") and callable(getattr(kind, name))
    }
    steps |= {"__slots__": ("_lock",), "__init__": made, "plain": False}
    return cast("type[L]", type(f"Locked{kind.__name__}", (kind,), steps))


PLACES: type[Places] = Places if GIL else locked(Places)
