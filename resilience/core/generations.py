"""
What a circuit is made of: its numbers, its generations, and the tickets that know which generation they belong to.

A generation is the circuit between two transitions, and the object that calls hold while they run. Everything here is
data with a few synchronous steps; `resilience.core.circuit` holds the rules that move from one to the next.
"""

from __future__ import annotations

import enum
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, final

import attrs

from resilience.core.tickets import Ticket, Watch
from resilience.core.trips import Meter, Record, Trip
from resilience.core.windows import Counts
from resilience.values import Value

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


@attrs.frozen(kw_only=True, eq=False, repr=False)
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
    watched: tuple[float, ...] = attrs.field(init=False)
    slow_after: float = attrs.field(init=False)
    doubtful_after: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        # watched: what a running call may reach. slow_after: from here it is slow. doubtful_after: from here a running
        # probe has failed.
        thresholds = set(self.trip.slow_thresholds)
        if self.overdue_after is not None:
            thresholds.add(self.overdue_after)
        object.__setattr__(self, "watched", tuple(sorted(thresholds)))
        slow = min(self.trip.slow_thresholds, default=math.inf)
        overdue = math.inf if self.overdue_after is None else self.overdue_after
        object.__setattr__(self, "slow_after", slow)
        object.__setattr__(self, "doubtful_after", min(slow, overdue, self.probe_lease))


class Transition(Value):
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


class Refusal(NamedTuple):
    """No permit: the state that refuses, and the seconds until it may not."""

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
    where ``edge`` has passed, 3: the call is watched, see `Closed`. ``turn`` holds one token; who pops it makes the
    transition out of here.
    """

    __slots__ = ("__weakref__", "number", "since", "turn")

    state: CircuitState
    plain = False
    lane = 0

    def __init__(self, number: int, since: float) -> None:
        self.number: int = number
        self.since: float = since
        self.turn: list[None] = [None]


class Closed(Generation):
    """
    Calls pass and are counted.

    A call that is watched may run without a ticket, in a few straight lines (`CircuitBreaker` has them). On its way in,
    if ``running`` is not None and ``now < due``: ``key = entered = entered + 1; running[key] = now``. On its way out,
    if ``now < due and key in running``: ``del running[key]; successes += 1``. All else is for `Circuit.admit`, and for
    `Circuit.settle` with `ticket_of` the key.

    Attributes:
        state: CLOSED, or OBSERVING, which rejects nothing.
        running: When each watched call began, by its key; None where no call may enter itself.
        due: Before this instant nobody runs too long, and no time window moves on. A call that is in ``running`` and
            ends before it is not slow.
        entered: Calls that entered themselves; each takes the next number as its key.
        edge: The instant from which `roll` has something to do.
    """

    __slots__ = (
        "_overdue_after", "_totals", "crossed", "due", "edge", "entered", "failures", "lane",
        "meter", "others", "plain", "running", "slow_after", "state", "successes", "watch",
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
        self._overdue_after = rules.overdue_after
        self.state = CircuitState.CLOSED if enforcing else CircuitState.OBSERVING
        self.slow_after: float = rules.slow_after
        self.successes: int = 0
        self.failures: int = 0
        self.others: int = (
            0  # positions taken by what is no success: failures, and overdue records taken back
        )
        self.crossed: bool = False
        self.meter: Meter = rules.trip.start(since)
        self.edge: float = self.meter.edge
        self.watch: Watch | None = Watch(rules.watched, since) if rules.watched else None
        self.entered: int = 0
        self.running: dict[Ticket | int, float] | None = None
        self.due: float = math.inf
        if self.watch is not None:
            self.due = min(self.edge, self.watch.clear_until())
            self.running = None if locked else self.watch.running
        self.plain: bool = not rules.watched and not locked
        if locked or rules.judges_results:
            self.lane: int = 0
        elif rules.watched:
            self.lane = 3
        else:
            self.lane = 2 if rules.trip.timed else 1

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
        if self.watch is not None:
            self.watch.running[ticket] = ticket.started

    def ticket_of(self, key: int, started: float) -> Ticket:
        """For a call that entered itself and does not end as a plain success in time: it settles with this."""
        assert self.watch is not None  # noqa: S101 - it could not have entered
        return self.watch.ticket_of(self, key, started)

    def forget(self, key: int, started: float) -> None:
        """A call that entered itself has not begun after all."""
        self.leave(self.ticket_of(key, started))

    def leave(self, ticket: Ticket) -> None:
        """The call ended: it is watched no more, and its end corrects what was recorded of it while it ran."""
        if self.watch is not None:
            self.watch.leave(ticket)
            self._take_back(ticket)

    def sweep(self, now: float) -> bool:
        """Count the calls that run too long while they still run; whether there were any. O(1) for each call."""
        watch = self.watch
        if now < self.due or watch is None:
            return False
        try:
            watch.turn.pop()
        except IndexError:  # another thread is at it
            return False
        found = False
        try:
            for threshold, ticket in watch.late(self, now):
                self._take_back(ticket)
                overdue = self._overdue_after is not None and threshold >= self._overdue_after
                record = Record(failed=overdue, duration=threshold)
                ticket.overdue = record, self.note(now, record)
                if ticket.settled:  # pragma: no cover - in another thread, just now
                    self._take_back(ticket)
                found = True
            self.roll(now)
            self.due = min(self.edge, watch.clear_until())
        finally:
            watch.turn.append(None)
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

    __slots__ = ("good", "live", "opening", "seats", "slow_after")

    state = CircuitState.HALF_OPEN

    def __init__(self, number: int, since: float, opening: int, rules: Rules) -> None:
        super().__init__(number, since)
        self.opening: int = opening
        self.slow_after: float = rules.slow_after
        self.seats: list[None] = [None] * rules.probes
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
