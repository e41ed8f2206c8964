"""
Who waits for which call in flight, on one loop.

A flight is in the table from its start until it lands or its last caller has left, so nobody joins one that is being
cancelled. Flights may wait for one another, because a callee may ask for another key; `Flight.waits_for` finds the
circle that would never end.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, final

__all__ = ["Fleet", "Flight"]


@final
class Flight:
    """
    One call that several callers wait for.

    Attributes:
        key: What makes their calls the same.
        callers: How many wait.
        over: It has landed, or nobody waits for it any more.
        result, error: How it landed; kept while somebody waits.
        context: The error's own context, before anybody raised it.
        ahead: The flights that it waits for itself.
        work: What its owner needs to know of it.
    """

    __slots__ = (
        "ahead", "callers", "context", "error", "key", "over", "result", "traceback", "work",
    )  # fmt: skip

    def __init__(self, key: Hashable) -> None:
        self.key: Hashable = key
        self.work: Any = None
        self.callers: int = 0
        self.over: bool = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.context: BaseException | None = None
        self.traceback: Any = None
        self.ahead: list[Flight] = []

    def waits_for(self, other: Flight) -> bool:
        """Whether it cannot land before *other* has."""
        reached: list[Flight] = [self]
        for each in reached:
            if each is other:
                return True
            reached += [one for one in each.ahead if one not in reached]
        return False

    def landed(self, result: Any, error: BaseException | None) -> None:
        """It has ended; what came of it is for those who wait."""
        self.over = True
        if self.callers:
            self.result = result
            if error is not None:
                self.error = error
                self.context = error.__context__
                self.traceback = error.__traceback__

    def forget(self) -> None:
        """Nobody waits: an error whose traceback holds this flight must not be held by it."""
        self.result = self.error = self.context = self.traceback = None


@final
class Fleet:
    """The flights of one loop, by key."""

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: dict[Hashable, Flight] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def callers(self) -> int:
        """Callers that wait."""
        return sum(flight.callers for flight in [*self._by_key.values()])

    def find(self, key: Hashable) -> Flight | None:
        """The flight to join, if there is one."""
        return self._by_key.get(key)

    def start(self, key: Hashable) -> Flight:
        """A new flight, to be joined from now on."""
        flight = self._by_key[key] = Flight(key)
        return flight

    def land(self, flight: Flight, result: Any, error: BaseException | None) -> None:
        """It has ended."""
        flight.landed(result, error)
        self._remove(flight)

    def leave(self, flight: Flight, inside: Flight | None) -> bool:
        """A caller, itself *inside* another flight or in none, waits no longer; true: the flight is to be cancelled."""
        flight.callers -= 1
        if inside is not None:
            inside.ahead.remove(flight)
        if flight.callers:
            return False
        flight.forget()
        if flight.over:
            return False
        flight.over = True
        self._remove(flight)
        return True

    def join(self, flight: Flight, inside: Flight | None) -> None:
        """A caller, itself *inside* another flight or in none, waits."""
        flight.callers += 1
        if inside is not None:
            inside.ahead.append(flight)

    def _remove(self, flight: Flight) -> None:
        if self._by_key.get(flight.key) is flight:
            del self._by_key[flight.key]
