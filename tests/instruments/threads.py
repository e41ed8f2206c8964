"""
One breaker in eight threads, each with eight event loops: what must not be lost there, and controls that lose it.

Threads are switched as often as the interpreter can (``sys.setswitchinterval(1e-6)``), and all of them start each round
at a barrier. Nothing here is likely to fail by luck alone, so each measurement is also taken of a circuit that does the
same work unprotected, a read and a write with a call in between. It must lose: a harness in which it does not proves
nothing about the real one.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar
from unittest import mock

import anyio
import anyio.lowlevel
import attrs
import trio  # noqa: F401 - before the threads: one that is being imported is no module yet

import resilience.policies._breaker_core as breaker_core
import resilience.policies.bulkhead as bulkhead_module
import resilience.policies.rate_limit as rate_limit_module
from resilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpenError,
    Pipeline,
    RateLimit,
    RateLimitedError,
)
from resilience.core.buckets import Bucket
from resilience.core.circuit import Circuit, LockedCircuit
from resilience.core.generations import CircuitState, HalfOpen, Refusal, Rules, Ticket, Transition
from resilience.core.lines import Places, locked
from resilience.core.trips import ConsecutiveFailures, FailureRate, Trip
from resilience.core.windows import CountWindow, TimeWindow
from resilience.errors import PipelineWarning
from resilience.events import LOGGER, CircuitStateChanged
from resilience.testing import ManualClock, Recorder
from resilience.verdicts import Verdict

__all__ = [
    "CIRCUITS",
    "CONTROLS",
    "LANES",
    "Outcome",
    "admissions",
    "counts",
    "everything",
    "measure",
    "storm",
]

THREADS = LOOPS = 8
T = TypeVar("T")


def _idle() -> None:
    """A call in which another thread comes to run, as it may in any."""
    time.sleep(0)


class CheckThenAct(Circuit):
    """Control: looks for a seat, and takes it after a call."""

    __slots__ = ()

    def _admit_probe(
        self, generation: HalfOpen, now: float, owner: Hashable | None
    ) -> Ticket | Refusal | None:
        if not generation.seats:
            return self._refuse(generation.state, None)
        _idle()
        seats = generation.seats
        generation.seats = seats[1:]
        ticket = Ticket(generation, now, owner)
        generation.live[ticket] = None
        return ticket


class ReadThenWrite(Circuit):
    """Control: counts with a call between the read and the write."""

    __slots__ = ()

    def _count(self, verdict: Verdict, *, slow: bool) -> None:
        name = "ignored" if verdict is Verdict.IGNORED else "failures"
        if verdict is not Verdict.SUCCESS:
            before = getattr(self.totals, name)
            _idle()
            setattr(self.totals, name, before + 1)


class MoveTwice(Circuit):
    """Control: leaves a generation if it is still the current one, and looks at that before a call."""

    __slots__ = ()

    def _move(self, old: Any, make: Callable[[int], Any], reason: str, now: float) -> bool:
        if self.current is not old:
            return False
        _idle()
        new = make(old.number + 1)
        self._announce(self._transition(old, new, reason, now))
        self.current = new
        return True


class LookThenTake(Places):
    """Control: looks for a place, and takes it after a call."""

    __slots__ = ()

    plain = False

    def take(self, weight: int = 1) -> bool:
        free = not self.waiting and self.taken + weight <= self.limit
        _idle()
        if free:
            self.taken += weight
        return free


class LookThenSpend(Bucket):
    """Control: looks for a token, and spends it after a call."""

    __slots__ = ()

    plain = False

    def take(self, weight: int, now: float) -> bool:
        free = self.wait(weight, now) == 0
        _idle()
        if free:
            self.at = max(self.at, now * self.speed) + weight
        return free


CIRCUITS: tuple[type[Circuit], ...] = (Circuit, LockedCircuit)
PLACES: tuple[type[Places], ...] = (Places, locked(Places))
BUCKETS: tuple[type[Bucket], ...] = (Bucket, locked(Bucket))
CONTROLS: tuple[type[Circuit], ...] = (CheckThenAct, ReadThenWrite, MoveTwice)


@contextlib.contextmanager
def restless() -> Iterator[None]:
    """Switch threads as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def together(work: Callable[[int], T]) -> list[T]:
    """Run *work* in all threads at once; what they return, or the first error of theirs."""
    answers: dict[int, T] = {}
    errors: list[BaseException] = []

    def body(number: int) -> None:
        try:
            answers[number] = work(number)
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=body, args=(number,)) for number in range(THREADS)]
    with restless():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return [answers[number] for number in range(THREADS)]


@attrs.define
class Outcome:
    """
    One measurement.

    Attributes:
        what: Of what.
        did: How much of it, for the table.
        lost: Each thing that is not as it must be.
        control: Whether it is of a circuit that must lose.
    """

    what: str
    did: str
    control: bool = False
    lost: list[str] = attrs.field(factory=list)
    seconds: float = 0.0

    def expect(self, expected: object, found: object, text: str) -> None:
        if expected != found:
            self.lost.append(f"{text}: {found}, not {expected}")


def measure(function: Callable[..., Outcome], *args: Any, **options: Any) -> Outcome:
    """One measurement and how long it took."""
    began = time.perf_counter()
    silent, LOGGER.disabled = LOGGER.disabled, True
    try:
        outcome = function(*args, **options)
    finally:
        LOGGER.disabled = silent
    outcome.seconds = time.perf_counter() - began
    outcome.control = not {
        CheckThenAct, ReadThenWrite, MoveTwice, LookThenTake, LookThenSpend
    }.isdisjoint(args)  # fmt: skip
    return outcome


def everything() -> Iterator[Outcome]:
    """All measurements, each of the real circuits and of a control."""
    for kind in (*CIRCUITS, CheckThenAct):
        yield measure(admissions, kind)
    for kind, lane in itertools.product((*CIRCUITS, ReadThenWrite), LANES):
        yield measure(counts, kind, lane)
    for kind in (*CIRCUITS, *CONTROLS):
        yield measure(storm, kind)
    for places_kind in (*PLACES, LookThenTake):
        yield measure(places, places_kind)
    for bucket_kind in (*BUCKETS, LookThenSpend):
        yield measure(tokens, bucket_kind)


def _rules(trip: Trip, probes: int) -> Rules:
    return Rules(
        trip=trip,
        break_after=lambda _: 1.0,
        probes=probes,
        successes_to_close=probes,
        probe_lease=1e9,
        overdue_after=None,
    )


def admissions(
    kind: type[Circuit], *, openings: int = 150, asks: int = 250, probes: int = 3
) -> Outcome:
    """
    Thousands of callers race for the probes of one opening after the other.

    Law 15: exactly *probes* get in; the circuit leaves OPEN once; all probes fail at once, and it opens once.
    """
    announced: list[Transition] = []
    circuit = kind(_rules(ConsecutiveFailures(1), probes), 0.0, announced.append, lambda *_: None)
    outcome = Outcome(
        f"admissions, {kind.__name__}", f"{openings} openings x {THREADS * asks} callers"
    )
    meet = threading.Barrier(THREADS, timeout=300)
    admitted = [0] * openings

    def work(number: int) -> int:
        refused = 0
        for opening in range(openings):
            now = float(opening + 1)
            if number == 0:
                circuit.force(CircuitState.OPEN, float(opening))
            meet.wait()
            answers = [circuit.admit(now) for _ in range(asks)]
            tickets = [each for each in answers if isinstance(each, Ticket)]
            refused += asks - len(tickets)
            meet.wait()
            with lock:
                admitted[opening] += len(tickets)
            meet.wait()
            for ticket in tickets:
                circuit.settle(ticket, Verdict.FAILURE, now)
            meet.wait()
        return refused

    lock = threading.Lock()
    refused = sum(together(work))
    wrong = [each for each in admitted if each != probes]
    outcome.expect([], wrong, f"openings that admitted other than {probes}")
    outcome.expect(openings * probes, circuit.totals.failures, "failures counted")
    outcome.expect(refused, circuit.totals.rejected, "rejections counted")
    # Each opening: forced open (from OPEN, so unannounced but for the first), half-open, open again.
    to_half = sum(each.new is CircuitState.HALF_OPEN for each in announced)
    reopened = sum(each.old is CircuitState.HALF_OPEN for each in announced)
    outcome.expect(openings, to_half, "times it became half-open")
    outcome.expect(openings, reopened, "times it reopened")
    outcome.expect(openings, circuit.totals.openings, "openings counted")
    outcome.expect(1 + 3 * openings, circuit.current.number, "generation")
    return outcome


def places(kind: type[Places], *, calls: int = 60, limit: int = 3) -> Outcome:
    """
    Eight threads, each with eight loops one after another, asyncio and trio in turn, on one bulkhead with a queue.

    G14, K1, K4 and K6: never more inside than the limit, everybody is served or has left, and all places come back.
    """
    with mock.patch.object(bulkhead_module, "PLACES", kind):
        bulkhead = Bulkhead(limit, queue=10**6)
    total = THREADS * LOOPS * calls
    outcome = Outcome(f"places, {kind.__name__}", f"{THREADS} x {LOOPS} x {calls} calls")
    inside: list[None] = []
    most = 0

    @bulkhead.wrap
    async def callee(number: int) -> None:
        nonlocal most
        inside.append(None)
        most = max(most, len(inside))
        try:
            _idle()
            if number % 3:
                await anyio.lowlevel.checkpoint()
        finally:
            inside.pop()

    async def loop(seed: int) -> Counter[str]:
        told: Counter[str] = Counter()

        async def one(number: int) -> None:
            # Some leave while they wait, some in the moment in which they are handed a place.
            with anyio.CancelScope() as scope:
                if (number + seed) % 4 == 0:
                    scope.deadline = anyio.current_time() + (number % 5) * 1e-4
                await callee(number)
                told["served"] += 1
            told["left"] += scope.cancelled_caught

        async with anyio.create_task_group() as group:
            for number in range(calls):
                group.start_soon(one, number)
        return told

    def work(number: int) -> Counter[str]:
        told: Counter[str] = Counter()
        for turn in range(LOOPS):
            backend = ("asyncio", "trio")[(turn + number) % 2]
            told += anyio.run(loop, number + turn, backend=backend)
        return told

    told = sum(together(work), Counter[str]())
    outcome.expect(total, told["served"] + told["left"], "calls served or left")
    if most > limit:
        outcome.lost.append(f"{most} inside, with {limit} places")
    outcome.expect((0, 0), (bulkhead.in_flight, bulkhead.waiting), "taken and waiting at the end")
    return outcome


def tokens(kind: type[Bucket], *, asks: int = 2000, burst: int = 5000) -> Outcome:
    """
    Thousands race for the tokens of a bucket that does not fill while they do.

    L1: exactly the burst is spent, and everybody else is turned away and counted.
    """
    with mock.patch.object(rate_limit_module, "BUCKET", kind):
        limit = RateLimit(burst, clock=ManualClock())
    outcome = Outcome(f"tokens, {kind.__name__}", f"{THREADS} x {asks} callers")

    def work(_: int) -> int:
        granted = 0
        for _turn in range(asks):
            with contextlib.suppress(RateLimitedError):
                limit.admit()
                granted += 1
        return granted

    outcome.expect(burst, sum(together(work)), "tokens spent")
    outcome.expect(THREADS * asks - burst, limit.snapshot().rejected, "turned away")
    return outcome


_NEVER = 10**9
LANES: dict[str, dict[str, Any]] = {
    "a count window": {"trip": FailureRate(1.0, CountWindow(_NEVER), _NEVER)},
    "a time window": {"trip": FailureRate(1.0, TimeWindow(0.02), _NEVER)},
    "overdue_after": {"trip": ConsecutiveFailures(_NEVER), "overdue_after": 1e6},
    "calls that are overdue": {
        "trip": FailureRate(1.0, CountWindow(_NEVER), _NEVER),
        "overdue_after": 2e-5,
    },
}
"""The paths a call takes through a closed breaker: plain, timed, watched."""

_names = itertools.count()


def counts(kind: type[Circuit], lane: str, *, calls: int = 250) -> Outcome:
    """
    Eight threads, each with eight loops one after another, asyncio and trio in turn, *calls* calls in each.

    Law 15: every success, failure, ignored and cancelled call is counted, and nothing else.
    """
    with mock.patch.object(breaker_core, "CIRCUIT", kind):
        breaker = CircuitBreaker(
            f"threads {next(_names)}", on=OSError, ignore=KeyError, **LANES[lane]
        )
    total = THREADS * LOOPS * calls
    outcome = Outcome(
        f"counts with {lane}, {kind.__name__}", f"{THREADS} x {LOOPS} x {calls} calls"
    )
    plan = ("returns", OSError, KeyError, ValueError, "cancelled")

    @breaker.wrap
    async def callee(ending: Any) -> None:
        if ending == "cancelled":
            await anyio.lowlevel.checkpoint()
        elif ending != "returns":
            raise ending

    async def loop(seed: int) -> Counter[Any]:
        told: Counter[Any] = Counter()
        for number in range(calls):
            ending = plan[(number + seed) % len(plan)]
            told[ending] += 1
            with anyio.CancelScope() as scope, contextlib.suppress(OSError, KeyError, ValueError):
                if ending == "cancelled":
                    scope.cancel()
                await callee(ending)
        return told

    def work(number: int) -> Counter[Any]:
        told: Counter[Any] = Counter()
        for turn in range(LOOPS):
            backend = ("asyncio", "trio")[(turn + number) % 2]
            told += anyio.run(loop, number + turn, backend=backend)
        return told

    told = sum(together(work), Counter[Any]())
    totals = breaker.snapshot().totals
    outcome.expect(total, told.total(), "calls made")
    outcome.expect(told["returns"] + told[ValueError], totals.successes, "successes")
    outcome.expect(told[OSError], totals.failures, "failures")
    outcome.expect(told[KeyError] + told["cancelled"], totals.ignored, "ignored")
    # Whatever was counted of calls while they ran has been corrected at their ends.
    outcome.expect(totals.failures, breaker._core.circuit.current.failures, "failures that stand")  # type: ignore[attr-defined]
    watch = breaker._core.circuit.current.watch  # type: ignore[attr-defined]
    outcome.expect(0, len(watch or ()), "calls in the register")
    return outcome


class _Ticking:
    """A clock that moves by being read, in any thread."""

    def __init__(self) -> None:
        self._ticks = itertools.count(1)

    def now(self) -> float:
        return next(self._ticks) / 1000


def storm(kind: type[Circuit], *, calls: int = 6000, probes: int = 2) -> Outcome:
    """
    Everything at once: calls that succeed, fail, are ignored or come late, resets, isolations, readers, new pipelines.

    Never more probes of one generation in flight than seats; announced in order, each once; every outcome counted; at
    the end it closes again.
    """
    recorder = Recorder(CircuitStateChanged)
    with mock.patch.object(breaker_core, "CIRCUIT", kind):
        breaker = CircuitBreaker(
            f"threads {next(_names)}",
            on=OSError,
            trip=FailureRate(0.5, CountWindow(8), 4),
            break_duration=0.05,
            probes=probes,
            successes_to_close=2 * probes,
            probe_lease=1e6,
            clock=_Ticking(),
        )
    with _without_pipeline_warnings():
        pipelines = [Pipeline(breaker, listeners=[recorder])]
    outcome = Outcome(f"storm, {kind.__name__}", f"{THREADS} x {calls} calls")
    lock = threading.Lock()
    probing: Counter[int] = Counter()
    most = 0

    def call(dice: random.Random, told: Counter[str], late: list[Any]) -> None:
        nonlocal most
        try:
            permit = breaker.admit()
        except CircuitOpenError:
            told["rejected"] += 1
            return
        generation = permit._ticket.generation
        probe = isinstance(generation, HalfOpen)
        if probe:
            with lock:
                probing[generation.number] += 1
                most = max(most, probing[generation.number])
        elif dice.random() < 0.05:
            late.append(permit)
            return
        _idle()
        if probe:
            with lock:
                probing[generation.number] -= 1
        settle(permit, dice, told)

    def settle(permit: Any, dice: random.Random, told: Counter[str]) -> None:
        ending = dice.choice(("success", "success", "failure", "ignore"))
        told[ending] += 1
        getattr(permit, ending)()
        getattr(permit, dice.choice(("success", "failure")))()  # law 8: a second time does nothing

    def work(number: int) -> Counter[str]:
        dice = random.Random(number)
        told: Counter[str] = Counter()
        late: list[Any] = []
        for turn in range(calls):
            call(dice, told, late)
            if number == 0 and turn % 50 == 0:
                breaker.reset()
            if number == 1 and turn % 70 == 0:
                with breaker.isolate():
                    _idle()
            if number == 2 and turn % 5 == 0:
                breaker.snapshot()
            if number == 3 and turn % 20 == 0:
                pipelines.append(Pipeline(breaker, listeners=[recorder]))
            if late and dice.random() < 0.1:
                settle(late.pop(), dice, told)
        for permit in late:
            settle(permit, dice, told)
        return told

    with _without_pipeline_warnings():
        told = sum(together(work), Counter[str]())
    breaker.reset()
    found = breaker.snapshot()
    outcome.expect(told["success"], found.totals.successes, "successes")
    outcome.expect(told["failure"], found.totals.failures, "failures")
    outcome.expect(told["ignore"], found.totals.ignored, "ignored")
    outcome.expect(told["rejected"], found.rejected, "rejections")
    if most > probes:
        outcome.lost.append(f"{most} probes in flight")
    changes = recorder.of(CircuitStateChanged)
    numbers = [each.generation for each in changes]
    outcome.expect(sorted(set(numbers)), numbers, "generations announced")
    chained = all(a.new == b.old for a, b in itertools.pairwise(changes))
    outcome.expect(True, chained, "each change begins where the one before ended")  # noqa: FBT003
    opened = sum(each.new == "OPEN" for each in changes)
    outcome.expect(opened, found.openings, "openings")
    outcome.expect(CircuitState.CLOSED, found.state, "state after a reset")
    return outcome


@contextlib.contextmanager
def _without_pipeline_warnings() -> Iterator[None]:
    import warnings  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PipelineWarning)
        yield
