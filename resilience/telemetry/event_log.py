"""
The last events, to be looked at: on the operations page, in a test, in a debugger.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from typing import final

import attrs

from resilience.clock import PROCESS_CLOCK
from resilience.events import Event, seldom
from resilience.validation import check, count

__all__ = ["EventLog", "Logged"]


@final
@attrs.frozen
class Logged:
    """
    One entry of an `EventLog`.

    Attributes:
        number: From 1, growing by one with each event the log heard.
        wall: Seconds since the epoch, when it was heard.
        event: The event.
    """

    number: int
    wall: float
    event: Event


@final
class EventLog:
    """
    A listener that keeps the newest events and forgets the oldest: ``listen(EventLog())``, or in a pipeline.

    Any thread may write and read. Iterating goes from old to new over what is there at that moment.

    Args:
        limit: Events it keeps, >= 1. Default 1,000.
        listens_to: Classes of events. Default: all but the per-call ones.
    """

    def __init__(self, limit: int = 1000, *, listens_to: tuple[type[Event], ...] = ()) -> None:
        check("EventLog.limit", limit, count())
        self.listens_to: tuple[type[Event], ...] = listens_to or seldom()
        self._numbers = itertools.count(1)
        self._last = 0
        self._kept: deque[Logged] = deque(maxlen=limit)

    def __call__(self, event: Event, /) -> None:
        number = next(self._numbers)
        self._kept.append(Logged(number, PROCESS_CLOCK.wall(), event))
        self._last = number

    def __iter__(self) -> Iterator[Logged]:
        # One step, so that no writer comes between; iterating a deque that is written to raises.
        return iter(self._kept.copy())

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def forgotten(self) -> int:
        """How many were pushed out, or cleared away."""
        kept = self._kept.copy()
        return kept[0].number - 1 if kept else self._last

    def clear(self) -> None:
        """Forget them."""
        self._kept.clear()
