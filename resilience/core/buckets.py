"""
The bucket of a rate limit: so many at once, so many in a time, and never more, however it is asked.

Two descriptions, one rule: a token bucket that fills at a steady rate, and GCRA, the cell rate algorithm of ATM, which
keeps one instant, the *theoretical arrival time*, in the place of a level. With a burst of 1 calls are spaced out.

Why time is counted in tokens here: ``at`` is that instant times the rate. To take one token is to add exactly 1, so
nothing drifts, however long it runs. Why the line is not reserved in ``at``: a caller who leaves the middle of it then
simply is no longer there, and those behind move up at no cost. When each of them is due is worked out from what is
asked for before it.

One that asks for more than the bucket holds waits until what has run over since it became the first would have filled
a bucket large enough; it leaves an empty one.

What threads share is written as in `resilience.core.lines`: by single statements that look and take at once. Time comes
in as ``now``; where it stands still or runs backwards, nothing is gained. ITU-T I.371, annex A.
"""

from __future__ import annotations

from typing import Protocol

from resilience.call import GRAIN
from resilience.core.lines import GIL, Line, Waiting, locked

__all__ = ["BUCKET", "Bucket", "Patient"]


class Patient(Waiting, Protocol):
    """
    Who waits for tokens.

    Attributes:
        latest: Until when it waits, on the bucket's clock.
        look_at: When it comes to look by itself.
        nudged: It may look now; that was too late.
    """

    latest: float
    look_at: float
    nudged: bool


class Bucket(Line):
    """
    Tokens to be spent, with a line for those who find too few.

    Args:
        speed: Tokens a second, > 0.
        burst: Tokens it holds when full, >= 1.
        now: The instant it begins; full.

    Attributes:
        at: Where it would be full, on an axis of tokens: ``now * speed`` is the present, what lies beyond it is spent.
        room: What may be spent at once: the burst, and a grain for timers that come early.
        rejected: Callers turned away since it was made.
    """

    __slots__ = ("at", "burst", "rejected", "room", "speed")

    waiting: int
    queued: int

    def __init__(self, speed: float, burst: int, now: float) -> None:
        super().__init__()
        self.speed: float = speed
        self.burst: int = burst
        self.room: float = burst + GRAIN * speed
        self.at: float = now * speed
        self.rejected: int = 0

    # ------------------------------------------------------------------ calls

    def take(self, weight: int, now: float) -> bool:
        """Spend that much now, if it is there and nobody waits."""
        self.at += (
            spent := 0.0
            if self.waiting
            or weight > self.room
            or self.at + weight > (here := now * self.speed) + self.room
            else weight
            if self.at > here
            else here - self.at + weight
        )
        return spent > 0

    def join(self, waiter: Waiting, now: float, patience: float) -> bool:
        """
        Stand in line, if it is due within *patience* seconds. To be followed by `advance`.

        Nothing is spent by who is refused.
        """
        weight = waiter.weight
        self.waiting += 1  # from here on nobody takes what this one counts on
        # What a full bucket ran over before anybody waited is gone.
        self.at += 0.0 if self.queued or self.at > (here := now * self.speed) else here - self.at
        self.queued += (
            joined := weight
            if self.at + self.queued + weight <= (now + patience) * self.speed + self.room
            else 0
        )
        if joined:
            self._enter(waiter)
        else:
            self.waiting -= 1
        return joined > 0

    def reject(self) -> None:
        """Count one who was turned away."""
        self.rejected += 1

    # ---------------------------------------------------------------- reading

    def wait(self, weight: int, now: float) -> float:
        """Seconds until a newcomer would be served, behind all who wait; 0.0: at once."""
        here = now * self.speed
        at = self.at if self.queued or self.at > here else here
        missing = at + self.queued + weight - here
        return (missing - self.burst) / self.speed if missing > self.room else 0.0

    def retry_after(self, weight: int, now: float, patience: float) -> float | None:
        """
        Seconds after which who was refused now is served at once, if nobody else comes; None: never.

        More than the bucket holds is never there at once: then, after which it would wait no longer than *patience*.
        """
        if weight <= self.burst:
            return self.wait(weight, now)
        if (weight - self.burst) / self.speed > patience + GRAIN:
            return None
        return max(0.0, self.wait(weight, now) - patience)

    def due(self, weight: int, now: float) -> float:
        """Seconds until the first in line is served, if it asks for that much."""
        here = now * self.speed
        missing = self._level(weight, here) + weight - here
        return (missing - self.burst) / self.speed if missing > self.room else 0.0

    def level(self, now: float) -> float:
        """Tokens it holds, those for who waits included."""
        return min(float(self.burst), max(0.0, self.burst - self.at + now * self.speed))

    # -------------------------------------------------------------- by hand

    def drain(self, now: float) -> None:
        """Empty it; it fills again at its rate."""
        self.at += 0.0 if self.at > (empty := now * self.speed + self.burst) else empty - self.at
        self._send_away_who_cannot_wait(now)

    def change(self, speed: float, burst: int, now: float) -> None:
        """Another rate from now on. What is in the bucket stays, as far as it has room; who waits keeps its place."""
        room = burst + GRAIN * speed
        # Three at once are no tuple, and nothing comes between; `burst` is for reading.
        self.at, self.speed, self.room = (
            (now * speed + burst)
            - (
                burst
                if (left := self.burst if self.at < (here := now * self.speed) else self.burst - self.at + here) > burst
                else left
            ),
            speed,
            room,
        )  # fmt: skip
        self.burst = burst
        self._send_away_who_cannot_wait(now)

    def _send_away_who_cannot_wait(self, now: float) -> None:
        before = 0
        for waiter in self:
            before += waiter.weight
            due = (self.at + before - self.burst) / self.speed
            if due > waiter.latest + GRAIN and self.send_away(waiter):
                before -= waiter.weight
        self.advance(now)

    # --------------------------------------------------------------- the line

    def advance(self, now: float = 0.0) -> None:
        """Hand out what is there, in order; see that the first of those left looks in time."""
        super().advance(now)
        first: Patient | None = self.first()
        if first is not None and first.look_at > now + self.due(first.weight, now) + GRAIN:
            first.nudged = True
            first.wake()

    def _level(self, weight: int, here: float) -> float:
        """``at``, but no more than what the first in line may have gathered."""
        lowest = here - (weight - self.burst) if weight > self.burst else here
        return max(self.at, lowest)

    def _take_for_first(self, weight: int, now: float) -> bool:
        burst = self.burst
        self.at += (
            spent := 0.0
            if (
                at := self.at
                if self.at > (here := now * self.speed) - (weight - burst if weight > burst else 0)
                else here - (weight - burst if weight > burst else 0)
            )
            + weight
            > here + self.room
            else at - self.at + weight
        )
        return spent > 0

    def _put_back(self, weight: int) -> None:
        self.at -= weight


BUCKET: type[Bucket] = Bucket if GIL else locked(Bucket)
