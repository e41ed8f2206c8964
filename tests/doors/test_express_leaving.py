"""
What a plain success is not leaves the lane, and comes to the same there as on the linked engine.

Each story is played on both engines; what it saw, call by call, must be equal, down to events and snapshots. How many
calls left is the story's own number.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import resilience
from resilience import (
    AIMD,
    Bulkhead,
    CircuitBreaker,
    ConcurrencyLimit,
    ConsecutiveFailures,
    CountWindow,
    FailureRate,
    RateLimit,
    RetryBudget,
    Throttle,
    Timeout,
    TimeWindow,
)
from resilience.events import (
    CallFinished,
    CallQueued,
    CallRejected,
    CircuitStateChanged,
    CircuitTripped,
    RetryScheduled,
    RetryStopped,
    TimedOut,
    listen,
)
from resilience.registry import Registry
from resilience.testing import ManualClock, Recorder, VirtualEventLoop, disabled, engine, instant
from tests.doors.kit import pipeline
from tests.doors.lanes import ENGINES, Watched, quick_retry

_names = itertools.count(1)
_RARE = (
    CallQueued, CallRejected, CircuitStateChanged, CircuitTripped, RetryScheduled, RetryStopped, TimedOut,
)  # fmt: skip


class Dice(Random):
    """The same dice for both engines, in name as well."""

    def __repr__(self) -> str:
        return "Dice"


def told(error: BaseException | None) -> Any:
    """An error with what is chained to it."""
    if error is None:
        return None
    notes = tuple(getattr(error, "__notes__", ()))
    return type(error).__name__, str(error), notes, told(error.__cause__), told(error.__context__)


class Play:
    """
    A story on one engine.

    Attributes:
        clock: Of every policy.
        seen: What happened, in order.
        watched: How often the lane was left; None on the linked engine.
    """

    def __init__(self, name: Any, unit: float) -> None:
        self.engine = name
        self.unit = unit
        self.clock = ManualClock()
        self.seen: list[Any] = []
        self.watched: Watched | None = None
        self.budgets: list[RetryBudget] = []
        self._recorder = Recorder(*_RARE)
        self._name = f"leaving-{next(_names)}"
        self._policies: tuple[Any, ...] = ()
        self._call: Callable[..., Any] | None = None

    def breaker(self, **options: Any) -> CircuitBreaker:
        given = {"on": OSError, "trip": ConsecutiveFailures(2), "break_duration": 10, **options}
        return CircuitBreaker(self._name, clock=self.clock, **given)

    def registered(self, **options: Any) -> tuple[CircuitBreaker, Callable[..., None]]:
        """A breaker whose options can be changed, and what changes them."""
        registry = Registry()
        given = {"on": OSError, "break_duration": 10, **options}
        gate = registry.breaker(self._name, clock=self.clock, **given)
        return gate, lambda **changed: registry.change(self._name, **changed)

    def budget(self) -> RetryBudget:
        self.budgets.append(RetryBudget(clock=self.clock))
        return self.budgets[-1]

    def through(self, *policies: Any) -> None:
        """From now on calls go through these."""
        self._policies = policies
        with engine(self.engine):
            call = pipeline(*policies, listeners=self._recorder).wrap(_callee)
        if self.engine == "express":
            self.watched = Watched(call)
        self._call = call

    async def __call__(self, step: Any = "well") -> None:
        """One call; *step* is returned, raised, or awaited for its result."""
        assert self._call is not None
        entered: list[None] = []
        try:
            answer = await self._call(step, entered)
        except BaseException as error:  # noqa: BLE001 - it is compared
            answer = told(error)
        self.seen += [self._plain(answer), len(entered), self.state()]

    def _plain(self, answer: object) -> str:
        return repr(answer).replace(self._name, "NAME")

    def state(self) -> Any:
        """What the policies hold, and what was told."""
        events = [_without_time(self._plain(each)) for each in self._recorder.events]
        self._recorder.clear()
        holders = [each for each in (*self._policies, *self.budgets) if hasattr(each, "snapshot")]
        return [self._plain(each.snapshot()) for each in holders], events


def _without_time(event: str) -> str:
    """Instants and spans differ where time does not jump."""
    parts = event.split(", ")
    return ", ".join(part for part in parts if not part.startswith(("at=", "elapsed=")))


async def _callee(step: Any, entered: list[None]) -> Any:
    entered.append(None)
    await anyio.lowlevel.checkpoint()
    if isinstance(step, type) and issubclass(step, BaseException):
        raise step("as told")
    if callable(step):
        return await step()
    return step


STORIES: dict[str, tuple[Any, Any]] = {}
"""Name: the story, the calls that left, and those that the linked steps resumed; None: not counted."""


def story(left: int | None = 0, resumed: int | None = None) -> Callable[[Any], Any]:
    def kept(fn: Callable[[Play], Awaitable[None]]) -> Any:
        STORIES[fn.__name__] = fn, (left, resumed)
        return fn

    return kept


# ------------------------------------------------------------------------------ the lane itself


@story(resumed=0)
async def successes(play):
    play.through(
        Timeout(90), quick_retry(budget=play.budget()), play.breaker(), Bulkhead(2, clock=play.clock),
        RateLimit(9, clock=play.clock), Throttle(clock=play.clock), ConcurrencyLimit(clock=play.clock), Timeout(20),
    )  # fmt: skip
    for _ in range(5):
        await play()
        play.clock.advance(0.01)


@story(resumed=0)
async def successes_in_a_time_window(play):
    play.through(play.breaker(trip=FailureRate(0.5, TimeWindow(10), 2)))
    for _ in range(30):
        await play()
        play.clock.advance(0.7)


@story()
async def failures_leave_a_time_window_with_their_time(play):
    play.through(play.breaker(trip=FailureRate(0.5, TimeWindow(10), 99)))
    for step in (OSError, 1, 1, OSError, 1, 1, 1, OSError, 1, OSError, OSError):
        await play(step)
        play.clock.advance(1.5)


@story(resumed=0)
async def weights(play):
    play.through(Bulkhead(3, weight=2, clock=play.clock), RateLimit(9, weight=4, clock=play.clock))
    await play()
    await play()


@story()
async def failures_that_are_retried(play):
    budget = play.budget()
    play.through(
        quick_retry(budget=budget),
        play.breaker(trip=ConsecutiveFailures(9)),
        Bulkhead(1, clock=play.clock),
    )
    await play(OSError)
    await play(ValueError)
    await play()
    await play(OSError)


@story(resumed=4)
async def base_exceptions(play):
    play.through(
        quick_retry(),
        play.breaker(),
        ConcurrencyLimit(clock=play.clock),
        Bulkhead(1, clock=play.clock),
    )
    for step in (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError):
        await play(step)
    await play()


@story(resumed=1)
async def cut_off(play):
    play.through(
        Timeout(60 * play.unit), play.breaker(), Bulkhead(1, clock=play.clock), Timeout(play.unit)
    )
    await play(anyio.sleep_forever)
    await play()


@story(resumed=2)
async def cut_off_by_the_first_deadline(play):
    play.through(Timeout(play.unit), play.breaker(), Bulkhead(1, clock=play.clock))
    await play(anyio.sleep_forever)
    await play(anyio.sleep_forever)


@story(resumed=1)
async def drops_that_lower_the_limit(play):
    play.through(ConcurrencyLimit(AIMD(initial=20, minimum=1), on=OSError, clock=play.clock))
    await play()
    await play(OSError)
    await play()


# ------------------------------------------------------------------------------ the circuit


@story(left=None)
async def open_and_half_open(play):
    play.through(quick_retry(attempts=1), play.breaker(), Bulkhead(1, clock=play.clock))
    await play(OSError)
    await play(OSError)
    await play()
    play.clock.advance(9)
    await play()
    play.clock.advance(1)
    await play(OSError)
    await play()
    play.clock.advance(10)
    await play()
    await play()


@story(left=2)
async def half_open(play):
    play.through(play.breaker(probes=1, successes_to_close=2))
    await play(OSError)
    await play(OSError)
    play.clock.advance(10)
    await play()
    await play()
    await play()


@story(left=None)
async def isolated(play):
    gate = play.breaker()
    play.through(gate)
    await play()
    with gate.isolate():
        await play()
    await play()


@story(left=3)
async def switched_off(play):
    gate = play.breaker()
    play.through(gate)
    gate.disable()
    for step in (OSError, OSError, 1):
        await play(step)
    gate.reset()
    await play()


@story()
async def observing(play):
    gate = play.breaker()
    play.through(gate)
    gate.observe()
    for step in (OSError, OSError, OSError, 1):
        await play(step)


@story()
async def watched_while_it_runs(play):
    play.through(play.breaker(overdue_after=5))
    for step in (1, OSError, 1):
        await play(step)


@story(left=2)
async def results_that_are_judged(play):
    gate = play.breaker(on_result=lambda result: result == "bad")
    play.through(gate)
    await play("bad")
    await play("bad")
    assert "OPEN" == gate.state.name


@story(left=3)
async def changed_to_a_window_of_the_other_kind(play):
    gate, change = play.registered(trip=ConsecutiveFailures(3))
    play.through(gate)
    await play(OSError)
    change(trip=FailureRate(0.5, TimeWindow(10), 2))
    await play()
    play.clock.advance(8)
    await play()
    play.clock.advance(8)
    await play(OSError)
    change(trip=ConsecutiveFailures(3))
    await play()


@story(left=1)
async def changed_to_judge_results_and_back(play):
    gate, change = play.registered(trip=FailureRate(0.5, CountWindow(10), 2))
    play.through(gate)
    await play(OSError)
    change(on_result=lambda result: result == "bad")
    await play("bad")
    change(on=ValueError, on_result=None)
    await play(OSError)
    await play("bad")


# ------------------------------------------------------------------------------ the other gates


@contextlib.asynccontextmanager
async def _running(play: Play) -> Any:
    """One call is in flight meanwhile."""
    gate = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(play, gate.wait)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        yield
        gate.set()


@story(left=1)
async def full(play):
    play.through(Bulkhead(1, clock=play.clock))
    async with _running(play):
        await play()
    await play()


@story(left=2)
async def full_with_a_line(play):
    play.through(Bulkhead(1, queue=1, clock=play.clock))
    gate = anyio.Event()
    async with anyio.create_task_group() as group:
        for step in (gate.wait, "waited", "turned away"):
            group.start_soon(play, step)
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
        gate.set()
    await play()


@story(left=1)
async def too_heavy(play):
    play.through(Bulkhead(3, weight=2, clock=play.clock))
    async with _running(play):
        await play()
    await play()


@story(left=2)
async def used_up(play):
    play.through(RateLimit(2, per=10, clock=play.clock))
    for _ in range(4):
        await play()
    play.clock.advance(5)
    await play()


@story(left=2)
async def turned_away_by_the_second_gate(play):
    play.through(Bulkhead(1, clock=play.clock), RateLimit(2, per=10, clock=play.clock))
    for _ in range(4):
        await play()
    play.clock.advance(5)
    await play()


@story(left=1)
async def turned_away_by_the_second_gate_after_tokens(play):
    play.through(RateLimit(9, per=10, weight=2, clock=play.clock), Bulkhead(1, clock=play.clock))
    async with _running(play):
        await play()
    await play()


@story(left=2)
async def turned_away_by_the_last_of_all_gates(play):
    play.through(
        Bulkhead(5, weight=2, clock=play.clock), RateLimit(9, per=10, weight=2, clock=play.clock),
        ConcurrencyLimit(clock=play.clock), Throttle(clock=play.clock), Bulkhead(2, clock=play.clock),
        RateLimit(1, per=10, clock=play.clock),
    )  # fmt: skip
    for _ in range(3):
        await play()
    play.clock.advance(10)
    await play()


@story(left=1)
async def at_the_limit(play):
    play.through(
        Bulkhead(9, clock=play.clock),
        ConcurrencyLimit(AIMD(initial=1, minimum=1, maximum=1), clock=play.clock),
    )
    async with _running(play):
        await play()
    await play()


@story(left=None)
async def throttled(play):
    play.through(
        Throttle(1.1, on=OSError, minimum_calls=3, window=60, rng=Dice(3), clock=play.clock)
    )
    for step in (OSError, OSError, 1, OSError, OSError, 1, 1, OSError, 1, OSError):
        await play(step)
    for _ in range(12):
        await play()
        play.clock.advance(7)


# ------------------------------------------------------------------------------ tasks and contexts


@story(left=2)
async def entered_again(play):
    async def inner():
        await play("inner")
        await play("inner again")
        return "outer"

    play.through(Timeout(50), play.breaker(), Timeout(20))
    await play(inner)
    await play()


@story(left=1)
async def entered_again_and_cut_off(play):
    # The first deadline falls on the inner call, where the story keeps the cancellation.
    async def inner():
        await play(anyio.sleep_forever)
        return "outer"

    play.through(Timeout(play.unit), play.breaker(trip=ConsecutiveFailures(9)))
    await play(inner)
    await play()


@story(left=1)
async def cancelled_before(play):
    play.through(Timeout(50), Timeout(20))
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await play()
    task.uncancel()
    await play()


@story(left=1)
async def policies_are_disabled(play):
    play.through(Timeout(50), play.breaker())
    with disabled():
        await play(OSError)
    await play()


@story(left=1)
async def waits_are_skipped(play):
    play.through(quick_retry(), play.breaker())
    with instant():
        await play(OSError)
    await play()


@story(left=2)
async def a_deadline_around_the_block(play):
    play.through(Timeout(50 * play.unit), play.breaker())
    with resilience.deadline(play.unit):
        await play(anyio.sleep_forever)
    with resilience.deadline(5 * play.unit):
        await play()
    await play()


@story(left=1)
async def a_listener_for_every_call(play):
    play.through(Timeout(50), play.breaker())
    heard = Recorder(CallFinished)
    with listen(heard):
        await play()
    await play()
    play.seen.append(str(len(heard)))


_ASYNCIO_ONLY = {"cancelled_before": "trio's tasks are not cancelled by hand"}
_WITH_DEADLINES = {name for name, (fn, _) in STORIES.items() if "Timeout" in fn.__code__.co_names}


@pytest.mark.parametrize("name", STORIES)
async def test_a_story_is_the_same_on_both_engines(backend, unit, name):
    """
    Law 35, issue 7.1: results, error chains, events and states are equal; the lane is left exactly where it must be.
    """
    if backend == "trio" and name in _ASYNCIO_ONLY:
        pytest.skip(_ASYNCIO_ONLY[name])
    tell, (left, resumed) = STORIES[name]
    plays = {each: Play(each, unit) for each in ENGINES}
    for play in plays.values():
        await tell(play)
    express, linked = (plays[each] for each in ENGINES)
    assert linked.seen == express.seen
    assert linked.seen
    assert express.watched is not None
    if backend == "trio" and name in _WITH_DEADLINES:
        # A scope of trio's is a block: with a deadline nothing begins in the lane.
        assert 0 == express.watched.resumed
        return
    if left is not None:
        assert left == express.watched.left
    if resumed is not None:
        assert resumed == express.watched.resumed


def test_stories_would_tell_engines_apart():
    """
    A control: a story that looks at the engine is found different.
    """

    async def tells(play: Play) -> None:
        play.through(Bulkhead(1, clock=play.clock))
        await play(play.engine)

    async def both() -> list[Any]:
        plays = [Play(each, 1.0) for each in ENGINES]
        for play in plays:
            await tells(play)
        return [play.seen for play in plays]

    first, second = resilience.testing.run(both)
    assert first != second


def test_another_loop_has_a_wheel_of_its_own():
    """
    Law 37: one wrapped function on one loop after the other, and on two at once, cuts off on each, from the lane.
    """
    with engine("express"):
        call = Timeout(1).wrap(_callee)
    watched = Watched(call)

    async def cut() -> str:
        try:
            await call(asyncio.Event().wait, [])
        except TimeoutError:
            return "cut"
        raise AssertionError

    def on_a_loop() -> str:
        loop = VirtualEventLoop()
        try:
            return loop.run_until_complete(cut())
        finally:
            loop.close()

    assert ["cut", "cut"] == [on_a_loop(), on_a_loop()]
    ends: list[str] = []
    barrier = threading.Barrier(2)

    def in_a_thread() -> None:
        barrier.wait()
        ends.append(on_a_loop())

    threads = [threading.Thread(target=in_a_thread) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert ["cut", "cut"] == ends
    assert (0, 4) == watched.seen


@pytest.mark.parametrize("door", ["wrap", "call"])
async def test_successes_stay_in_the_lane(backend, door):
    """
    Issue 7.1: on the happy path the linked function is not called once, nor by ``await p(fn)``.
    """
    policies = Bulkhead(5), RateLimit(1000), Throttle(), ConcurrencyLimit()
    timeouts = () if backend == "trio" else (Timeout(20),)
    with engine("express"):
        guard = pipeline(*timeouts, quick_retry(), *policies)
        if door == "wrap":
            made = call = guard.wrap(_callee)
        else:
            assert 0 == await guard(_callee, 0, [])
            made, call = guard._runner, lambda *args: guard(_callee, *args)
    watched = Watched(made)
    for number in range(10):
        assert number == await call(number, [])
    assert (0, 0) == watched.seen
