"""
A cancellation before every step: of every policy, every door and every ordered pair of policies.

Nobody lists the steps. A call is driven once to its end, resumption by resumption, and every place in which it was
suspended on the way is a point. Then it is run again for each point and each way of cancelling there, and
afterwards everything must be as if the call had never been: no seat, no wheel entry, no watch, no timer, no task
left, the cancellation out of the door as the object that came in, and on asyncio ``Task.cancelling()`` where it
was. What the call did before the cancellation (an attempt that failed) stands: the breakers are compared with
themselves at that instant.

Ways to cancel between two steps:

- ``suspended``: while the call waits;
- ``woken``: what it waits for is there already and the call has not run yet, as when a caller leaves at the deadline;
- ``running``: asked for while the next step runs, so that it arrives at the wait after it;
- ``unstarted``: before the first step;
- ``closed``: ``coroutine.close()``, a ``GeneratorExit``.

By `asyncio.Task.cancel` it comes once (edge), by a cancel scope of anyio or trio at every wait until the scope is
left (level).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import itertools
import sys
import time
import types
import warnings
from asyncio.events import _get_running_loop as running_loop
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, final
from unittest import mock

import anyio
import anyio.lowlevel
import attrs

import resilience
from resilience import (
    AIMD,
    Bulkhead,
    Chaos,
    CircuitBreaker,
    ConcurrencyLimit,
    ConfigurationError,
    Fallback,
    Hedge,
    LastGood,
    Pipeline,
    RateLimit,
    Retry,
    RetryBudget,
    SingleFlight,
    Throttle,
    Timeout,
    deadline,
)
from resilience.call import Call, Step
from resilience.core.buckets import Bucket
from resilience.core.generations import CircuitState, Closed, Generation, HalfOpen
from resilience.core.trips import ConsecutiveFailures
from resilience.doors import Policy
from resilience.errors import PipelineWarning
from resilience.events import LOGGER, CallFinished, Hub
from resilience.modes import MODES
from resilience.policies import _wheel
from resilience.policies._wheel import Wheel
from resilience.policies.bulkhead import Place
from resilience.testing import Recorder, run

__all__ = ["DOORS", "KINDS", "POINTS_FILE", "SHAPES", "Report", "Scenario", "points_text", "sweep"]

POINTS_FILE = Path(__file__).with_name("cancellation_points.txt")
_HOME = str(Path(resilience.__file__).parent)
_LONG = 1000.0  # seconds, longer than any deadline here


# ------------------------------------------------------------------------------ what is guarded, and by what


class _Counted(Policy):
    """Counts the calls that a breaker outside of it lets in."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries = 0

    def __repr__(self) -> str:
        return "Counted()"

    def link(self, step: Step, hub: Hub) -> Step:
        def counted(call: Call) -> Any:
            self.entries += 1
            return step(call)

        return counted


class _Spent(Bucket):
    """Counts the tokens that were spent and not given back."""

    __slots__ = ("spent",)

    plain = False  # no step may take one where nobody counts

    def __init__(self, speed: float, burst: int, now: float) -> None:
        super().__init__(speed, burst, now)
        self.spent = 0

    def take(self, weight: int, now: float) -> bool:
        taken = super().take(weight, now)
        self.spent += weight * taken
        return taken

    def _take_for_first(self, weight: int, now: float) -> bool:
        taken = super()._take_for_first(weight, now)
        self.spent += weight * taken
        return taken

    def _put_back(self, weight: int) -> None:
        super()._put_back(weight)
        self.spent -= weight


_names = itertools.count()
_now_in: Rig


class Rig:
    """One pipeline, its callee, and what there is to look at afterwards. Built anew for each run."""

    def __init__(self, shape: Sequence[str]) -> None:
        global _now_in  # noqa: PLW0603 - one rig at a time is built and driven
        _now_in = self
        self.shape = shape
        self.breakers: list[tuple[CircuitBreaker, _Counted, Generation]] = []
        self.entries: list[dict[Call, Any]] = []
        self.heard: list[Recorder] = []
        self.bulkheads: list[Bulkhead] = []
        self.adaptives: list[ConcurrencyLimit] = []
        self.limits: list[tuple[_Spent, _Counted]] = []
        self.held: list[Place] = []
        self.flights: list[SingleFlight] = []
        self.budgets: list[RetryBudget] = []
        self.attempts = self.inside = self.opened = self.closed = self.streams = 0
        policies: list[Policy | Pipeline] = []
        for depth, kind in enumerate(shape):
            if kind not in BLOCKS:
                policies += KINDS[kind](self, depth)
        self.pipeline = Pipeline(*policies)

    def breaker(self, *, half_open: bool = False, watching: bool = False) -> Sequence[Policy]:
        made = CircuitBreaker(
            f"sweep {next(_names)}",
            on=ValueError,
            # A failing attempt is nothing to a breaker that probes, so that its retry meets it half-open again.
            ignore=OSError if half_open else (),
            trip=ConsecutiveFailures(2),
            overdue_after=500 if watching else None,
            probe_lease=500,
        )
        if half_open:
            made._core.force(CircuitState.HALF_OPEN)
        counted = _Counted()
        self.breakers.append((made, counted, made._core.circuit.current))
        return made, counted

    def bulkhead(self, *, full: bool = False) -> Sequence[Policy]:
        """With a free place, or with one that becomes free after a while: when a rate limit around has let it in."""
        made = Bulkhead(1, queue=1)
        self.bulkheads.append(made)
        if full:
            self.held.append(made.admit())
            _later(1.5 if self.limits else 0.5, self.come_free)
        return (made,)

    def come_free(self) -> None:
        while self.held:
            self.held.pop().release()

    def limit(self) -> Sequence[Policy]:
        """With a turn that comes after a second."""
        made = RateLimit(1, burst=1, max_wait=50)
        made._core.bucket = bucket = _Spent(1, 1, made._core.now())
        made.drain()
        counted = _Counted()
        self.limits.append((bucket, counted))
        return made, counted

    def paid(self, policy: Policy) -> Sequence[Policy]:
        """With a budget of its own, whose sleepers are looked at."""
        budget = RetryBudget(0, minimum_per_second=1)
        self.budgets.append(budget)
        return (attrs.evolve(policy, budget=budget),)

    def flying(self) -> Sequence[Policy]:
        made = SingleFlight(key="one")
        self.flights.append(made)
        return (made,)

    def adaptive(self) -> Sequence[Policy]:
        made = ConcurrencyLimit(AIMD(minimum=1))
        self.adaptives.append(made)
        return (made,)

    def listening(self) -> Sequence[Pipeline]:
        recorder = Recorder(CallFinished)
        self.heard.append(recorder)
        return (Pipeline(name=f"heard {next(_names)}", listeners=[recorder]),)

    # The callee: two waits for each attempt; with a retry around, the first two attempts fail.

    async def callee(self) -> int:
        self.attempts += 1
        attempt = self.attempts
        self.inside += 1
        try:
            await anyio.lowlevel.checkpoint()
            slow = attempt == 1 and not _SLOW.isdisjoint(self.shape)
            await anyio.sleep(_LONG / 4 if slow else 1)
            if attempt < 3 and any(kind.startswith(("Retry", "Fallback")) for kind in self.shape):
                raise OSError
            return attempt
        finally:
            self.inside -= 1

    def manager(self) -> _Manager:
        return _Manager(self)

    async def rows(self) -> AsyncGenerator[int, None]:
        self.streams += 1
        try:
            yield await self.callee()
            await anyio.lowlevel.checkpoint()
            yield 2
        finally:
            self.streams -= 1

    # ------------------------------------------------------------ looking

    def gauges(self) -> list[tuple[Any, ...]]:
        """What a cancellation must leave alone."""
        return [
            (each.state, each.generation, told.successes, told.failures, told.slow, told.openings)
            for each, *_ in self.breakers
            for told in [each.snapshot().totals]
        ]

    def leaks(self) -> Iterator[str]:
        """What is still taken after the call."""
        for breaker, counted, first in self.breakers:
            circuit = breaker._core.circuit
            current = circuit.current
            if isinstance(current, HalfOpen):
                if len(current.seats) != circuit.rules.probes:
                    yield "a half-open seat"
                if current.live:
                    yield "a probe in flight"
            for each in {first, current}:
                if isinstance(each, Closed) and each.watch:
                    yield "a watched call"
            totals = breaker.snapshot().totals
            settled = totals.successes + totals.failures + totals.ignored
            if settled != counted.entries:
                yield f"{counted.entries} permits of which {settled} were settled"
        held = len(self.held)
        for bulkhead in self.bulkheads:
            if bulkhead.in_flight > held:
                yield "a place"
            if bulkhead.waiting:
                yield "a place in a queue"
        if any(each.in_flight for each in self.adaptives):
            yield "a place of an adaptive limit"
        for bucket, counted in self.limits:
            if bucket.waiting or bucket.queued:
                yield "a place in the queue of a rate"
            if bucket.spent != counted.entries:
                yield f"{counted.entries} calls that spent {bucket.spent} tokens"
        for flights in self.flights:
            told = flights.snapshot()
            if told.in_flight or told.waiting:
                yield "a flight"
        if any(self.entries):
            yield "a wheel entry"
        if MODES.in_use or MODES.block.get() is not None:
            yield "a block that is open"
        if any(each.snapshot().asleep for each in self.budgets):
            yield "a sleeper that has paid"
        if self.inside:
            yield "a callee that still runs"
        if self.opened != self.closed:
            yield f"{self.opened} managers entered, {self.closed} left"
        if self.streams:
            yield "a generator that was not closed"


class _Manager:
    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    async def __aenter__(self) -> int:
        answer = await self._rig.callee()
        self._rig.opened += 1
        return answer

    async def __aexit__(self, _: object, error: object, __: object) -> None:
        self._rig.closed += 1
        if not isinstance(error, GeneratorExit):  # then nothing may be awaited
            await anyio.lowlevel.checkpoint()


async def _asked(answer: Any) -> Any:
    """What an async predicate or strategy of the user's does before it answers."""
    await anyio.lowlevel.checkpoint()
    return answer


def _later(seconds: float, act: Callable[[], None]) -> None:
    if running_loop() is None:
        import trio  # noqa: PLC0415 - this backend only

        async def acting() -> None:
            await trio.sleep(seconds)
            act()

        trio.lowlevel.spawn_system_task(acting)
    else:
        asyncio.get_running_loop().call_later(seconds, act)


def _retry(_: Rig, __: int) -> Sequence[Policy]:
    return (Retry(3, on=(OSError, TimeoutError), wait=lambda _: 1.0),)


def _retry_that_asks(_: Rig, __: int) -> Sequence[Policy]:
    return (
        Retry(
            3,
            on=lambda error: _asked(isinstance(error, (OSError, TimeoutError))),
            on_result=lambda _: _asked(False),  # noqa: FBT003
            wait=lambda _: _asked(1.0),
            stop=lambda _: _asked(False),  # noqa: FBT003
        ),
    )


async def _made(_: object, __: object) -> int:
    await anyio.lowlevel.checkpoint()
    return 0


KINDS: dict[str, Callable[[Rig, int], Sequence[Policy | Pipeline]]] = {
    "Timeout": lambda _, depth: (Timeout(100 - depth),),
    "Timeout (fires)": lambda _, depth: (Timeout(10 - depth),),
    "Timeout (computed)": lambda _, depth: (Timeout(lambda _: 100.0 - depth),),
    "Retry": _retry,
    "Retry (asks)": _retry_that_asks,
    "Retry (budget)": lambda rig, depth: rig.paid(_retry(rig, depth)[0]),
    # No two attempts do anything in the same instant: on trio chance would say who is first.
    "Hedge": lambda rig, _: rig.paid(Hedge(0.3, 2, idempotent=True)),
    "Hedge (wins)": lambda _, depth: (Hedge(0.37 + depth / 64, idempotent=True),),
    "CircuitBreaker": lambda rig, _: rig.breaker(),
    "CircuitBreaker (watching)": lambda rig, _: rig.breaker(watching=True),
    "CircuitBreaker (half-open)": lambda rig, _: rig.breaker(half_open=True),
    "Bulkhead": lambda rig, _: rig.bulkhead(),
    "Bulkhead (full)": lambda rig, _: rig.bulkhead(full=True),
    "RateLimit (used up)": lambda rig, _: rig.limit(),
    "Fallback": lambda _, __: (Fallback.using(_made, on=(OSError, TimeoutError)),),
    "LastGood": lambda _, __: (LastGood(500, key="one"),),
    "SingleFlight": lambda rig, _: rig.flying(),
    "Chaos": lambda _, __: (Chaos(1, latency=0.7, enabled=True),),
    "Throttle": lambda _, __: (Throttle(),),
    "ConcurrencyLimit": lambda rig, _: rig.adaptive(),
    "Pipeline (heard)": lambda rig, _: rig.listening(),
}
"""Every policy, in every condition in which it takes other paths."""

_SLOW = frozenset({"Timeout (fires)", "Hedge (wins)", "deadline (fires)"})
BLOCKS = {"deadline": 200.0, "deadline (fires)": 20.0}
"""Blocks around a call, with their seconds."""

SHAPES: tuple[tuple[str, ...], ...] = (
    (),
    *((kind,) for kind in KINDS),
    *itertools.product(KINDS, repeat=2),
    *itertools.product(BLOCKS, KINDS),
    ("Timeout", "Retry", "CircuitBreaker", "Timeout (fires)"),
    ("Timeout", "Retry", "CircuitBreaker (half-open)", "Timeout (computed)"),
    ("Timeout", "Retry", "CircuitBreaker", "Bulkhead (full)", "Timeout (fires)"),
    ("RateLimit (used up)", "Timeout", "Retry", "CircuitBreaker (half-open)", "Bulkhead"),
    ("Fallback", "LastGood", "SingleFlight", "Retry", "CircuitBreaker", "Timeout", "Chaos"),
)


# ------------------------------------------------------------------------------ doors


async def _call(rig: Rig) -> Any:
    return await rig.pipeline(rig.callee)


async def _wrap(rig: Rig) -> Any:
    return await rig.pipeline.wrap(rig.callee)()


async def _informed(rig: Rig) -> Any:
    async def callee(_: Call) -> int:
        return await rig.callee()

    return await rig.pipeline.informed(callee)()


async def _opening(rig: Rig) -> Any:
    async with rig.pipeline.opening(rig.manager)() as value:
        await anyio.lowlevel.checkpoint()
        return value


async def _stream(rig: Rig, *, hold: bool = False) -> Any:
    async with rig.pipeline.stream(rig.rows, hold=hold)() as items:
        return [await _asked(item) async for item in items]


async def _outcome(rig: Rig) -> Any:
    return (await rig.pipeline.outcome(rig.callee)).unwrap()


DOORS: dict[str, Callable[[Rig], Coroutine[Any, Any, Any]]] = {
    "call": _call,
    "wrap": _wrap,
    "informed": _informed,
    "opening": _opening,
    "stream": _stream,
    "stream(hold)": functools.partial(_stream, hold=True),
    "outcome": _outcome,
}


# ------------------------------------------------------------------------------ driving


class Stepped:
    """Drives a coroutine for whoever awaits it, counts its steps and tells where it was suspended after each."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self.step = 0
        self.mapping = False
        self.points: list[str] = []
        self.thrown: BaseException | None = None
        self.before: Callable[[int, BaseException | None], None] = lambda *_: None
        self.after: Callable[[int, Any], None] = lambda *_: None

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Stepped:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        # trio sends an outcome, which raises inside.
        return self._go(self._coroutine.send, value, getattr(value, "error", None))

    def throw(self, error: BaseException, *_: object) -> Any:
        return self._go(self._coroutine.throw, error, error)

    def close(self) -> None:
        self._coroutine.close()

    def _go(self, resume: Callable[[Any], Any], value: Any, error: BaseException | None) -> Any:
        self.step += 1
        self.thrown = error or self.thrown
        self.before(self.step, error)
        waits_for = resume(value)
        if self.mapping:
            self.points.append(_place(self._coroutine))
        self.after(self.step, waits_for)
        return waits_for


_SUSPENDED = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)


def _frames(node: Any) -> Iterator[types.CodeType]:
    """The code of what waits for one another, from the door inwards."""
    while node is not None:
        if not isinstance(node, _SUSPENDED):
            # anext(), aclose() and the like wrap the frame that they drive.
            node = next(
                (each for each in gc.get_referents(node) if isinstance(each, _SUSPENDED)), None
            )
            continue
        for prefix in ("cr", "gi", "ag"):
            if hasattr(node, f"{prefix}_code"):
                yield getattr(node, f"{prefix}_code")
                node = getattr(node, f"{prefix}_yieldfrom" if prefix == "gi" else f"{prefix}_await")
                break


def _place(coroutine: Any) -> str:
    """The innermost function of the library or of this file in which a call is suspended."""
    here = ""
    for code in _frames(coroutine):
        if code.co_filename == __file__:
            here = code.co_name.strip("_")
        elif code.co_filename.startswith(_HOME):
            here = f"{Path(code.co_filename).stem}.{code.co_name}"
    return here


@attrs.frozen
class Scenario:
    """A door and the policies behind it, outermost first."""

    door: str
    shape: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.door}: {' > '.join(self.shape) or 'nothing'}"

    def start(self) -> tuple[Rig, Stepped]:
        rig = Rig(self.shape)
        return rig, Stepped(self.call(rig))

    async def call(self, rig: Rig) -> Any:
        if self.shape and self.shape[0] in BLOCKS:
            with deadline(BLOCKS[self.shape[0]]):
                return await DOORS[self.door](rig)
        return await DOORS[self.door](rig)


def _can_be_closed(scenario: Scenario, backend: str) -> bool:
    """
    Before 3.13, closing a coroutine does not reach an async generator that it waits for: nobody could clean up.

    Nor can a nursery of trio's be left without awaiting its children.
    """
    if backend == "trio" and any(
        kind.startswith(("Hedge", "SingleFlight")) for kind in scenario.shape
    ):
        return False
    return sys.version_info >= (3, 13) or not scenario.door.startswith("stream")


@attrs.frozen
class Way:
    """One way to cancel at one point of a scenario."""

    scenario: Scenario
    backend: str
    how: str  # edge, level or closed
    when: str
    point: int

    def __str__(self) -> str:
        return f"{self.backend} {self.how}, {self.when} at point {self.point} of {self.scenario}"


@attrs.define
class Report:
    """
    What a sweep found.

    Attributes:
        points: Of each backend and scenario, where the call is suspended after each step.
        refused: Shapes that a pipeline refuses to be built of.
        runs: Cancellations, by backend and kind.
        wrong: Where, and what.
    """

    points: dict[tuple[str, Scenario], list[str]] = attrs.field(factory=dict)
    refused: set[str] = attrs.field(factory=set)
    runs: Counter[str] = attrs.field(factory=Counter)
    wrong: list[tuple[str, str]] = attrs.field(factory=list)
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """What is wrong in one line, or nothing."""
        if not self.wrong:
            return ""
        where, what = self.wrong[0]
        return f"{what} ({where})"


@attrs.define
class _End:
    """
    How a run ended: returned, raised, cancelled, swallowed or closed.

    ``before``: the gauges when the cancellation arrived. ``asked``: the point was reached.
    """

    kind: str = ""
    error: BaseException | None = None
    before: list[tuple[Any, ...]] | None = None
    asked: bool = False


class _Enough(Exception):  # noqa: N818 - not an error
    """As many findings as were wanted."""


_CLOSED = object()


class _Sweep:
    """All runs on one backend; here is what the backends share."""

    backend: str
    hows: tuple[str, ...]

    def __init__(self, report: Report, stop_at: float) -> None:
        self.report = report
        self.stop_at = stop_at

    async def host(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run *work* to its end in a task whose cancellation does not leave it."""
        raise NotImplementedError

    async def within(self, rig: Rig, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do it inside of whatever the policies of the rig have to be entered in."""
        await work()

    def between(self, when: str, waits_for: Any, ask: Callable[..., None]) -> None:
        """Ask while the call is suspended."""
        raise NotImplementedError

    def whens(self, how: str, point: int) -> Sequence[str]:
        raise NotImplementedError

    def leftovers(self) -> Iterator[str]:
        raise NotImplementedError

    async def sweep(self, scenarios: Iterable[Scenario]) -> None:
        for scenario in scenarios:
            try:
                rig, stepped = scenario.start()
            except ConfigurationError:
                self.report.refused.add(" > ".join(scenario.shape))
                continue
            stepped.mapping = True
            await self.host(lambda: self.within(rig, lambda: _to_the_end(stepped)))  # noqa: B023 - awaited here
            points = ["start", *stepped.points]
            self.report.points[self.backend, scenario] = points
            hows = [
                how
                for how in self.hows
                if how != "closed" or _can_be_closed(scenario, self.backend)
            ]
            for point, how in itertools.product(range(len(points)), hows):
                for when in self.whens(how, point):
                    await self._once(Way(scenario, self.backend, how, when, point))

    async def _once(self, way: Way) -> None:
        rig, stepped = way.scenario.start()
        end = _End()
        amiss: list[str] = []
        work = self._unstarted if way.when == "unstarted" else self._cancelled
        await self.host(lambda: self.within(rig, lambda: work(way, rig, stepped, end, amiss)))
        self.report.runs[f"{way.backend} {way.how}"] += 1
        if not end.asked:
            amiss.append("the point was not reached again")
        if end.kind == "swallowed":
            amiss.append("the cancellation was swallowed")
        after = rig.gauges()
        if end.kind in {"cancelled", "closed"} and end.before not in (None, after):
            amiss.append(f"it counted: {end.before} became {after}")
        amiss += [*rig.leaks(), *self.leftovers()]
        self.report.wrong += [(str(way), each) for each in amiss]
        if len(self.report.wrong) >= self.stop_at:
            raise _Enough

    async def _unstarted(
        self, way: Way, rig: Rig, stepped: Stepped, end: _End, amiss: list[str]
    ) -> None:
        end.asked = True
        task = asyncio.create_task(way.scenario.call(rig))
        task.cancel()
        await asyncio.wait([task])
        end.kind = "cancelled" if task.cancelled() else "swallowed"
        stepped.close()

    async def _cancelled(
        self, way: Way, rig: Rig, stepped: Stepped, end: _End, amiss: list[str]
    ) -> None:
        task: Any = asyncio.current_task() if self.backend == "asyncio" else None
        with anyio.CancelScope() as scope:
            _arm(way, rig, stepped, end, task.cancel if way.how == "edge" else scope.cancel, self)
            try:
                closed = await stepped is _CLOSED
                end.kind = end.kind or ("closed" if closed else "returned")
            except anyio.get_cancelled_exc_class() as error:
                end.kind, end.error = "cancelled", error
            except (OSError, TimeoutError) as error:
                end.kind, end.error = "raised", error
            if end.kind == "cancelled" and end.error is not stepped.thrown:
                amiss.append("another cancellation came out than went in")
            if end.kind in {"returned", "raised"}:
                # It was asked for in the last step, so it arrives at whatever the caller waits for next.
                try:
                    await anyio.lowlevel.checkpoint()
                except anyio.get_cancelled_exc_class():
                    pass
                else:
                    end.kind = "swallowed"
            if way.how == "level" and isinstance(end.error, anyio.get_cancelled_exc_class()):
                raise end.error
        if task is not None:
            pending = 1 if way.how == "edge" else 0
            if task.cancelling() != pending:
                amiss.append(f"cancelling() is {task.cancelling()}, not {pending}")
            while task.cancelling():
                task.uncancel()
            if task._must_cancel:
                # Two requests in one step are thrown once; the second is still to come.
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)
        try:
            await anyio.sleep(_LONG)
        except anyio.get_cancelled_exc_class():
            amiss.append("a wait after the call was cancelled")


def _arm(
    way: Way, rig: Rig, stepped: Stepped, end: _End, cancel: Callable[[], Any], sweep: _Sweep
) -> None:
    """Have *cancel* called at the way's point, and the gauges read when the cancellation arrives."""

    def ask(*_: object) -> None:
        if not end.asked:
            end.asked = True
            cancel()

    def before(step: int, error: BaseException | None) -> None:
        if way.when == "running" and step == way.point + 1:
            ask()
        if not end.asked or end.before is not None or error is None:
            return
        # On asyncio a deadline of ours may be thrown in while a scope still waits for its turn.
        if way.how == "edge" or way.backend == "trio" or str(error).startswith("Cancelled "):
            end.before = rig.gauges()

    def after(step: int, waits_for: Any) -> None:
        if step != way.point:
            return
        if way.when == "closed":
            end.asked = True
            end.before = rig.gauges()
            try:
                stepped.close()
            except RuntimeError:  # it went on
                end.kind = "swallowed"
            raise StopIteration(_CLOSED)
        if way.when != "running":
            sweep.between(way.when, waits_for, ask)

    stepped.before, stepped.after = before, after


async def _to_the_end(stepped: Stepped) -> None:
    with contextlib.suppress(OSError, TimeoutError):
        await stepped


@final
class _AsyncioSweep(_Sweep):
    backend = "asyncio"
    hows = ("edge", "level", "closed")

    async def host(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.create_task(work())
        await asyncio.wait([task])
        if task.cancelled():
            raise AssertionError("a cancellation left its scope")
        if (error := task.exception()) is not None:
            raise error

    def whens(self, how: str, point: int) -> Sequence[str]:
        if how == "closed":
            return ("closed",) if point else ()
        if point:
            return ("suspended", "woken", "running")
        return ("running", "unstarted") if how == "edge" else ("running",)

    def between(self, when: str, waits_for: Any, ask: Callable[..., None]) -> None:
        if when == "woken" and isinstance(waits_for, asyncio.Future):
            waits_for.add_done_callback(ask)  # ahead of the task's own callback
        else:
            asyncio.get_running_loop().call_soon(ask)

    def leftovers(self) -> Iterator[str]:
        loop: Any = asyncio.get_running_loop()
        for handle in loop._scheduled:
            owner = getattr(handle._callback, "__self__", None)
            if not handle.cancelled() and not isinstance(owner, Wheel | Rig):
                yield f"a timer: {handle!r}"
        if len(asyncio.all_tasks()) > 1:
            yield "a task"


@final
class _TrioSweep(_Sweep):
    """On trio a cancellation arrives at a wait only, so a woken call is a running one."""

    backend = "trio"
    hows = ("level", "closed")

    async def host(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await work()

    async def within(self, rig: Rig, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for flights in rig.flights:
                await stack.enter_async_context(flights)
            await work()

    def whens(self, how: str, point: int) -> Sequence[str]:
        if how == "closed":
            return ("closed",) if point else ()
        return ("suspended", "running") if point else ("running",)

    def between(self, when: str, waits_for: Any, ask: Callable[..., None]) -> None:
        ask()  # trio looks at it when it takes the wait from us

    def leftovers(self) -> Iterator[str]:
        import trio  # noqa: PLC0415 - this backend only

        if trio.lowlevel.current_statistics().seconds_to_next_deadline != float("inf"):
            yield "a deadline"
        task = trio.lowlevel.current_task()
        if any(nursery.child_tasks for nursery in task.child_nurseries):
            yield "a task"


class _KeptWheel(Wheel):
    """Leaves its entries with the rig that is being driven."""

    __slots__ = ()

    def __init__(self, loop: asyncio.AbstractEventLoop, instant: float | None = None) -> None:
        super().__init__(loop, instant)
        _now_in.entries.append(self.entries)


def sweep(scenarios: Sequence[Scenario], *, stop_at: float = float("inf")) -> Report:
    """
    Cancel every way at every point of *scenarios* on both backends.

    Args:
        stop_at: Findings after which it stops.
    """
    began = time.perf_counter()
    report = Report()
    silent, LOGGER.disabled = LOGGER.disabled, True
    try:
        with (
            mock.patch.object(_wheel, "Wheel", _KeptWheel),
            warnings.catch_warnings(record=True) as said,
        ):
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", PipelineWarning)
            with contextlib.suppress(_Enough):
                run(_AsyncioSweep(report, stop_at).sweep, scenarios)
                run(_TrioSweep(report, stop_at).sweep, scenarios, backend="trio")
            gc.collect()
    finally:
        LOGGER.disabled = silent
    report.wrong += [("somewhere", f"{each.category.__name__}: {each.message}") for each in said]
    report.seconds = time.perf_counter() - began
    return report


def scenarios(
    shapes: Iterable[tuple[str, ...]] = SHAPES, doors: Iterable[str] = DOORS
) -> list[Scenario]:
    """Every door before every shape that it takes."""
    return [
        Scenario(door, shape)
        for door, shape in itertools.product(doors, shapes)
        if takes(door, shape)
    ]


def takes(door: str, shape: tuple[str, ...]) -> bool:
    """What is opened belongs to one task and one caller: no attempts are made in several, and no answer is shared."""
    sharing = ("Hedge", "LastGood", "SingleFlight")
    return not door.startswith(("opening", "stream")) or not any(
        kind.startswith(sharing) for kind in shape
    )


def points_text(report: Report) -> str:
    """The list of points that is kept beside this file: for each scenario where the call is before each step."""
    rows: dict[Scenario, dict[str, str]] = {}
    for (backend, scenario), places in report.points.items():
        runs = [(place, len(list(each))) for place, each in itertools.groupby(places)]
        told = ", ".join(place if number == 1 else f"{place} x{number}" for place, number in runs)
        rows.setdefault(scenario, {})[backend] = f"{len(places)} | {told}"
    lines = [
        "# Where a call can be cancelled: for each door and shape the places in which it is suspended, in order.",
        "# Found by driving the call, not written by hand. To renew: python -m tests.instruments points --write",
    ]
    for door, group in itertools.groupby(
        sorted(rows, key=_order), key=lambda scenario: scenario.door
    ):
        lines += ["", f"[{door}]"]
        for scenario in group:
            by_backend = rows[scenario]
            shape = " > ".join(scenario.shape) or "(nothing)"
            if len(set(by_backend.values())) == 1 and len(by_backend) == 2:
                by_backend = {"both": by_backend["trio"]}
            lines += [f"{shape} | {backend} | {places}" for backend, places in by_backend.items()]
    lines += ["", "[refused when built]", *sorted(report.refused)]
    return "\n".join(lines) + "\n"


def _order(scenario: Scenario) -> tuple[int, int]:
    return list(DOORS).index(scenario.door), SHAPES.index(scenario.shape)
