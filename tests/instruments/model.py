"""
Every state a circuit can get into, visited: a breadth-first search that drives the real one.

The search has no copy of the rules to explore. A state is reached by replaying the events that lead to it on a
fresh `Circuit`, and one more event is tried from there. Beside the circuit runs a `Ledger`, a naive account of what
the laws say should have happened, kept from the outside: outcomes in a list, probes counted by the tokens that
callers hold. Whatever the two disagree about is unsafe. Callers are interchangeable, so states that differ only in
who is who are one.

Probes are counted by tokens and never by reading ``state``: a call admitted after the circuit has closed is none.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import math
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import Any

import attrs

from resilience.core.circuit import Circuit
from resilience.core.generations import (
    CircuitState,
    Closed,
    HalfOpen,
    Open,
    Refusal,
    Rules,
    Ticket,
    Transition,
)
from resilience.core.trips import ConsecutiveFailures, FailureRate, Trip
from resilience.core.windows import CountWindow
from resilience.errors import CircuitOpenError
from resilience.policies.circuit_breaker import CircuitBreaker
from resilience.testing import ManualClock
from resilience.verdicts import Verdict

__all__ = ["QUICK", "SHAPES", "BreakerWorld", "Report", "Shape", "World", "explore"]

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
ISOLATED, DISABLED = CircuitState.ISOLATED, CircuitState.DISABLED
OBSERVING = CircuitState.OBSERVING
SUCCESS, FAILURE, IGNORED = Verdict.SUCCESS, Verdict.FAILURE, Verdict.IGNORED

BREAK = 1.0  # an opening lasts one tick of the search
Event = tuple[Any, ...]
State = tuple[Any, ...]


class Unsafe(AssertionError):  # noqa: N818 - a finding, not an error
    """The circuit and the laws disagree."""


def demand(holds: object, text: str) -> None:
    if not holds:
        raise Unsafe(text)


@attrs.frozen(kw_only=True)
class Shape:
    """
    One configuration to search.

    Attributes:
        callers: Who may have a call in flight.
        trip: ``ConsecutiveFailures``, or ``FailureRate`` over a ``CountWindow``.
        lease: Ticks after which a probe that still runs has failed; None: none ever does.
        rides: A caller that holds a probe may ask again (law 13).
        by_hand: Which of isolate (and release), reset, disable, observe are tried.
        late_alike: Calls of dead generations are one kind, whatever they were admitted as. Smaller shapes tell them
            apart and show that neither changes anything; the largest need not.
    """

    callers: int
    trip: Trip
    probes: int = 1
    successes_to_close: int = 1
    lease: int | None = None
    rides: bool = False
    by_hand: frozenset[str] = frozenset()
    late_alike: bool = False

    def __str__(self) -> str:
        rule = self.trip
        if isinstance(rule, ConsecutiveFailures):
            text = f"{rule.n} in a row"
        else:
            assert isinstance(rule, FailureRate), f"no ledger for {rule!r}"
            assert isinstance(rule.window, CountWindow), f"no ledger for {rule!r}"
            text = f"{rule.ratio:g} of {rule.window.calls}"
        parts = [
            f"{self.callers} callers",
            text,
            f"{self.probes} probes, {self.successes_to_close} to close",
        ]
        if self.lease is not None:
            parts.append(f"lease {self.lease} ticks")
        if self.rides:
            parts.append("rides")
        parts.extend(sorted(self.by_hand))
        return ", ".join(parts)

    @property
    def reset_is_the_way_out(self) -> bool:
        """Of DISABLED and OBSERVING a circuit gets by hand only."""
        return bool(self.by_hand & {"disable", "observe"})


@attrs.frozen
class Token:
    """A call in flight: in which generation it was admitted, in what state, and when."""

    number: int
    state: CircuitState
    started: float


class Ledger:
    """What should have happened, by the laws' own words; it never looks at the circuit."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.now = 0.0
        self.state = self.mode = CLOSED
        self.number = 1
        self.until = 0.0
        self.tokens: list[Token | None] = [None] * shape.callers
        self.outcomes: list[bool] = []
        self.good = 0
        self.held = 0
        self.moves: list[tuple[CircuitState, CircuitState]] = []
        self.verdicts: dict[Verdict, int] = dict.fromkeys(Verdict, 0)
        self.rejected = self.openings = 0

    def copy(self) -> Ledger:
        made = object.__new__(Ledger)
        made.__dict__.update(self.__dict__)
        made.tokens = self.tokens.copy()
        made.outcomes = self.outcomes.copy()
        made.moves = self.moves.copy()
        made.verdicts = self.verdicts.copy()
        return made

    def probing(self) -> list[Token]:
        """The probes in flight, oldest first."""
        held = [
            token
            for token in self.tokens
            if token is not None and token.number == self.number and token.state is HALF_OPEN
        ]
        return sorted(held, key=lambda token: token.started)

    def overdue(self, token: Token) -> bool:
        return self.shape.lease is not None and self.now - token.started >= self.shape.lease * BREAK

    def tripping(self) -> bool:
        rule, outcomes = self.shape.trip, self.outcomes
        if isinstance(rule, ConsecutiveFailures):
            return len(outcomes) >= rule.n and not any(outcomes[-rule.n :])
        assert isinstance(rule, FailureRate)
        assert isinstance(rule.window, CountWindow)
        inside = outcomes[-rule.window.calls :]
        return len(inside) >= rule.minimum_calls and inside.count(False) / len(inside) >= rule.ratio

    def to(self, state: CircuitState, since: float | None = None) -> None:
        if state is not self.state:
            self.moves.append((self.state, state))
        self.number += 1
        self.state = state
        self.outcomes = []
        self.good = 0
        if state is OPEN:
            self.openings += 1
            self.until = (self.now if since is None else since) + BREAK

    def _reopen_after(self, token: Token) -> None:
        assert self.shape.lease is not None
        self.to(OPEN, token.started + self.shape.lease * BREAK)

    def asked(self) -> bool:
        """What asking does; whether the answer is yes."""
        if self.state is HALF_OPEN:
            late = [token for token in self.probing() if self.overdue(token)]
            if late:
                self._reopen_after(late[0])
        if self.state is OPEN and self.now >= self.until:
            self.to(HALF_OPEN)
        if self.state is HALF_OPEN:
            return len(self.probing()) < self.shape.probes
        return self.state in {CLOSED, DISABLED, OBSERVING}

    def ended(self, caller: int, verdict: Verdict) -> None:
        token = self.tokens[caller]
        assert token is not None
        late = [each for each in self.probing() if self.overdue(each)]
        self.tokens[caller] = None
        if token.state is DISABLED:
            return
        self.verdicts[verdict] += 1
        if token.number != self.number:
            return
        if self.state is HALF_OPEN:
            if late:
                self._reopen_after(late[0])
            elif verdict is FAILURE:
                self.to(OPEN)
            elif verdict is SUCCESS:
                self.good += 1
                if self.good >= self.shape.successes_to_close:
                    self.to(CLOSED)
        elif verdict is not IGNORED:
            self.outcomes.append(verdict is SUCCESS)
            if self.state is CLOSED and verdict is FAILURE and self.tripping():
                self.to(OPEN)

    def isolated(self) -> None:
        self.held += 1
        if self.state is not ISOLATED:
            self.to(ISOLATED)

    def released(self) -> None:
        self.held -= 1
        if not self.held:
            self.to(self.mode)

    def switched(self, mode: CircuitState) -> None:
        self.mode = mode
        if mode is CLOSED:
            self.held = 0
            self.to(CLOSED)
        elif self.state not in {mode, ISOLATED}:
            self.to(mode)

    def events(self) -> Iterator[Event]:
        """What can happen next; of callers that are alike, the first stands for all."""
        seen = set()
        probing = self.probing()
        late = any(map(self.overdue, probing))
        for caller, token in enumerate(self.tokens):
            kind = self.kind(token)
            if kind in seen:
                continue
            seen.add(kind)
            if token is None:
                yield "ask", caller
                continue
            for verdict in Verdict:
                yield "end", caller, verdict
            if self.shape.rides and token in probing and not late:
                yield "ride", caller
        lease = self.shape.lease
        if (self.state is OPEN and self.now < self.until) or (
            lease is not None and any(self.now - token.started <= lease for token in probing)
        ):
            yield ("tick",)
        hand = self.shape.by_hand
        if "isolate" in hand:
            if self.held < 2:
                yield ("isolate",)
            if self.held:
                yield ("release",)
        yield from ((name,) for name in ("reset", "disable", "observe") if name in hand)

    def kind(self, token: Token | None) -> State:
        """All that matters of a caller. The age of a probe in ticks, as far as the rules tell ages apart."""
        if token is None:
            return ("",)
        if token.state is DISABLED:
            return ("unrecorded",)
        if token.number != self.number:
            return ("late",) if self.shape.late_alike else ("late", token.state.name)
        if token.state is not HALF_OPEN or self.shape.lease is None:
            return (token.state.name,)
        return token.state.name, min(self.now - token.started, self.shape.lease + 1)

    def digest(self) -> State:
        """Everything that can make a difference later, in canonical form."""
        outcomes: Any = self.outcomes
        rule = self.shape.trip
        if isinstance(rule, ConsecutiveFailures):
            latest = enumerate(reversed(outcomes))
            streak = next((length for length, good in latest if good), len(outcomes))
            outcomes = min(streak, rule.n)  # only an observing circuit gets beyond it
        else:
            assert isinstance(rule, FailureRate)
            assert isinstance(rule.window, CountWindow)
            outcomes = tuple(outcomes[-rule.window.calls :])
        kinds = tuple(sorted(collections.Counter(map(self.kind, self.tokens)).items()))
        return self.state.name, self.mode.name, outcomes, self.good, self.held, kinds


class World:
    """The real circuit and what its callers hold, driven by events."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.now = 0.0
        self.announced: list[Transition] = []
        self.held: list[Any] = [None] * shape.callers
        self.spent: list[Any] = []
        self.handles: list[object] = []
        self.void: list[object] = []
        self.circuit = self.make()

    def make(self) -> Circuit:
        shape = self.shape
        rules = Rules(
            trip=shape.trip,
            break_after=lambda _: BREAK,
            probes=shape.probes,
            successes_to_close=shape.successes_to_close,
            probe_lease=math.inf if shape.lease is None else shape.lease * BREAK,
            overdue_after=None,
        )
        return Circuit(rules, 0.0, self.announced.append, lambda *_: None)

    def ask(self, caller: int) -> bool:
        answer = self.circuit.admit(self.now, caller)
        self.held[caller] = answer
        return not isinstance(answer, Refusal)

    def end(self, caller: int, verdict: Verdict) -> None:
        ticket = self.held[caller]
        self.circuit.settle(ticket, verdict, self.now)
        self.spent.append(ticket)

    def ride(self, caller: int) -> None:
        """Ask while holding a probe, and report the worst of it."""
        ticket = self.circuit.admit(self.now, caller)
        demand(isinstance(ticket, Ticket), "law 13: the holder of a probe was refused")
        self.circuit.settle(ticket, FAILURE, self.now)  # type: ignore[arg-type]

    def end_again(self) -> None:
        """Settle every ticket that was settled, with every verdict."""
        for ticket, verdict in itertools.product(self.spent, Verdict):
            self.circuit.settle(ticket, verdict, self.now)

    def play(self, event: Event) -> Any:
        kind = event[0]
        if kind == "end":
            return self.end(event[1], event[2])
        if kind == "ask":
            return self.ask(event[1])
        if kind == "tick":
            self.now += BREAK
        elif kind == "ride":
            self.ride(event[1])
        elif kind == "isolate":
            self.handles.append(self.circuit.isolate(self.now))
        elif kind == "release":
            self.void.append(handle := self.handles.pop())
            self.circuit.release(handle, self.now)
        else:
            if kind == "reset":
                self.void += self.handles
                self.handles.clear()
            getattr(self.circuit, kind)(self.now)
        return None

    def replayed(self, path: list[Event]) -> World:
        for event in path:
            self.play(event)
        return self

    def inside(self) -> State:
        """The circuit's own state in canonical form, read from its inside."""
        generation = self.circuit.current
        name = generation.state.name
        if isinstance(generation, Open):
            return name, self.now < generation.until
        if isinstance(generation, HalfOpen):
            # The ages of the live ones are in the ledger's digest.
            return name, len(generation.seats), len(generation.live), generation.good
        if not isinstance(generation, Closed):
            return (name,)
        meter: Any = generation.meter
        if isinstance(self.shape.trip, ConsecutiveFailures):
            return name, min(meter._length(generation), self.shape.trip.n)
        position = generation.successes + generation.others
        size = meter._span._size
        there = meter._span._positions.get(True)
        hits = [position - each for each in there._queue if position - each < size] if there else []
        return name, min(position, size), *hits


class BreakerWorld(World):
    """
    The same through the policy: each caller is a coroutine of a guarded call, driven by hand to its one await.

    A cancellation is thrown in there, as a loop does it. Nothing is settled twice: the policy holds the tickets.
    """

    _names = itertools.count()

    def make(self) -> Circuit:
        shape = self.shape
        self.clock = ManualClock(0.0)
        self.breaker = CircuitBreaker(
            f"model {next(self._names)}",
            on=OSError,
            trip=shape.trip,
            break_duration=BREAK,
            probes=shape.probes,
            successes_to_close=shape.successes_to_close,
            probe_lease=1e9 if shape.lease is None else shape.lease * BREAK,
            clock=self.clock,
        )
        circuit = self.breaker._core.circuit
        circuit._announce = self.announced.append
        return circuit

    def play(self, event: Event) -> Any:
        answer = super().play(event)
        self.clock.set(self.now)
        return answer

    def ask(self, caller: int) -> bool:
        call = self.breaker(_callee)
        try:
            call.send(None)
        except CircuitOpenError:
            return False
        self.held[caller] = call
        return True

    def end(self, caller: int, verdict: Verdict) -> None:
        call = self.held[caller]
        try:
            if verdict is SUCCESS:
                call.send(None)
            else:
                call.throw(OSError() if verdict is FAILURE else asyncio.CancelledError())
        except (StopIteration, OSError, asyncio.CancelledError):
            return
        raise Unsafe("the guarded call went on after its end")

    def end_again(self) -> None:
        """Not possible from outside."""


class _Pause(Awaitable[None]):
    def __await__(self) -> Generator[None, None, None]:
        yield


async def _callee() -> None:
    await _Pause()


def judge(world: World, ledger: Ledger) -> None:
    """Hold the circuit against the ledger."""
    circuit, generation = world.circuit, world.circuit.current
    is_state, should_be = generation.state.name, ledger.state.name
    demand(is_state == should_be, f"the circuit is {is_state}, the laws say {should_be}")
    number = ledger.number
    demand(generation.number == number, f"law 14: generation {generation.number} for {number}")
    announced = [(each.old, each.new) for each in world.announced]
    demand(announced == ledger.moves, "law 14: announced is not what happened")
    numbers = [each.generation for each in world.announced]
    demand(numbers == sorted(set(numbers)), "law 14: announced generations do not grow")
    if isinstance(generation, HalfOpen):
        probing = len(ledger.probing())
        taken = world.shape.probes - len(generation.seats)
        demand(probing <= world.shape.probes, f"law 11: {probing} probes in flight")
        demand(taken == probing, f"law 11: {taken} seats taken by {probing} probes")
        demand(len(generation.live) == probing, "law 11: other probes in flight than admitted")
        demand(
            generation.good == ledger.good, f"law 11: {generation.good} probes for {ledger.good}"
        )
    if isinstance(generation, Open):
        demand(generation.until == ledger.until, "law 12: the break runs from another instant")
    totals = circuit.totals
    counted = [circuit.lifetime_successes(), totals.failures, totals.ignored]
    expected = [ledger.verdicts[verdict] for verdict in (SUCCESS, FAILURE, IGNORED)]
    demand(counted == expected, f"law 9: lifetime totals {counted}, expected {expected}")
    demand(totals.rejected == ledger.rejected, "law 9: rejections miscounted")
    demand(totals.openings == ledger.openings, "law 15: openings miscounted")


def step(world: World, ledger: Ledger, event: Event) -> None:
    """One event, in the circuit and in the ledger, and whether they agree."""
    match event:
        case "ask", caller:
            expected = ledger.asked()
            token = Token(ledger.number, ledger.state, ledger.now)
            admitted = world.play(event)
            probing = len(ledger.probing())
            where = f"a circuit that is {ledger.state.name} with {probing} probes in flight"
            demand(admitted or not expected, f"refused by {where}")
            demand(expected or not admitted, f"admitted by {where}")
            if admitted:
                ledger.tokens[caller] = token
            else:
                ledger.rejected += 1
        case "end", caller, verdict:
            ledger.ended(caller, verdict)
            world.play(event)
        case "ride", _:
            before = world.inside()
            world.play(event)
            demand(before == world.inside(), "law 13: a ride on an own permit was counted")
        case ("tick",):
            ledger.now += BREAK
            world.play(event)
        case ("isolate",):
            ledger.isolated()
            world.play(event)
        case ("release",):
            ledger.released()
            world.play(event)
        case (name,):
            ledger.switched({"reset": CLOSED, "disable": DISABLED, "observe": OBSERVING}[name])
            world.play(event)
    judge(world, ledger)


def judge_rest(world: World, ledger: Ledger) -> None:
    """What must hold of a circuit left alone: laws 16 (reading) and 8 (a second settle; a void handle)."""
    before = world.inside()
    wait = world.circuit.retry_after(world.now)
    expected = max(0.0, ledger.until - ledger.now) if ledger.state is OPEN else None
    demand(wait == expected, f"law 16: retry_after {wait}, expected {expected}")
    world.circuit.counts(world.now)
    demand(before == world.inside(), "law 16: reading changed the circuit")
    world.end_again()
    for handle in world.void:
        world.circuit.release(handle, world.now)
    demand(before == world.inside(), "law 8: a second settle changed the circuit")
    judge(world, ledger)


@attrs.define
class Report:
    """
    What one search found.

    Attributes:
        unsafe: What was wrong, with the shortest way there.
        stuck: States from which CLOSED cannot be reached.
        stuck_when_healthy: The same if calls only succeed or are cancelled from there on.
    """

    shape: Shape
    world: str
    states: int = 0
    edges: int = 0
    depth: int = 0
    unsafe: list[tuple[str, list[Event]]] = attrs.field(factory=list)
    stuck: int = 0
    stuck_when_healthy: int = 0
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """What is wrong in one line, or nothing."""
        if self.unsafe:
            text, path = self.unsafe[0]
            return f"unsafe after {len(path)} events: {text}"
        if self.stuck or self.stuck_when_healthy:
            return f"{self.stuck} states never close ({self.stuck_when_healthy} when healthy)"
        return ""


def _is_healthy(event: Event) -> bool:
    return event[0] in {"ask", "tick", "release", "reset"} or event[2:] in {(SUCCESS,), (IGNORED,)}


def explore(
    shape: Shape, world: Callable[[Shape], World] = World, *, limit: int = 1_000_000
) -> Report:
    """
    Visit every state of *shape*, until the first unsafe step.

    Args:
        limit: States after which a search is given up as unsafe: that of a faulty circuit need not end.
    """
    began = time.perf_counter()
    report = Report(shape, getattr(world, "__name__", "World"))
    ledger = Ledger(shape)
    start = world(shape).inside(), ledger.digest()
    paths: dict[State, list[Event]] = {start: []}
    backward: dict[State, set[State]] = collections.defaultdict(set)
    backward_healthy: dict[State, set[State]] = collections.defaultdict(set)
    closed = {start}
    queue: collections.deque[tuple[State, Ledger]] = collections.deque([(start, ledger)])

    try:
        while queue:
            state, ledger = queue.popleft()
            path = paths[state]
            report.depth = max(report.depth, len(path))
            judge_rest(world(shape).replayed(path), ledger)
            for event in ledger.events():
                there, after = world(shape).replayed(path), ledger.copy()
                report.edges += 1
                path = [*path, event]
                step(there, after, event)
                reached = there.inside(), after.digest()
                if event[0] != "reset" or shape.reset_is_the_way_out:
                    backward[reached].add(state)
                    if _is_healthy(event):
                        backward_healthy[reached].add(state)
                if reached not in paths:
                    paths[reached] = path
                    queue.append((reached, after))
                    if after.state is CLOSED:
                        closed.add(reached)
                path = paths[state]
            demand(len(paths) <= limit, f"more than {limit} states: something grows")
    except Unsafe as found:
        report.unsafe.append((str(found), path))
    report.states = len(paths)
    if not report.unsafe:
        report.stuck = report.states - _reaching(closed, backward)
        report.stuck_when_healthy = report.states - _reaching(closed, backward_healthy)
    report.seconds = time.perf_counter() - began
    return report


def _reaching(goal: set[State], backward: dict[State, set[State]]) -> int:
    """From how many states the goal can be reached."""
    found = set(goal)
    ends = list(goal)
    while ends:
        for state in backward.get(ends.pop(), ()):
            if state not in found:
                found.add(state)
                ends.append(state)
    return len(found)


_HAND = frozenset({"isolate", "reset"})
_ROW = ConsecutiveFailures

SHAPES: tuple[tuple[type[World], Shape], ...] = (
    (World, Shape(callers=3, trip=_ROW(3))),
    (World, Shape(callers=5, trip=_ROW(3), probes=2, successes_to_close=2)),
    (World, Shape(callers=5, trip=_ROW(1), probes=2, successes_to_close=4)),
    (World, Shape(callers=8, trip=_ROW(5), probes=3, successes_to_close=3)),
    (World, Shape(callers=11, trip=_ROW(7), probes=5, successes_to_close=5)),
    (World, Shape(callers=16, trip=_ROW(20), probes=10, successes_to_close=10, late_alike=True)),
    (World, Shape(callers=4, trip=_ROW(2), probes=2, successes_to_close=3, lease=2, rides=True)),
    (
        World,
        Shape(callers=4, trip=FailureRate(0.5, CountWindow(5), 3), probes=2, successes_to_close=2),
    ),
    (World, Shape(callers=4, trip=_ROW(2), probes=2, successes_to_close=2, by_hand=_HAND)),
    (World, Shape(callers=3, trip=_ROW(2), by_hand=_HAND | {"disable", "observe"})),
    (BreakerWorld, Shape(callers=5, trip=_ROW(3), probes=2, successes_to_close=2)),
    (BreakerWorld, Shape(callers=4, trip=_ROW(2), probes=2, successes_to_close=3, lease=2)),
    (
        BreakerWorld,
        Shape(callers=3, trip=FailureRate(0.5, CountWindow(4), 2), probes=2, successes_to_close=2),
    ),
    (BreakerWorld, Shape(callers=3, trip=_ROW(2), by_hand=_HAND | {"disable", "observe"})),
)
"""What `python -m tests.instruments` searches, and the suite with it."""

QUICK: tuple[tuple[type[World], Shape], ...] = (
    (World, Shape(callers=3, trip=_ROW(2), probes=2, successes_to_close=2, lease=2, rides=True)),
    (World, Shape(callers=3, trip=FailureRate(0.5, CountWindow(4), 2), by_hand=_HAND)),
    (BreakerWorld, Shape(callers=3, trip=_ROW(2), probes=2, successes_to_close=2)),
)
"""Enough to find a planted fault, in a fraction of a second."""
