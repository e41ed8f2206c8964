"""
What further attempts may cost: a share of what succeeded lately, and a small reserve.

Why a share and not a count: three attempts are three times the load on a dependency that is down, however few callers
there are. Bought with successes, further attempts dry up as soon as nothing succeeds. Those asleep in back-off have
paid already; a ledger that counted them when they start would overshoot in the storm it is for.

Why no lock: a success is one ``slot.successes += 1``, straight-line code. Who wants an attempt takes a place first and
looks then, so that of several threads no two are given the last place; in a tie both may be refused.

Time comes in as ``now``, seconds on any monotonic clock, and is cut into ten slots of the time to live. Finagle's
``RetryBudget`` and tower's ``TpsBudget``, which buy with requests; bought with successes as in gRPC's throttling (A6).
"""

from __future__ import annotations

import sys
import threading

__all__ = ["LEDGER", "Ledger", "LockedLedger", "Slot"]

_SLOTS = 10
# From the 64th success of a slot on, the clock is read for one in 16: up to 15 may count for the slot before.
_EXACT = 64
_STRIDE = 16
_ROUNDING = 1e-6


class Slot:
    """What happened in a tenth of the time to live; ``edge``: at so many successes the clock is to be read again."""

    __slots__ = ("edge", "number", "spent", "successes")

    def __init__(self, number: int) -> None:
        self.number: int = number
        self.successes: int = 0
        self.spent: int = 0
        self.edge: int = 0


class Ledger:
    """
    Successes, what was bought with them, and who is asleep.

    A success is counted by its caller: ``slot = ledger.current; if slot.successes >= slot.edge: slot =
    ledger.turn(now); slot.successes += 1``.

    Args:
        ratio: Attempts that one success buys, >= 0.
        minimum_per_second: Attempts per second that are free, >= 0.
        ttl: Seconds that what is counted lives, > 0.
    """

    __slots__ = (
        "_free",
        "_latest",
        "_origin",
        "_ratio",
        "_slots",
        "_width",
        "asleep",
        "current",
        "refused",
    )

    def __init__(self, ratio: float, minimum_per_second: float, ttl: float) -> None:
        self._ratio = ratio
        self._free = minimum_per_second * ttl
        self._width = ttl / _SLOTS
        self._origin: float | None = None
        self._latest = Slot(0)
        # By number; those that have died are dropped when the next one begins.
        self._slots: dict[int, Slot] = {0: self._latest}
        self.current: Slot = self._latest
        self.asleep: int = 0
        self.refused: int = 0

    def turn(self, now: float) -> Slot:
        """The slot in which a success at *now* is counted."""
        self.current = self._at(now)
        return self.current

    def _at(self, now: float) -> Slot:
        """The slot of this instant; the latest one if time runs backwards."""
        if self._origin is None:
            self._origin = now
        slot = self._latest
        number = int((now - self._origin) // self._width)
        if number > slot.number:
            slots = self._slots
            slot = slots.setdefault(number, Slot(number))
            for old in [each for each in list(slots) if each <= number - _SLOTS]:
                slots.pop(old, None)
            self._latest = slot
        slot.edge = slot.successes + (_STRIDE if slot.successes >= _EXACT else 0)
        return slot

    def counts(self, now: float) -> tuple[int, int]:
        """Successes, and attempts begun, that are alive."""
        oldest = self._at(now).number - _SLOTS
        alive = [each for each in list(self._slots.values()) if each.number > oldest]
        return sum(each.successes for each in alive), sum(each.spent for each in alive)

    def room(self, now: float) -> float:
        """Attempts that may still be bought; below 0 where the successes that paid for some have died."""
        successes, spent = self.counts(now)
        return self._ratio * successes + self._free - spent - self.asleep

    def take(self, now: float) -> bool:
        """Whether one more attempt may be made; it counts as asleep until `start` or `give_back`."""
        self.asleep += 1
        if self.room(now) >= -_ROUNDING:
            return True
        self.asleep -= 1
        self.refused += 1
        return False

    def start(self, now: float) -> None:
        """One that was asleep makes its attempt."""
        slot = self._at(now)
        slot.spent += 1
        self.asleep -= 1

    def give_back(self) -> None:
        """One that was asleep makes no attempt."""
        self.asleep -= 1


class LockedLedger(Ledger):
    """The same, one step at a time under a lock, for interpreters without a GIL."""

    __slots__ = ("_lock",)

    def __init__(self, ratio: float, minimum_per_second: float, ttl: float) -> None:
        self._lock = threading.RLock()
        super().__init__(ratio, minimum_per_second, ttl)
        # Full from the beginning: who has a success to count comes to `turn`.
        self.current: Slot = Slot(0)

    def turn(self, now: float) -> Slot:
        with self._lock:
            slot = self._at(now)
            slot.successes += 1
        return Slot(0)  # it is counted already

    def counts(self, now: float) -> tuple[int, int]:
        with self._lock:
            return super().counts(now)

    def take(self, now: float) -> bool:
        with self._lock:
            return super().take(now)

    def start(self, now: float) -> None:
        with self._lock:
            super().start(now)

    def give_back(self) -> None:
        with self._lock:
            super().give_back()


LEDGER: type[Ledger] = Ledger if getattr(sys, "_is_gil_enabled", lambda: True)() else LockedLedger
