"""
The circuit: six states, one object per generation, and permits that know which generation they belong to.

Why generations: a slow answer must not vote on a circuit that has since reopened. The state object *is* the generation.
A call keeps the one it started in, and a plain success of a closed circuit is ``generation.successes += 1``: on a
generation that has passed it falls on a dead object and changes nothing but the lifetime totals.

Why no lock. What threads share is written by these operations and no others:

- ``generation.successes += 1`` and its like: straight-line code without a call between read and write, which the
  interpreter does not interrupt under the GIL (a test reads the bytecode of each Python version);
- ``turn.pop()`` on a list of one: exactly one thread makes the transition out of a generation, and then publishes the
  next one by one assignment of `Circuit.current`;
- ``seats.pop()``: exactly as many probes as there are seats;
- appending to and popping from a deque or a list, setting and deleting a dict key; a watched call that succeeds looks
  at ``due``, deletes its key and counts itself in one straight line.

Without a GIL that does not hold; `LockedCircuit` takes its place there (chosen at import, see `CIRCUIT`).

Time comes in as ``now``, seconds on any monotonic clock. Nygard, *Release It!*, 2nd ed., ch. 5; the generation is
Sony gobreaker's; probe leases and permits that hand their seat on are our own.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Callable, Hashable

from resilience.core.generations import (
    CircuitState,
    Closed,
    Disabled,
    Generation,
    HalfOpen,
    Isolated,
    Open,
    Refusal,
    Rules,
    Ticket,
    Totals,
    Transition,
)  # fmt: skip
from resilience.core.trips import Record
from resilience.core.windows import Counts
from resilience.verdicts import Verdict

__all__ = ["CIRCUIT", "Circuit", "LockedCircuit"]


_FAILED = Record(failed=True, duration=0.0)


class Circuit:
    """
    The state machine. Every method is synchronous and safe in any thread; see the top of the file.

    Args:
        rules: Its numbers.
        now: The instant it begins.
        announce: Called with each `Transition`, after it happened, in order, never twice.
        crossed: Called with an OBSERVING generation's failures, slow calls and last failure, and the instant, when its
            condition comes true.
    """

    __slots__ = (
        "__weakref__", "_announce", "_announcing", "_crossed", "_handles", "_mode", "_news",
        "_passed", "current", "last_failure", "last_text", "rules", "totals",
    )  # fmt: skip

    locked = False

    def __init__(
        self,
        rules: Rules,
        now: float,
        announce: Callable[[Transition], None],
        crossed: Callable[[Counts, int, str | None, float], None],
    ) -> None:
        self.rules: Rules = rules
        self.totals: Totals = Totals()
        self.last_failure: str | None = None
        self.last_text: str | None = None
        self._announce = announce
        self._crossed = crossed
        self._news: list[Transition] = []
        self._announcing = [None]
        self._handles: dict[object, None] = {}
        self._mode = CircuitState.CLOSED
        # Generations that have passed and may have calls that still run; replaced by who makes a transition.
        self._passed: tuple[weakref.ref[Closed], ...] = ()
        self.current: Generation = self._closed(now)(1)

    # ------------------------------------------------------------------ calls

    def admit(self, now: float, owner: Hashable | None = None) -> Ticket | Refusal:
        """Leave to run one call, or the refusal. *owner* is the asking task, which may hold a probe already."""
        while True:
            generation = self.current
            match generation:
                case Closed():
                    if generation.sweep(now) and self._judge(generation, now):
                        continue
                    ticket = Ticket(generation, now)
                    generation.enter(ticket)
                    return ticket
                case Open():
                    if now < generation.until:
                        return self._refuse(generation.state, generation.remaining(now))
                    self._move(
                        generation, self._half_open(generation.opening, now), "break over", now
                    )
                case HalfOpen():
                    answer = self._admit_probe(generation, now, owner)
                    if answer is not None:
                        return answer
                case Isolated():
                    return self._refuse(generation.state, None)
                case _:
                    return Ticket(None, now)

    def _admit_probe(
        self, generation: HalfOpen, now: float, owner: Hashable | None
    ) -> Ticket | Refusal | None:
        for ticket in tuple(generation.live):
            if self._failed_meanwhile(generation, ticket, now):
                return None
            if owner is not None and ticket.owner is owner:
                return Ticket(None, now)
        try:
            generation.seats.pop()
        except IndexError:
            return self._refuse(generation.state, None)
        if self.current is not generation:  # pragma: no cover - another thread ended the round
            return None
        ticket = Ticket(generation, now, owner)
        generation.live[ticket] = None
        return ticket

    def _failed_meanwhile(self, generation: HalfOpen, ticket: Ticket, now: float) -> bool:
        """Reopen if this probe has run for too long, whatever it may still answer."""
        ran = now - ticket.started
        if ran < self.rules.doubtful_after:
            return False
        if ran >= self.rules.probe_lease:
            # It has failed, and the break runs, since the lease ended; not since somebody came to look.
            self._open(generation, ticket.started + self.rules.probe_lease, "probe lease over")
        else:
            self._open(generation, now, "probe slow")
        return True

    def settle(
        self,
        ticket: Ticket,
        verdict: Verdict,
        now: float,
        error: str | None = None,
        text: str | None = None,
    ) -> None:
        """
        The call of this ticket ended.

        A second time changes nothing; a ticket of an older generation changes the lifetime totals alone.
        """
        generation = ticket.generation
        if ticket.settled or generation is None:
            return
        ticket.settled = True
        ran = now - ticket.started
        self._count(verdict, slow=ran >= generation.slow_after)
        if verdict is Verdict.FAILURE and generation is self.current:
            self.last_failure, self.last_text = error, text
        if isinstance(generation, Closed):
            self._settle_closed(generation, ticket, verdict, now, ran)
        else:
            if verdict is Verdict.SUCCESS:
                self.totals.successes += 1
            if generation is self.current:
                self._settle_probe(generation, ticket, verdict, now)

    def settle_plain(
        self, generation: Closed, verdict: Verdict, now: float, error: str, text: str | None
    ) -> None:
        """`settle` for a call that raised and had no ticket: nothing watched it, so it is neither slow nor overdue."""
        self._count(verdict, slow=False)
        current = generation is self.current
        if verdict is Verdict.SUCCESS:
            if current:
                generation.roll(now)
            generation.successes += 1
        elif verdict is Verdict.FAILURE and current:
            self.last_failure, self.last_text = error, text
            generation.note(now, _FAILED)
            self._judge(generation, now)

    def _count(self, verdict: Verdict, *, slow: bool) -> None:
        totals = self.totals
        if verdict is Verdict.IGNORED:
            totals.ignored += 1
            return
        if slow:
            totals.slow += 1
        if verdict is Verdict.FAILURE:
            totals.failures += 1

    def _settle_closed(
        self, generation: Closed, ticket: Ticket, verdict: Verdict, now: float, ran: float
    ) -> None:
        generation.leave(ticket)
        if generation is self.current and generation.sweep(now):
            # At once, before this call's own word: its success must not end the streak that a hang completes.
            self._judge(generation, now)
        if generation is not self.current:
            if verdict is Verdict.SUCCESS:
                generation.successes += 1
            return
        slow = ran >= generation.slow_after
        if verdict is Verdict.SUCCESS and not slow:
            generation.roll(now)
            generation.successes += 1
        elif verdict is not Verdict.IGNORED:
            failed = verdict is Verdict.FAILURE
            generation.note(now, Record(failed=failed, duration=ran, success=not failed))
            self._judge(generation, now)

    def _settle_probe(
        self, generation: HalfOpen, ticket: Ticket, verdict: Verdict, now: float
    ) -> None:
        late = now - ticket.started >= self.rules.probe_lease
        live = tuple(generation.live)
        generation.live.pop(ticket, None)
        # Oldest first, so that the lease that ended first decides since when the circuit is open.
        for each in live:
            if (late or each is not ticket) and self._failed_meanwhile(generation, each, now):
                return
        if verdict is Verdict.FAILURE:
            self._open(generation, now, "probe failed")
            return
        if verdict is Verdict.SUCCESS:
            if self._failed_meanwhile(generation, ticket, now):
                return
            generation.good += 1
            if generation.good >= self.rules.successes_to_close:
                self._move(generation, self._closed(now), "probes succeeded", now)
                return
        # An ignored or cancelled probe, and a good one of several, hands its place to the next caller.
        generation.seats.append(None)

    def _refuse(self, state: CircuitState, retry_after: float | None) -> Refusal:
        self.totals.rejected += 1
        return Refusal(state, retry_after)

    def _judge(self, generation: Closed, now: float) -> bool:
        """Open if the condition holds; whether *generation* has passed."""
        if not generation.tripped(now):
            generation.crossed = False
            return False
        if generation.state is CircuitState.CLOSED:
            self._open(generation, now, "tripped")
            return True
        if not generation.crossed:
            generation.crossed = True
            failures, slow = self._counts(generation, now)
            self._crossed(failures, slow.hits, self.last_failure, now)
        return False

    # ------------------------------------------------------------ transitions

    def _closed(self, now: float, *, enforcing: bool = True) -> Callable[[int], Closed]:
        return lambda number: Closed(
            number, now, self.rules, self.totals, enforcing=enforcing, locked=self.locked
        )

    def _half_open(self, opening: int, now: float) -> Callable[[int], HalfOpen]:
        return lambda number: HalfOpen(number, now, opening, self.rules)

    def _open(self, generation: Generation, since: float, reason: str) -> None:
        if not generation.turn:
            return
        opening = 1 + (generation.opening if isinstance(generation, HalfOpen) else 0)
        # Drawn before the move: a user's function runs here, and may ask this circuit something.
        until = since + self.rules.break_after(opening)

        def make(number: int) -> Open:
            self.totals.openings += 1
            return Open(number, since, opening, until)

        self._move(generation, make, reason, since)

    def _move(
        self, old: Generation, make: Callable[[int], Generation], reason: str, now: float
    ) -> bool:
        """The one way from a generation to the next; False if another thread went it first."""
        try:
            old.turn.pop()
        except IndexError:
            while self.current is old:  # pragma: no cover - the winner is about to assign
                time.sleep(0)
            return False
        new = make(old.number + 1)
        if old.state is not new.state:
            self._news.append(self._transition(old, new, reason, now))
        if isinstance(new, Closed):
            self.last_failure = self.last_text = None
        if isinstance(old, Closed):
            self._passed = (*(ref for ref in self._passed if ref()), weakref.ref(old))
        self.current = new
        self._deliver()
        return True

    def _transition(self, old: Generation, new: Generation, reason: str, now: float) -> Transition:
        failures, slow = self._counts(old, now)
        return Transition(
            old=old.state, new=new.state, generation=new.number, reason=reason, at=now,
            break_duration=new.until - now if isinstance(new, Open) else None,
            failures=failures, slow=slow.hits,
            last_failure=self.last_failure, last_text=self.last_text,
        )  # fmt: skip

    def _deliver(self) -> None:
        """Announce in order, one thread at a time; what a listener causes waits for its turn."""
        while self._news and self._news[0].generation <= self.current.number:
            try:
                self._announcing.pop()
            except IndexError:
                return
            try:
                while self._news and self._news[0].generation <= self.current.number:
                    self._announce(self._news.pop(0))
            finally:
                self._announcing.append(None)

    # ---------------------------------------------------------------- by hand

    def isolate(self, now: float) -> object:
        """Refuse every call until all handles are released; returns a handle."""
        handle = object()
        self._handles[handle] = None
        self._follow_holds(now)
        return handle

    def release(self, handle: object, now: float) -> None:
        """Give a handle back; the last one ends the isolation. A handle given back before does nothing."""
        if handle in self._handles:
            self._handles.pop(handle, None)
            if not self._handles:
                self._follow_holds(now)

    def _follow_holds(self, now: float) -> None:
        """Isolated exactly while a hold is held; again, as another thread may come between the look and the move."""
        while (held := bool(self._handles)) is not (self.current.state is CircuitState.ISOLATED):
            self.force(CircuitState.ISOLATED if held else self._mode, now)

    def disable(self, now: float) -> None:
        """Let every call pass and record nothing."""
        self._switch(CircuitState.DISABLED, now)

    def observe(self, now: float) -> None:
        """Record and report, and reject nothing."""
        self._switch(CircuitState.OBSERVING, now)

    def _switch(self, mode: CircuitState, now: float) -> None:
        self._mode = mode
        # Isolation outlasts a switch; its last release goes to the new mode.
        if self.current.state not in {mode, CircuitState.ISOLATED}:
            self.force(mode, now)
            self._follow_holds(now)

    def reset(self, now: float) -> None:
        """Closed and empty, whatever it was; all isolation handles are void."""
        self._mode = CircuitState.CLOSED
        self._handles.clear()
        self.force(CircuitState.CLOSED, now)
        self._follow_holds(now)

    def force(self, state: CircuitState, now: float) -> None:
        """Into a fresh generation of *state*: for tests, and for restoring a saved state."""
        makers: dict[CircuitState, Callable[[int], Generation]] = {
            CircuitState.CLOSED: self._closed(now),
            CircuitState.OBSERVING: self._closed(now, enforcing=False),
            CircuitState.OPEN: lambda number: Open(number, now, 1, until),
            CircuitState.HALF_OPEN: self._half_open(1, now),
            CircuitState.ISOLATED: lambda number: Isolated(number, now),
            CircuitState.DISABLED: lambda number: Disabled(number, now),
        }
        until = now + self.rules.break_after(1) if state is CircuitState.OPEN else now
        while not self._move(self.current, makers[state], "by hand", now):
            pass  # pragma: no cover - another thread moved first

    def change(self, rules: Rules, now: float) -> None:
        """Other numbers: windows and probes start anew in the same state, a break that runs is not redrawn."""
        self.rules = rules
        self._renew("new options", now)

    def _renew(self, reason: str, now: float) -> None:
        while True:
            generation = self.current
            match generation:
                case Closed():
                    make: Callable[[int], Generation] = self._closed(
                        now, enforcing=generation.state is CircuitState.CLOSED
                    )
                case HalfOpen():
                    make = self._half_open(generation.opening, now)
                case _:
                    return
            if self._move(  # pragma: no branch - another thread moved first
                generation, make, reason, now
            ):
                return

    def drain(self, now: float) -> Callable[[], bool]:
        """From now on calls run in a fresh generation; returns a look at whether those of before still run."""
        probes: tuple[Ticket, ...] = ()
        if isinstance(before := self.current, HalfOpen):
            probes = tuple(before.live)
        self._renew("removed", now)
        current = self.current
        # A call holds the generation it started in and nobody else does, so one that is gone has no calls.
        earlier = [ref for ref in self._passed if ref() is not current]
        return lambda: (
            any(ref() is not None for ref in earlier)
            or any(not ticket.settled for ticket in probes)
        )

    # ----------------------------------------------------------------- reading

    def _counts(self, generation: Generation, now: float) -> tuple[Counts, Counts]:
        if not isinstance(generation, Closed):
            return Counts(0, 0), Counts(0, 0)
        failures, slow = generation.meter.read(generation, now)
        if failures is None:
            calls = generation.successes + generation.failures
            failures = Counts(calls, generation.failures)
        return failures, slow or Counts(failures.calls, 0)

    def counts(self, now: float) -> tuple[Counts, Counts]:
        """Failures in the window of the current generation, and slow calls in theirs; without one, of all its calls."""
        return self._counts(self.current, now)

    def lifetime_successes(self) -> int:
        """All successes, those of living generations included."""
        current = self.current  # first: what passes after this is among those that have
        alive = {each for ref in self._passed if (each := ref()) is not None}
        if isinstance(current, Closed):
            alive.add(current)
        # Held while the totals are read: a generation that dies after that is not counted twice, nor not at all.
        return sum(each.successes for each in alive) + self.totals.successes

    def retry_after(self, now: float) -> float | None:
        """Seconds an open circuit stays open, 0.0 past its end; None in every other state."""
        generation = self.current
        return generation.remaining(now) if isinstance(generation, Open) else None


class LockedCircuit(Circuit):
    """
    The circuit for interpreters without a GIL: the same rules, one step at a time under a lock.

    No generation of it is plain, so every success comes through `settle`. Listeners are told outside the lock.
    """

    __slots__ = ("_lock",)

    locked = True

    def __init__(
        self,
        rules: Rules,
        now: float,
        announce: Callable[[Transition], None],
        crossed: Callable[[Counts, int, str | None, float], None],
    ) -> None:
        self._lock = threading.RLock()
        super().__init__(rules, now, announce, crossed)

    def admit(self, now: float, owner: Hashable | None = None) -> Ticket | Refusal:
        with self._lock:
            answer = super().admit(now, owner)
        super()._deliver()
        return answer

    def settle(
        self,
        ticket: Ticket,
        verdict: Verdict,
        now: float,
        error: str | None = None,
        text: str | None = None,
    ) -> None:
        with self._lock:
            super().settle(ticket, verdict, now, error, text)
        super()._deliver()

    def force(self, state: CircuitState, now: float) -> None:
        with self._lock:
            super().force(state, now)
        super()._deliver()

    def _renew(self, reason: str, now: float) -> None:
        with self._lock:
            super()._renew(reason, now)
        super()._deliver()

    def _deliver(self) -> None:
        """Not here, under the lock: the steps above do it when they have let go."""


CIRCUIT: type[Circuit] = (
    Circuit if getattr(sys, "_is_gil_enabled", lambda: True)() else LockedCircuit
)
