"""
The circuit against a reference that was written from the laws (`tests.core.reference`), step by random step.

Everything an onlooker can see is compared after every step; the invariants that need no reference are asserted by
themselves. Times are multiples of a quarter second, so that both sides add them up without rounding.
"""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from resilience.core.circuit import Circuit, LockedCircuit
from resilience.core.generations import CircuitState, Closed, Refusal, Rules, Ticket
from resilience.verdicts import Verdict
from tests.core import naive
from tests.core.reference import No, Pass, Reference
from tests.core.test_trips import SPECS
from tests.laws.breaker.kit import examples

EDGES = {
    ("CLOSED", "OPEN"),
    ("OPEN", "HALF_OPEN"),
    ("HALF_OPEN", "CLOSED"),
    ("HALF_OPEN", "OPEN"),
}
SECONDS = st.sampled_from([0.25, 0.5, 1.0, 1.0, 2.0, 5.0, 9.75, 10.0, 30.0])


class Entered:
    """A call that a generation watches and that entered itself, in the lines of `Closed`'s docstring."""

    def __init__(self, generation: Closed, now: float) -> None:
        self.generation, self.started, self.ended = generation, now, False
        self.key = generation.entered = generation.entered + 1
        generation.running[self.key] = now

    @classmethod
    def maybe(cls, generation, now: float) -> Entered | None:
        enters = type(generation) is Closed and generation.running is not None
        return cls(generation, now) if enters and now < generation.due else None

    def settle(self, circuit: Circuit, verdict: Verdict, now: float) -> None:
        if self.ended:
            return
        self.ended = True
        generation, key = self.generation, self.key
        if verdict is Verdict.SUCCESS and now < generation.due and key in generation.running:
            del generation.running[key]
            generation.successes += 1
        else:
            circuit.settle(generation.ticket_of(key, self.started), verdict, now, "OSError")


class Comparison(RuleBasedStateMachine):
    """Callers, time and an operator; whatever they do, circuit and reference agree."""

    kind: type[Circuit] = Circuit
    permits = Bundle("permits")
    handles = Bundle("handles")

    @initialize(
        spec=SPECS,
        breaks=st.sampled_from(
            [lambda _: 10.0, lambda n: 2.5 * n, lambda n: min(5.0 * 2**n, 40.0)]
        ),
        probes=st.integers(1, 3),
        closing=st.integers(1, 4),
        lease=st.sampled_from([2.0, 15.0, 60.0]),
        overdue_after=st.sampled_from([None, None, 0.5, 3.0]),
        operated=st.sampled_from([False, False, True]),
    )
    def begin(self, *, spec, breaks, probes, closing, lease, overdue_after, operated) -> None:
        rules = Rules(
            trip=naive.joined(spec),
            break_after=breaks,
            probes=probes,
            successes_to_close=closing,
            probe_lease=lease,
            overdue_after=overdue_after,
        )
        self.now = 0.0
        self.news: list[Any] = []
        self.crossings: list[Any] = []
        self.circuit = self.kind(rules, 0.0, self._heard, self._crossed)
        self.reference = Reference(spec, breaks, probes, closing, lease, overdue_after)
        self.numbers = itertools.count(1)
        self.breaks = breaks
        self.operated = operated

    def _heard(self, moved) -> None:
        # Announced after it happened: who asks now finds the circuit there, or further on.
        assert self.circuit.current.number >= moved.generation
        self.news.append((moved.old.name, moved.new.name, moved.generation, moved.reason, moved.at))

    def _crossed(self, failures, slow, *_) -> None:
        self.crossings.append((failures.hits, slow))

    def known(self) -> dict[str, Any]:
        circuit = self.circuit
        counted = {name: getattr(circuit.totals, name) for name in self.reference.totals}
        return {
            "state": circuit.current.state.name,
            "number": circuit.current.number,
            "retry_after": circuit.retry_after(self.now),
            "counts": circuit.counts(self.now),
            "totals": counted | {"successes": circuit.lifetime_successes()},
            "news": self.news,
            "crossings": self.crossings,
        }

    # ---------------------------------------------------------------- callers

    @rule(target=permits, owner=st.sampled_from([None, None, "ann", "bob"]))
    def ask(self, owner):
        entered = owner is None and Entered.maybe(self.circuit.current, self.now)
        expected = self.reference.admit(self.now, owner)
        if entered:
            assert isinstance(expected, Pass)
            return entered, expected
        answer = self.circuit.admit(self.now, owner)
        if isinstance(answer, Refusal):
            assert No(answer.state.name, answer.retry_after) == expected
            return multiple()
        assert isinstance(answer, Ticket)
        assert isinstance(expected, Pass)
        assert (expected.number is None) == (answer.generation is None)
        return answer, expected

    @rule(
        permit=permits,
        verdict=st.sampled_from(["SUCCESS", "SUCCESS", "FAILURE", "FAILURE", "IGNORED"]),
    )
    def answer(self, permit, verdict) -> None:
        # Drawn from all that were ever given: the second time a permit comes up it must do nothing (B5).
        ticket, expected = permit
        if isinstance(ticket, Entered):
            ticket.settle(self.circuit, Verdict[verdict], self.now)
        else:
            self.circuit.settle(ticket, Verdict[verdict], self.now, "OSError")
        self.reference.settle(expected, verdict, self.now)

    @rule(seconds=SECONDS)
    def time_passes(self, seconds) -> None:
        self.now += seconds

    @rule(n=st.integers(1, 6), verdict=st.sampled_from(["SUCCESS", "FAILURE", "FAILURE"]))
    def calls_come_and_go(self, n, verdict) -> None:
        for _ in range(n):
            permit = self.ask(None)
            if isinstance(permit, tuple):
                self.answer(permit, verdict)

    @precondition(lambda self: self.reference.state == "OPEN")
    @rule(target=permits, early=st.sampled_from([0.0, 0.0, 0.0, 0.25]), number=st.integers(1, 4))
    def the_break_ends(self, early, number):
        self.now = max(self.now, self.reference.until - early)
        answers = [self.ask(None) for _ in range(number)]
        return multiple(*(each for each in answers if isinstance(each, tuple)))

    @precondition(lambda self: self.reference.state == "HALF_OPEN" and self.reference.running)
    @rule(
        which=st.integers(0, 3),
        verdict=st.sampled_from(["SUCCESS", "SUCCESS", "FAILURE", "IGNORED", None]),
        over=st.sampled_from([0.0, 0.0, 0.25]),
    )
    def a_lease_ends(self, which, verdict, over) -> None:
        running = self.reference.running
        self.now = max(self.now, running[0].started + self.reference.probe_lease + over)
        if verdict is None:
            self.ask(None)
        else:
            number = which % len(running)
            self.answer((tuple(self.circuit.current.live)[number], running[number]), verdict)

    # ---------------------------------------------------------------- by hand

    @precondition(lambda self: self.operated)
    @rule(target=handles)
    def isolate(self):
        number = next(self.numbers)
        self.reference.isolate(number, self.now)
        return self.circuit.isolate(self.now), number

    @precondition(lambda self: self.operated)
    @rule(handle=handles)
    def release(self, handle) -> None:
        self.circuit.release(handle[0], self.now)
        self.reference.release(handle[1], self.now)

    @precondition(lambda self: self.operated)
    @rule(mode=st.sampled_from(["DISABLED", "OBSERVING"]))
    def switch(self, mode) -> None:
        (self.circuit.disable if mode == "DISABLED" else self.circuit.observe)(self.now)
        self.reference.switch(mode, self.now)

    @precondition(lambda self: self.operated)
    @rule()
    def reset(self) -> None:
        self.circuit.reset(self.now)
        self.reference.reset(self.now)

    # ------------------------------------------------------------- invariants

    @invariant()
    def it_watches_the_calls_that_run(self) -> None:
        """Law 18, law 33: none is forgotten, none stays."""
        current = self.circuit.current
        if isinstance(current, Closed) and current.watch is not None:
            last = self.circuit.rules.watched[-1]
            running = [each for each in self.reference.running if last not in each.told]
            assert len(running) == len(current.watch)

    @invariant()
    def nobody_can_tell_them_apart(self) -> None:
        """B1, B2, B6 to B14, B20."""
        assert self.reference.known(self.now) == self.known()

    @invariant()
    def reading_changes_nothing(self) -> None:
        """Law 16, B22."""
        generation = self.circuit.current
        assert self.known() == self.known()
        assert generation is self.circuit.current

    @invariant()
    def it_moves_along_the_edges_there_are(self) -> None:
        """B8 and B9."""
        numbers = [each[2] for each in self.news]
        assert sorted(set(numbers)) == numbers
        assert all(
            (old, new) in EDGES or reason == "by hand" for old, new, _, reason, _ in self.news
        )

    @invariant()
    def no_more_probes_run_than_there_are_seats(self) -> None:
        """B3 and B4, counted by permits."""
        current = self.circuit.current
        if current.state is CircuitState.HALF_OPEN:
            assert len(current.live) == len(self.reference.running) <= self.circuit.rules.probes
            assert self.circuit.rules.probes == len(current.seats) + len(current.live)

    @invariant()
    def it_never_promises_more_than_its_break(self) -> None:
        """B21."""
        wait = self.circuit.retry_after(self.now)
        assert wait is None or 0.0 <= wait <= self.breaks(self.reference.opening)

    def teardown(self) -> None:
        """B15: while the dependency answers and callers go on calling, it closes."""
        if not hasattr(self, "circuit"):
            return
        self.circuit.reset(self.now) if self.circuit.current.state.name in {
            "ISOLATED",
            "DISABLED",
            "OBSERVING",
        } else None
        for _ in range(20):
            if self.circuit.current.state is CircuitState.CLOSED:
                return
            answer = self.circuit.admit(self.now)
            if isinstance(answer, Ticket):
                self.circuit.settle(answer, Verdict.SUCCESS, self.now)
            else:
                self.now += max(answer.retry_after or 0.0, self.circuit.rules.probe_lease)
        raise AssertionError(f"still {self.circuit.current.state}")


class ComparisonWithLock(Comparison):
    """The same rules, one step at a time under a lock."""

    kind = LockedCircuit


TestCircuit = Comparison.TestCase
TestCircuit.settings = examples(250)
TestLockedCircuit = ComparisonWithLock.TestCase
TestLockedCircuit.settings = examples(60)
