"""
What a throttle knows: how much was asked of a dependency in the last minutes, and how much of it was accepted.

The rule is the one of the SRE book: turn away the share ``(requests - k * accepts) / (requests + 1)``. Requests count
as they end, those that were turned away here at once; a call that says nothing about the dependency counts for nothing.
Where calls have priorities, the share falls on the least important ones first.

Why sums of what is past are kept: a call then adds a few numbers, however long the window is. They are made anew when
a slot begins, from all slots, so nothing drifts. What threads share is written by straight-line ``+=`` and single
assignments, as in `resilience.core.circuit`; a slot is begun by whoever wins ``turn.pop()``.

Beyer et al., *Site Reliability Engineering*, ch. 21, "Client-side throttling".
"""

from __future__ import annotations

__all__ = ["LEVELS", "Load", "Slot", "rejection_probability"]

LEVELS = 10
"""Priorities there are, from 0 to one less."""

_SLOTS = 10


def rejection_probability(requests: float, accepts: float, k: float) -> float:
    """The share of calls to turn away, in [0, 1)."""
    return max(0.0, (requests - k * accepts) / (requests + 1))


class Slot:
    """What ended in one part of the window."""

    __slots__ = ("accepts", "levels", "requests", "until")

    def __init__(self, until: float) -> None:
        self.until: float = until
        self.requests: int = 0
        self.accepts: int = 0
        self.levels: list[int] = [0] * LEVELS


class Load:
    """
    Requests and accepts of the last *seconds*.

    Attributes:
        edge: The instant from which `roll` has something to do.
    """

    __slots__ = ("_past", "_seconds", "_slots", "_turn", "current", "edge")

    def __init__(self, seconds: float, now: float) -> None:
        self._seconds = seconds
        self._slots: list[Slot] = []
        self._turn: list[None] = [None]
        self._past: Slot = Slot(now)
        self.current: Slot = Slot(now + seconds / _SLOTS)
        self.edge: float = self.current.until

    def roll(self, now: float) -> None:
        """Begin another slot, if the current one is over, and forget what is too old."""
        try:
            self._turn.pop()
        except IndexError:  # pragma: no cover - another thread does it
            return
        try:
            if now < self.edge:  # pragma: no cover - another thread has done it
                return
            ended, oldest = self.current, now - self._seconds
            self._slots = [each for each in (*self._slots, ended) if each.until > oldest]
            past = Slot(now)
            for each in self._slots:
                past.requests += each.requests
                past.accepts += each.accepts
                past.levels = [a + b for a, b in zip(past.levels, each.levels, strict=True)]
            length = self._seconds / _SLOTS
            # Aligned to the first one, so that ends do not drift with the calls.
            self.current = Slot(ended.until + ((now - ended.until) // length + 1) * length)
            self._past = past
            self.edge = self.current.until
        finally:
            self._turn.append(None)

    def count(self, level: int, *, accepted: bool) -> None:
        """A request of this priority ended, or was turned away here."""
        slot = self.current
        slot.requests += 1
        slot.levels[level] += 1
        if accepted:
            slot.accepts += 1

    @property
    def requests(self) -> int:
        """In the window."""
        return self._past.requests + self.current.requests

    @property
    def accepts(self) -> int:
        """In the window."""
        return self._past.accepts + self.current.accepts

    def probability(self, level: int, k: float, most: float) -> float:
        """
        The share of calls of this priority to turn away, at most *most*.

        The least important are turned away first: what their share of the requests cannot take falls on the next.
        """
        requests = self.requests
        whole = min(most, rejection_probability(requests, self.accepts, k))
        if whole == 0.0:
            return 0.0
        levels = [a + b for a, b in zip(self._past.levels, self.current.levels, strict=True)]
        left = whole * requests - most * sum(levels[:level])
        if left <= 0:
            return 0.0
        return min(most, left / levels[level]) if levels[level] else most
