"""
What a circuit is made of: its numbers, its generations, and the tickets that know which generation they belong to.

A generation is the circuit between two transitions, and the object that calls hold while they run. Everything here is
data with a few synchronous steps; `resilience.core.circuit` holds the rules that move from one to the next.
"""

from __future__ import annotations

import enum
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import final

import attrs

from resilience.core.trips import Meter, Record, Trip
from resilience.core.windows import Counts

__all__ = [
    "CircuitState", "Closed", "Disabled", "Generation", "HalfOpen", "Isolated",
    "Open", "Refusal", "Rules", "Ticket", "Totals", "Transition",
]  # fmt: skip


class CircuitState(enum.Enum):
    """What a circuit does with the next call."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    ISOLATED = "isolated"
    DISABLED = "disabled"
    OBSERVING = "observing"


@attrs.frozen(kw_only=True)
class Rules:
    """
    The numbers of one circuit, already checked.

    Attributes:
        trip: When it opens.
        break_after: Seconds of the n-th consecutive opening; called once per opening, never raises.
        probes: Calls in flight at once while half-open.
        successes_to_close: Successful probes that close it.
        probe_lease: Seconds after which a probe that still runs has failed.
        overdue_after: Seconds after which a call that still runs counts as a failure, or None.
        judges_results: A result may be a failure, too.
    """

    trip: Trip
    break_after: Callable[[int], float]
    probes: int
    successes_to_close: int
    probe_lease: float
    overdue_after: float | None
    judges_results: bool = False
    slow_after: float = attrs.field(init=False)
    doubtful_after: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        # slow_after: from here a call is slow. doubtful_after: from here a running probe has failed.
        slow = min(self.trip.slow_thresholds, default=math.inf)
        overdue = math.inf if self.overdue_after is None else self.overdue_after
        object.__setattr__(self, "slow_after", slow)
        object.__setattr__(self, "doubtful_after", min(slow, overdue, self.probe_lease))


@attrs.frozen(kw_only=True)
class Transition:
    """One move, for whoever announces it."""

    old: CircuitState
    new: CircuitState
    generation: int
    reason: str
    at: float
    break_duration: float | None
    failures: Counts
    slow: int
    last_failure: str | None
    last_text: str | None


@final
@attrs.define(unsafe_hash=True)  # frozen, it would take twice as long to make
class Refusal:
    """No permit: the state that refuses, and the seconds until it may not. Not to be changed."""

    state: CircuitState
    retry_after: float | None


@final
@attrs.define
class Totals:
    """Every outcome of a circuit's life, windows or not. ``successes`` lacks those of generations still alive."""

    successes: int = 0
    failures: int = 0
    ignored: int = 0
    slow: int = 0
    rejected: int = 0
    openings: int = 0


class Generation:
    """
    The circuit between two transitions.

    ``plain``: a call may run with the generation itself as its permit, no ticket needed. ``lane``: what the success of
    such a call is in the express lane; 0: it has to be looked at, 1: ``successes += 1``, 2: the same, after `roll`
    where ``edge`` has passed. ``turn`` holds one token; who pops it makes the transition out of here.
    """

    __slots__ = ("__weakref__", "number", "since", "turn")

    state: CircuitState
    plain = False
    lane = 0

    def __init__(self, number: int, since: float) -> None:
        self.number: int = number
        self.since: float = since
        self.turn: list[None] = [None]


@final
class Ticket:
    """
    Leave to run one call; it settles once.

    ``owner`` is the task that holds a seat of a half-open generation. A ticket without effect (a ride on a permit that
    the task holds already, or a disabled circuit) has ``generation`` None.
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


class Closed(Generation):
    """Calls pass and are counted. ``enforcing`` is False in the OBSERVING state."""

    __slots__ = (
        "_totals", "crossed", "edge", "failures", "lane", "meter", "others",
        "plain", "state", "successes", "watches",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        since: float,
        rules: Rules,
        totals: Totals,
        *,
        enforcing: bool,
        locked: bool,
    ) -> None:
        super().__init__(number, since)
        self._totals = totals
        self.state = CircuitState.CLOSED if enforcing else CircuitState.OBSERVING
        self.successes: int = 0
        self.failures: int = 0
        self.others: int = (
            0  # positions taken by what is no success: failures, and overdue records taken back
        )
        self.crossed: bool = False
        self.meter: Meter = rules.trip.start(since)
        self.edge: float = self.meter.edge
        thresholds = set(rules.trip.slow_thresholds)
        if rules.overdue_after is not None:
            thresholds.add(rules.overdue_after)
        # One queue per threshold: equal waits make the order of starting the order of falling due.
        self.watches: tuple[tuple[float, OrderedDict[Ticket, None]], ...] = tuple(
            (threshold, OrderedDict()) for threshold in sorted(thresholds)
        )
        self.plain: bool = not self.watches and not locked
        if self.plain and not rules.judges_results:
            self.lane: int = 2 if rules.trip.timed else 1
        else:
            self.lane = 0

    def __del__(self) -> None:
        # The last call that started here has ended: its count joins the lifetime totals.
        self._totals.successes += self.successes

    def roll(self, now: float) -> None:
        """Move the time windows on; due when ``now >= edge``, and a plain success must ask before it counts."""
        self.meter.roll(self, now)
        self.edge = self.meter.edge

    def note(self, now: float, record: Record) -> object:
        """Count what is no plain success; returns the place to take it back from."""
        if record.success:
            self.roll(now)
            self.successes += 1
        else:
            self.others += 1
        if record.failed:
            self.failures += 1
        return self.meter.record(self, now, record)

    def _take_back(self, ticket: Ticket) -> None:
        if ticket.overdue is not None:
            record, place = ticket.overdue
            ticket.overdue = None
            if record.failed:
                self.failures -= 1
            self.meter.retract(place, record)

    def tripped(self, now: float) -> bool:
        return self.meter.tripped(self, now)

    def enter(self, ticket: Ticket) -> None:
        for _, queue in self.watches:
            queue[ticket] = None

    def leave(self, ticket: Ticket) -> None:
        """The call ended: it is watched no more, and its end corrects what was recorded of it while it ran."""
        for _, queue in self.watches:
            queue.pop(ticket, None)
        self._take_back(ticket)

    def sweep(self, now: float, overdue_after: float | None) -> bool:
        """Count the calls that run too long while they still run; whether there were any. O(1) for each call."""
        found = False
        for threshold, queue in self.watches:
            while queue:
                try:
                    ticket = next(iter(queue))
                except (
                    StopIteration,
                    RuntimeError,
                ):  # pragma: no cover - another thread changed it
                    break
                if now - ticket.started < threshold:
                    break
                queue.pop(ticket, None)
                self._take_back(ticket)
                failed = overdue_after is not None and threshold >= overdue_after
                record = Record(failed=failed, duration=threshold)
                ticket.overdue = record, self.note(now, record)
                found = True
        return found


@final
class Open(Generation):
    """Calls are refused until ``until``. ``opening`` counts consecutive openings from 1."""

    __slots__ = ("opening", "until")

    state = CircuitState.OPEN

    def __init__(self, number: int, since: float, opening: int, until: float) -> None:
        super().__init__(number, since)
        self.opening: int = opening
        self.until: float = until

    def remaining(self, now: float) -> float:
        # A clock that ran backwards makes no break longer than it was drawn.
        left = self.until - (max(self.since, now))
        return left if left > 0 else 0.0


@final
class HalfOpen(Generation):
    """As many calls as there are seats may try. ``live`` holds those in flight, oldest first."""

    __slots__ = ("good", "live", "opening", "seats")

    state = CircuitState.HALF_OPEN

    def __init__(self, number: int, since: float, opening: int, probes: int) -> None:
        super().__init__(number, since)
        self.opening: int = opening
        self.seats: list[None] = [None] * probes
        self.live: OrderedDict[Ticket, None] = OrderedDict()
        self.good: int = 0


@final
class Isolated(Generation):
    """Calls are refused until every handle is released."""

    __slots__ = ()

    state = CircuitState.ISOLATED


@final
class Disabled(Generation):
    """Calls pass and nothing is recorded."""

    __slots__ = ()

    state = CircuitState.DISABLED
