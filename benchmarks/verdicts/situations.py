"""
The situations: each is played with a fresh breaker, in virtual time, and ends with what the breaker did.

A situation speaks of calls that the test itself lets succeed, fail or be cancelled, one by one, so that what is in
flight when the circuit moves is no accident.
"""

from __future__ import annotations

import asyncio
import random
import sys
import sysconfig
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import attrs

from benchmarks.rivals import Adapter, Hook, Settings

if TYPE_CHECKING:
    from benchmarks.verdicts.clocks import Time

__all__ = ["SITUATIONS", "SKIPPED", "Situation", "judged"]

SKIPPED = "skipped"
_BREAK = 30.0
_PAST_BREAK = 31.0  # some open only when strictly more than the break has passed
_THREADS = 8
_CALLS_PER_THREAD = 10
_THREAD_ROUNDS = 8
_STDLIB = sysconfig.get_path("stdlib")


class Wrong(Exception):  # noqa: N818 - a verdict, not an error
    """What it did instead."""


class NotAskedError(Exception):
    """There is no such setting; the text stands in the cell."""


async def _settled() -> None:
    """Let every task run until it waits for something outside."""
    for _ in range(20):
        await asyncio.sleep(0)


class Attempt:
    """One call: admitted or rejected, and ended by hand."""

    def __init__(self, guarded: Callable[[Attempt], Awaitable[Any]]) -> None:
        self.admitted = False
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.task = asyncio.ensure_future(guarded(self))

    async def entered(self) -> str:
        self.admitted = True
        return await self._end

    @property
    def rejected(self) -> bool:
        return self.task.done() and not self.admitted

    async def _after(self) -> BaseException | str:
        await _settled()
        if not self.task.done():
            raise Wrong("the call does not end")
        if self.task.cancelled():
            return "cancelled"
        return self.task.exception() or self.task.result()

    async def succeed(self) -> BaseException | str:
        self._end.set_result("answer")
        return await self._after()

    async def fail(self) -> BaseException | str:
        self._end.set_exception(ConnectionError("the dependency failed"))
        return await self._after()

    async def ignore(self) -> BaseException | str:
        self._end.set_exception(ValueError("nothing to do with the dependency"))
        return await self._after()

    async def cancel(self) -> BaseException | str:
        self.task.cancel()
        return await self._after()

    async def abandon(self) -> None:
        """For the end of a situation: nothing stays behind."""
        self.task.cancel()
        await asyncio.wait([self.task])


class Stage:
    """A fresh breaker with a function behind it."""

    def __init__(
        self, adapter: Adapter, settings: Settings, clocks: Time, listener: Hook | None = None
    ) -> None:
        self.adapter = adapter
        self.settings = settings
        self.clocks = clocks
        self.breaker = adapter.breaker(settings, listener)
        self._guarded = self.breaker.wrap(Attempt.entered)
        self._attempts: list[Attempt] = []

    async def start(self, calls: int = 1) -> list[Attempt]:
        begun = [Attempt(self._guarded) for _ in range(calls)]
        self._attempts += begun
        await _settled()
        return begun

    async def one(self) -> Attempt:
        (attempt,) = await self.start()
        return attempt

    async def failures(self, number: int) -> None:
        for _ in range(number):
            attempt = await self.one()
            if not attempt.admitted:
                raise Wrong("rejects while it should be closed")
            await attempt.fail()

    async def open(self) -> None:
        await self.failures(self.settings.failures)
        if self.breaker.state() != "open":
            raise Wrong(f"{self.settings.failures} failures leave it {self.breaker.state()}")

    async def opened_and_over(self) -> None:
        await self.open()
        await asyncio.sleep(_PAST_BREAK)

    async def probe(self) -> Attempt:
        """The first call after the break."""
        attempt = await self.one()
        if not attempt.admitted:
            raise Wrong("admits no probe after the break")
        return attempt

    async def close(self) -> None:
        for attempt in self._attempts:
            if not attempt.task.done():
                await attempt.abandon()
            elif not attempt.task.cancelled():
                attempt.task.exception()  # seen


async def racing_callers(stage: Stage) -> None:
    await stage.opened_and_over()
    attempts = await stage.start(1_000)
    admitted = sum(attempt.admitted for attempt in attempts)
    if admitted != 1:
        raise Wrong(f"admits {admitted:,}")
    waiting = sum(not attempt.task.done() for attempt in attempts) - 1
    if waiting:
        raise Wrong(f"{waiting} wait for the probe")


async def _place_is_free(stage: Stage) -> None:
    state = stage.breaker.state()
    if state == "closed":
        raise Wrong("closes")
    if not (await stage.one()).admitted:
        await asyncio.sleep(_PAST_BREAK)
        lost = not (await stage.one()).admitted
        raise Wrong("the place is lost, for ever half-open" if lost else "opens again")


async def cancelled_probe(stage: Stage) -> None:
    await stage.opened_and_over()
    probe = await stage.probe()
    if await probe.cancel() != "cancelled":
        raise Wrong("swallows the cancellation")
    await _place_is_free(stage)


async def ignored_probe(stage: Stage) -> None:
    if not stage.adapter.ignores:
        raise NotAskedError("- (cannot ignore an error)")
    await stage.opened_and_over()
    probe = await stage.probe()
    await probe.ignore()
    await _place_is_free(stage)


async def cancelled_calls_while_closed(stage: Stage) -> None:
    await stage.failures(stage.settings.failures - 1)
    for _ in range(5):
        attempt = await stage.one()
        if not attempt.admitted:
            raise Wrong("counts them as failures: opens")
        await attempt.cancel()
    if stage.breaker.state() != "closed":
        raise Wrong("counts them as failures: opens")
    await stage.failures(1)
    if stage.breaker.state() != "open":
        raise Wrong("counts them as successes: forgets the failures")


async def stale_success_while_open(stage: Stage) -> None:
    slow = await stage.one()
    await stage.open()
    await slow.succeed()
    if stage.breaker.state() != "open" or (await stage.one()).admitted:
        raise Wrong("closes")


async def stale_success_in_half_open(stage: Stage) -> None:
    slow = await stage.one()
    await stage.opened_and_over()
    probe = await stage.probe()
    await slow.succeed()
    if stage.breaker.state() != "half-open":
        raise Wrong("closes" if stage.breaker.state() == "closed" else "opens")
    await probe.fail()
    if stage.breaker.state() != "open":
        raise Wrong(f"a failed probe then leaves it {stage.breaker.state()}")


async def stale_failure_in_half_open(stage: Stage) -> None:
    slow = await stage.one()
    await stage.opened_and_over()
    probe = await stage.probe()
    await slow.fail()
    if stage.breaker.state() != "half-open":
        raise Wrong("opens again")
    await probe.succeed()
    if stage.breaker.state() != "closed":
        raise Wrong(f"a good probe then leaves it {stage.breaker.state()}")


async def stale_failures_after_recovery(stage: Stage) -> None:
    slow = await stage.start(stage.settings.failures)
    await stage.opened_and_over()
    await (await stage.probe()).succeed()
    if stage.breaker.state() != "closed":
        raise Wrong(f"a good probe leaves it {stage.breaker.state()}")
    for attempt in slow:
        await attempt.fail()
    if stage.breaker.state() != "closed" or not (await stage.one()).admitted:
        raise Wrong("opens")


async def _second_round(stage: Stage) -> tuple[Attempt, Attempt]:
    """A probe of the first round, still in flight, and one of the second."""
    await stage.opened_and_over()
    old = await stage.probe()
    await (await stage.probe()).fail()
    if stage.breaker.state() == "half-open" and stage.breaker.reset():
        # This one ends a round with its last probe only; by hand it comes to the same.
        await stage.open()
    if stage.breaker.state() != "open":
        raise Wrong(f"a failed probe leaves it {stage.breaker.state()}")
    await asyncio.sleep(_PAST_BREAK)
    return old, await stage.probe()


async def stale_probe_succeeds(stage: Stage) -> None:
    old, new = await _second_round(stage)
    await old.succeed()
    if stage.breaker.state() == "closed":
        raise Wrong("closes")
    if stage.breaker.state() == "open":
        raise Wrong("opens")
    await new.succeed()
    if stage.adapter.counts_successes and stage.breaker.state() == "closed":
        raise Wrong("counts it: closes one success early")


async def stale_probe_fails(stage: Stage) -> None:
    old, new = await _second_round(stage)
    await old.fail()
    if stage.breaker.state() != "half-open":
        raise Wrong("opens again" if stage.breaker.state() == "open" else "closes")
    await new.succeed()
    if stage.adapter.counts_successes and stage.breaker.state() != "half-open":
        raise Wrong(f"one success of two then leaves it {stage.breaker.state()}")


class _ListenerFault(Exception):  # noqa: N818 - the listener's own, and nobody's business
    pass


async def raising_listener(stage: Stage) -> None:
    if not stage.adapter.listens:
        raise NotAskedError("- (no listeners)")

    heard = []

    def listener(*args: object, **kwargs: object) -> None:
        heard.append(args)
        raise _ListenerFault

    stage = Stage(stage.adapter, stage.settings, stage.clocks, listener)
    try:
        await _raising_listener(stage)
    finally:
        await stage.close()
    if not heard:
        raise Wrong("tells the listener nothing")


async def _raising_listener(stage: Stage) -> None:
    for _ in range(stage.settings.failures):
        error = await (await stage.one()).fail()
        if isinstance(error, _ListenerFault):
            raise Wrong("its error replaces the call's own")
    if stage.breaker.state() != "open":
        raise Wrong(f"stays {stage.breaker.state()} after {stage.settings.failures} failures")
    await asyncio.sleep(_PAST_BREAK)
    if (answer := await (await stage.probe()).succeed()) != "answer":
        raise Wrong(f"a good call ends with {type(answer).__name__}")
    if stage.breaker.state() != "closed":
        raise Wrong(f"a good probe leaves it {stage.breaker.state()}")


async def clock_set_back(stage: Stage) -> None:
    await stage.open()
    stage.clocks.step -= 3600
    await asyncio.sleep(_PAST_BREAK)
    if (await stage.one()).admitted:
        return
    await asyncio.sleep(3600)
    if (await stage.one()).admitted:
        raise Wrong("stays open an hour longer")
    raise Wrong("never admits a call again")


async def hung_probe(stage: Stage) -> None:
    await stage.opened_and_over()
    await stage.probe()
    for _ in range(20):
        await asyncio.sleep(_BREAK)
        if (await stage.one()).admitted:
            return
    raise Wrong("rejects for ever")


def _unkind(seed: int) -> Callable[..., Any]:
    """A trace function that lets another thread run before one line in four, of everything but the standard library."""
    chance = random.Random(seed).random

    def before_line(frame: Any, event: str, _: Any) -> Any:
        if event == "line" and chance() < 0.25:
            time.sleep(0)
        return before_line

    def enter(frame: Any, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        return None if name.startswith(_STDLIB) and "site-packages" not in name else before_line

    return enter


async def exact_counts(stage: Stage) -> None:
    """Threads with loops of their own; nothing suspends, so that they meet where the counting is."""
    counts_successes = stage.breaker.calls() is not None
    total = _THREADS * _CALLS_PER_THREAD
    settings = attrs.evolve(stage.settings, failures=10 * total, window=10 * total)
    breakers = [stage.adapter.breaker(settings) for _ in range(_THREAD_ROUNDS)]

    async def answer(*, fails: bool) -> None:
        if fails:
            raise ConnectionError

    rounds = [breaker.wrap(answer) for breaker in breakers]
    barrier = threading.Barrier(_THREADS)
    foreign: list[Exception] = []

    async def calls(guarded: Callable[..., Awaitable[None]]) -> None:
        for _ in range(_CALLS_PER_THREAD):
            for fails in (False, True) if counts_successes else (True,):
                try:
                    await guarded(fails=fails)
                except ConnectionError:
                    pass
                except Exception as error:  # noqa: BLE001 - the breaker's own: it has lost its way
                    foreign.append(error)

    async def all_rounds(seed: int) -> None:
        unkind = _unkind(seed)
        for guarded in rounds:
            barrier.wait(60)
            before = sys.gettrace()
            sys.settrace(unkind)
            await calls(guarded)
            sys.settrace(before)

    threads = [
        threading.Thread(target=asyncio.run, args=(all_rounds(seed),)) for seed in range(_THREADS)
    ]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    if foreign:
        raise Wrong(f"calls end with {type(foreign[0]).__name__}")
    for breaker in breakers:
        if breaker.failures() != total:
            raise Wrong("loses failures" if breaker.failures() < total else "counts twice")
        if counts_successes and breaker.calls() != 2 * total:
            raise Wrong("loses successes" if (breaker.calls() or 0) < 2 * total else "counts twice")


_ONE_PROBE = Settings(failures=3, break_seconds=_BREAK)
_TWO_PROBES = attrs.evolve(_ONE_PROBE, probes=2, successes=2)


@attrs.frozen
class Situation:
    """One row: its name, its heading, what is done and what is right, and the settings it needs."""

    name: str
    title: str
    play: Callable[[Stage], Awaitable[None]]
    definition: str
    settings: Settings = _ONE_PROBE


SITUATIONS = (
    Situation(
        "racing_callers",
        "1,000 callers race for the probe",
        racing_callers,
        "The break is over and 1,000 tasks call at once. Right: one is admitted, 999 are rejected before it ends.",
    ),
    Situation(
        "cancelled_probe",
        "Cancelled probe",
        cancelled_probe,
        "The task of the probe is cancelled from outside. Right: the circuit neither closes nor opens, and the "
        "next caller is admitted at once.",
    ),
    Situation(
        "ignored_probe",
        "Ignored probe",
        ignored_probe,
        "The probe ends with an error that the breaker was told to ignore or exclude. Right: as for a cancelled "
        "one. An error that is not about the dependency is no proof that it has recovered.",
    ),
    Situation(
        "cancelled_calls",
        "Cancelled calls while closed",
        cancelled_calls_while_closed,
        "Two failures, five calls cancelled from outside, one failure. Right: closed until the last one, then "
        "open: the cancelled calls are neither failures nor successes.",
    ),
    Situation(
        "stale_success_open",
        "Stale success while open",
        stale_success_while_open,
        "A call starts, the circuit opens, the call succeeds. Right: the circuit stays open for its break.",
    ),
    Situation(
        "stale_success_half_open",
        "Stale success in half-open",
        stale_success_in_half_open,
        "A call starts, the circuit opens and becomes half-open, a probe is in flight, the old call succeeds, "
        "the probe fails. Right: half-open until the probe ends, then open.",
    ),
    Situation(
        "stale_failure_half_open",
        "Stale failure in half-open",
        stale_failure_in_half_open,
        "The same, but the old call fails and the probe succeeds. Right: half-open until the probe ends, then "
        "closed.",
    ),
    Situation(
        "stale_failures_recovered",
        "Stale failures after recovery",
        stale_failures_after_recovery,
        "Three calls start, the circuit opens and recovers, the three calls fail. Right: closed: they tell of an "
        "outage that is over.",
    ),
    Situation(
        "stale_probe_succeeds",
        "Stale probe of an older round succeeds",
        stale_probe_succeeds,
        "Two probes, two successes to close where that can be set. A probe of the first round is still running "
        "when the other has failed, the second break is over and a probe of the second round is in flight; it "
        "succeeds, then the new one does. Right: half-open after the first, and after the second where two "
        "successes are needed. (interlock-cb ends a round with its last probe only; there the first round ends "
        "with a reset by hand.)",
        _TWO_PROBES,
    ),
    Situation(
        "stale_probe_fails",
        "Stale probe of an older round fails",
        stale_probe_fails,
        "The same, but the old probe fails. Right: half-open; the new probe decides.",
        _TWO_PROBES,
    ),
    Situation(
        "raising_listener",
        "Listener that raises",
        raising_listener,
        "A listener raises at everything it hears. Right: the failing calls end without its error, the circuit "
        "opens, and a good probe returns its answer and closes it.",
    ),
    Situation(
        "clock_set_back",
        "Clock set back",
        clock_set_back,
        "The wall clock is set back by an hour while the circuit is open; the monotonic clock goes on. Right: a "
        "call is admitted when the break is over.",
    ),
    Situation(
        "hung_probe",
        "Hung probe",
        hung_probe,
        "The probe never ends, and no timeout stands inside the breaker. Right: another caller is admitted "
        "within ten minutes. A breaker that does not limit its probes has no trouble here.",
    ),
    Situation(
        "exact_counts",
        "Exact counts from 8 threads",
        exact_counts,
        f"Eight threads, each with its own loop, make {_CALLS_PER_THREAD} failing calls each (and as many good "
        "ones between them where successes are counted) through one breaker that never opens. The threads are "
        "made to take turns before one line in four of the breaker's code, which the language allows anywhere. "
        f"{_THREAD_ROUNDS} times, with a new breaker each time. Right: the calls end as they would alone, and the "
        "breaker's own numbers are the true ones.",
    ),
)


def judged(adapter: Adapter, clocks: Time) -> dict[str, list[str]]:
    """Situation -> [verdict, what it did], the worst of all kinds of counting."""
    answers = {}
    for situation in SITUATIONS:
        found = [_verdict(adapter, situation, kind, clocks) for kind in adapter.kinds]
        answers[situation.name] = max(
            found, key=lambda each: ("right", SKIPPED, "wrong").index(each[0])
        )
    return answers


def _verdict(adapter: Adapter, situation: Situation, kind: Any, clocks: Time) -> list[str]:
    from resilience.testing import VirtualEventLoop  # noqa: PLC0415 - after the clocks are in

    async def play() -> list[str]:
        clocks.loop = asyncio.get_running_loop()
        stage = Stage(adapter, attrs.evolve(situation.settings, kind=kind), clocks)
        try:
            await situation.play(stage)
        except Wrong as did:
            return ["wrong", str(did)]
        except NotAskedError as why:
            return [SKIPPED, str(why)]
        finally:
            await stage.close()
        return ["right", "right"]

    clocks.step = 0.0
    with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
        return runner.run(play())
