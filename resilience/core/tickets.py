"""
Leave to run one call, and the register of calls that are watched for running too long.

Being watched costs a call that does not run too long next to nothing: on its way in it puts itself into a plain dict,
on its way out it takes itself out. Equal thresholds make the order of starting the order of falling due, so the front
of the dict tells until when nobody can be late, and before that instant nobody has to look.

Why queues behind the dict: what was deleted at the front of a dict is stepped over by whoever looks there, until the
dict is built anew. So who looks takes along all that have run for half a threshold, and the next look is half a
threshold away. The front of a queue costs nothing.

Safe for threads under the GIL: one looks at a time (``turn``), and it is one step of one thread that takes a call out.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from resilience.core.generations import Closed, HalfOpen
    from resilience.core.trips import Record

__all__ = ["Ticket", "Watch"]


@final
class Ticket:
    """
    Leave to run one call; it settles once.

    ``owner`` is the task that holds a seat of a half-open generation. A ticket without effect (a ride on a permit that
    the task holds already, or a disabled circuit) has ``generation`` None. ``overdue``: what was counted of the call
    while it ran, and where.
    """

    __slots__ = ("generation", "overdue", "owner", "settled", "started")

    def __init__(
        self, generation: Closed | HalfOpen | None, started: float, owner: Hashable | None = None
    ) -> None:
        self.generation: Closed | HalfOpen | None = generation
        self.started: float = started
        self.owner: Hashable | None = owner
        self.settled: bool = False
        self.overdue: tuple[Record, object] | None = None


@final
class Watch:
    """
    The calls of one generation that are watched.

    Attributes:
        running: When each began, in that order: by its ticket, or by a number of its own if it has none.
        turn: One token; who pops it may look.
    """

    __slots__ = ("_gather_at", "_given", "_queues", "running", "turn")

    def __init__(self, thresholds: tuple[float, ...], now: float) -> None:
        self.running: dict[Ticket | int, float] = {}
        self.turn: list[None] = [None]
        self._queues: tuple[tuple[float, OrderedDict[Ticket, None]], ...] = tuple(
            (threshold, OrderedDict()) for threshold in thresholds
        )
        # Tickets of calls that came without one, by their number.
        self._given: dict[Ticket | int, Ticket] = {}
        self._gather_at: float = _just_before(now, thresholds[0])

    def __len__(self) -> int:
        """Calls of which something may still be found out."""
        return len(self.running) + len(self._queues[-1][1])

    def ticket_of(self, generation: Closed, key: int, started: float) -> Ticket:
        """Take out a call that came in without a ticket; it settles with this one."""
        if self.running.pop(key, None) is None:
            return self._given.pop(key)
        return Ticket(generation, started)

    def leave(self, ticket: Ticket) -> None:
        """It is watched no more."""
        self.running.pop(ticket, None)
        for _, queue in self._queues:
            queue.pop(ticket, None)

    def late(self, generation: Closed, now: float) -> Iterator[tuple[float, Ticket]]:
        """Who has reached a threshold by now, once for each, with the threshold; for who holds the turn."""
        self._gather(generation, now)
        for threshold, queue in self._queues:
            while (ticket := _front(queue)) is not None and now - ticket.started >= threshold:
                if queue.pop(ticket, ticket) is None:  # pragma: no branch - ended in another thread
                    yield threshold, ticket

    def clear_until(self) -> float:
        """Up to this instant nobody reaches a threshold; for who holds the turn."""
        until = self._gather_at
        for threshold, queue in self._queues:
            if (ticket := _front(queue)) is not None:
                until = min(until, _just_before(ticket.started, threshold))
        return until

    def _gather(self, generation: Closed, now: float) -> None:
        """Move those that have run for half of the first threshold to the queues."""
        if now < self._gather_at:
            return
        first = self._queues[0][0]
        long: list[tuple[Ticket | int, float]] = []
        oldest = now
        # Somebody may come or leave meanwhile, in another thread: then the next one who looks sees the rest.
        with suppress(RuntimeError):
            for key, started in self.running.items():
                if now - started < first / 2:
                    oldest = started
                    break
                long.append((key, started))
            self._gather_at = _just_before(oldest, first)
        for key, started in long:
            ticket = key if isinstance(key, Ticket) else Ticket(generation, started)
            # In this order, so that it can be found by who settles it at each moment.
            for _, queue in self._queues:
                queue[ticket] = None
            if ticket is not key:
                self._given[key] = ticket
            if self.running.pop(key, None) is None:  # pragma: no cover - another thread ended it
                self._given.pop(key, None)
                self.leave(ticket)


def _front(queue: OrderedDict[Ticket, None]) -> Ticket | None:
    while queue:
        try:
            return next(iter(queue))
        except (StopIteration, RuntimeError):  # pragma: no cover - another thread changed it
            continue
    return None


def _just_before(started: float, threshold: float) -> float:
    """An instant before which ``now - started >= threshold`` is false, however the sums are rounded."""
    return math.nextafter(started + math.nextafter(threshold, 0.0), -math.inf)
