"""
One plan on one engine: callers, callees and the one who changes things, and the trace of all that anybody could see.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import logging
import random
import sys
import types
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any

import anyio
import tenacity
import trio
from anyio._backends._asyncio import _task_states as anyio_tasks

from resilience import (
    CircuitOpenError,
    CircuitState,
    ConfigurationError,
    Pipeline,
    Policy,
    RejectedError,
    TimeoutExceededError,
    deadline,
    events,
)
from resilience._fronts import LANE
from resilience.clock import PROCESS_CLOCK, RNG
from resilience.events import LOGGER
from resilience.modes import MODES, Engine
from resilience.testing import disabled, engine, forced, instant
from tests.instruments.differential.building import Built, Listening
from tests.instruments.differential.loops import START, Runaway, SeededLoop, run_trio
from tests.instruments.differential.plans import Act, Asked, Caller, Cut, Plan, Script
from tests.instruments.differential.telling import Answer, Boom, Bye, Known

__all__ = ["Played", "play", "prepared"]

_LONG = 300.0  # seconds, longer than any deadline of a plan
_OVER = 50.0  # when whatever was taken by hand is given back, so that nobody waits for it for ever
_WALL = 1_700_000_000.0
_VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)


class Played:
    """
    What a run left.

    Attributes:
        trace: Everything that could be seen, in the order in which it happened.
        seen: What of a plan's possibilities really occurred.
        entries, lane: Times a callee was entered, and times it was by a frame of the express lane.
        crashed: The run came to no end, or the oracle failed.
    """

    __slots__ = ("crashed", "entries", "lane", "seen", "trace")

    def __init__(self) -> None:
        self.trace: list[Any] = []
        self.seen: set[str] = set()
        self.entries = self.lane = 0
        self.crashed = ""


def _by_the_lane(frame: types.FrameType | None) -> bool:
    """Whether a callee's frame was entered by the lane's; the one or two nearest are the callee's own."""
    for _ in range(3):
        if frame is None:
            return False
        if f"{LANE}resumed" in frame.f_code.co_freevars:
            return True
        frame = frame.f_back
    return False


class _Driven:
    """Drives a coroutine for so many steps; then closes it, throws something into it, or lets it be."""

    def __init__(
        self, coro: Coroutine[Any, Any, Any], steps: int, thrown: Exception | None
    ) -> None:
        self._coro: Any = coro
        self._steps = steps
        self._thrown = thrown

    def __await__(self) -> Generator[Any, Any, Any]:
        coro: Any = self._coro
        left, thrown = self._steps, self._thrown
        send: Any = coro.send
        value: Any = None
        while True:
            try:
                waits = send(value)
            except StopIteration as stop:
                return stop.value
            left -= 1
            if left == 0:
                if thrown is None:
                    try:
                        coro.close()
                    finally:
                        coro = send = self._coro = None  # as in `World.interleaved`
                    return "closed"
                send, value = coro.throw, thrown
                continue
            try:
                send, value = coro.send, (yield waits)
            except BaseException as error:  # noqa: BLE001 - handed on
                send, value = coro.throw, error


class _Service:
    """Its methods are callees."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def fetch(self, token: int, *rest: int) -> Any:
        return await self.world.entered(token, rest)

    async def __call__(self, token: int) -> Any:
        return await self.world.entered(token)


class World:
    """One run."""

    def __init__(self, plan: Plan, played: Played) -> None:
        self.plan = plan
        self.played = played
        self.trace = played.trace
        self.seen = played.seen.add
        self.known = Known(__file__)
        self.trio = plan.backend == "trio"
        self.sleep: Callable[[float], Awaitable[Any]] = trio.sleep if self.trio else asyncio.sleep
        self.cancelled: Any = trio.Cancelled if self.trio else asyncio.CancelledError
        self.scripts: dict[int, tuple[Script, ...]] = {}
        self.entries: dict[int, int] = {}
        self.scopes: dict[int, Any] = {}
        self.busy: set[int] = set()
        self.tasks: dict[int, Any] = {}
        self.held: list[Any] = []
        self.shared = Boom("shared")
        self.known.add(self.shared, "shared")
        self.service = _Service(self)
        self.loop: Any = None
        self.built: Any = None
        self.start = 0.0 if self.trio else START
        # On trio nobody but trio may close what has a nursery open, or stands in a line of trio's.
        self.trios = self.trio and (
            any(part.kind in {"Hedge", "Bulkhead", "RateLimit"} for part in plan.parts)
            or not {"tasks", "failing tasks"}.isdisjoint(step[0] for step in _steps_of(plan))
        )

    # ------------------------------------------------------------------- build

    def build(self) -> None:
        self.built = Built(self.plan, self.trace, self.checkpoint)
        for part in self.plan.parts:
            self.seen(f"policy {part.kind}")
        self.fns: dict[str, Callable[..., Any]] = {}
        self.wrapped: dict[tuple[str, int, str], Callable[..., Any]] = {}
        for caller in self.plan.callers:
            for asked in caller.calls:
                self.scripts[asked.token] = asked.scripts
                if asked.door not in {"call", "outcome", "policy call", "wrapped now"}:
                    self.wrapped_by(asked)

    async def checkpoint(self) -> None:
        await self.sleep(0)

    def now(self) -> float:
        return PROCESS_CLOCK.now() - self.start

    def callee(self, kind: str) -> Callable[..., Any]:
        fn = self.fns.get(kind)
        if fn is None:
            fn = self.fns[kind] = self._callee(kind)
            self.seen(f"callee {kind}")
        return fn

    def _callee(self, kind: str) -> Callable[..., Any]:
        enter = self.entered

        async def plain(token: int) -> Any:
            return await enter(token)

        async def defaults(
            token: int, /, more: Any = _VARIABLE, *, flag: object | None = None
        ) -> Any:
            return await enter(token, more is _VARIABLE, flag)

        async def varargs(token: int, *rest: Any, **others: Any) -> Any:
            return await enter(token, rest, others)

        async def keyword(*, token: int, other: str = "x") -> Any:
            return await enter(token, other)

        async def names(
            call: int, step: int = 1, *, self: int = 2, fn: int = 3, error: int = 4
        ) -> Any:
            return await enter(call, step, self, fn, error)

        async def shared_args(token: int, kept: list[int] = []) -> Any:  # noqa: B006 - to see that it is the same list
            kept.append(token)
            return await enter(token, len(kept))

        def awaitable(token: int) -> Awaitable[Any]:
            return enter(token)

        made: dict[str, Callable[..., Any]] = {
            "defaults": defaults,
            "varargs": varargs,
            "keyword": keyword,
            "names": names,
            "awaitable": awaitable,
            "shared args": shared_args,
            "method": _Service.fetch,
            "bound": self.service.fetch,
            "partial": functools.partial(_Service.fetch, self.service),
            "object": self.service,
        }
        return made.get(kind, plain)

    def arguments(self, asked: Asked) -> tuple[tuple[Any, ...], dict[str, Any]]:
        token = asked.token
        match asked.callee:
            case "defaults":
                return [((token,), {}), ((token, "m"), {}), ((token,), {"flag": 1})][token % 3]  # type: ignore[return-value]
            case "varargs":
                return [((token, 1, 2), {}), ((token,), {"x": 1}), ((token,), {})][token % 3]  # type: ignore[return-value]
            case "keyword":
                return (), {"token": token}
            case "names":
                return (token, 7), {"fn": 8}
            case "method":
                return (self.service, token), {}
            case _:
                return (token,), {}

    def guard(self, asked: Asked) -> Any:
        """What the call goes through: the pipeline, or its first policy alone."""
        pipe = self.built.pipes[asked.pipe]
        if asked.door.startswith("policy"):
            return next((each for each in pipe.policies if isinstance(each, Policy)), pipe)
        return pipe

    def wrapped_by(self, asked: Asked) -> Callable[..., Any]:
        door = asked.door if asked.door in {"policy wrap", "informed"} else "wrap"
        key = door, asked.pipe, asked.callee
        made = self.wrapped.get(key)
        if made is None:
            made = self.wrapped[key] = self._wrap(asked)
        return made

    def _wrap(self, asked: Asked) -> Callable[..., Any]:
        guard = self.guard(asked)
        if asked.door == "informed":

            async def informed(call: Any, token: int) -> Any:
                failure = type(call.previous_error).__name__
                self.trace.append(
                    ("informed", call.attempt, failure, call.remaining(), call.deadline)
                )
                return await self.entered(token)

            return guard.informed(informed)  # type: ignore[no-any-return]
        return guard.wrap(self.callee(asked.callee))  # type: ignore[no-any-return]

    # ----------------------------------------------------------------- callees

    async def entered(self, token: int, *seen: Any) -> Any:
        entry = self.entries.get(token, 0)
        self.entries[token] = entry + 1
        self.played.entries += 1
        self.played.lane += _by_the_lane(sys._getframe(1))
        scripts = self.scripts[token]
        script = scripts[min(entry, len(scripts) - 1)]
        trace = self.trace
        trace.append(("enter", token, entry, self.now(), seen, _VARIABLE.get()))
        try:
            last = False
            for step in script.steps:
                match step:
                    case ("sleep", seconds):
                        await self.sleep(seconds)
                    case ("step",):
                        await self.sleep(0)
                    case ("finally",):
                        last = True
                    case _:
                        self.seen(f"step {step[0]}")
                        await self.do(step, token)
            if not last:
                return self.end(script.end, f"{token}.{entry}")
            try:
                return self.end(script.end, f"{token}.{entry}")
            finally:
                self.seen("step finally")
                raise self.known.add(OSError("finally"), f"{token}.{entry} finally")
        except BaseException as error:
            trace.append(("left by", token, entry, self.now(), type(error).__name__))
            raise

    def end(self, end: tuple[Any, ...], name: str) -> Any:
        how, word = end
        if how == "return":
            self.seen(f"answer {word}")
            return self.known.add(Answer(word), name)
        self.seen(f"error {word}")
        return self.fail(word, name)

    def fail(self, word: str, name: str) -> Any:
        add = self.known.add
        match word:
            case "shared":
                raise self.shared
            case "chained":
                raise add(OSError(name), name) from add(Boom(name), f"{name} cause")
            case "in an except":
                try:
                    raise add(Boom(name), f"{name} context")
                except Boom:
                    raise add(OSError(name), name)  # noqa: B904 - the context is the point
            case "pushback":
                error: Any = OSError(name)
                error.retry_after = 0.75
            case "rejected":
                error = RejectedError(name, retry_after=0.5)
            case "circuit open":
                error = CircuitOpenError("another", retry_after=0.25)
            case "timeout exceeded":
                error = TimeoutExceededError(9.0, policy="another")
            case "group":
                leaves = [add(OSError(name), f"{name} leaf 1"), add(Boom(name), f"{name} leaf 2")]
                error = ExceptionGroup(name, leaves)
            case "mixed group":
                leaves = [
                    add(OSError(name), f"{name} leaf 1"),
                    add(ValueError(name), f"{name} leaf 2"),
                ]
                error = ExceptionGroup(name, leaves)
            case "cancelled group" if not self.trio:
                error = BaseExceptionGroup(
                    name, [asyncio.CancelledError(), add(OSError(name), f"{name} leaf")]
                )
            case "cancelled" if not self.trio:
                error = asyncio.CancelledError(name)
            case "Bye":
                error = Bye(name)
            case "Bye group":
                error = BaseExceptionGroup(name, [Bye(name), OSError(name)])
            case "StopIteration":
                error = StopIteration(name)
            case "try again":
                error = tenacity.TryAgain(name)
            case "ConnectionError":
                error = ConnectionError(name)
            case "ValueError":
                error = ValueError(name)
            case "TimeoutError":
                error = TimeoutError(name)
            case "OSError":
                error = OSError(name)
            case _:
                error = Boom(name)
        raise add(error, name)

    async def do(self, step: tuple[Any, ...], token: int) -> None:
        """A step of a callee that is more than a sleep."""
        match step:
            case ("swallow", seconds):
                try:
                    await self.sleep(seconds)
                except self.cancelled:
                    self.trace.append(("swallowed", token, self.now()))
                    self.seen("swallowed")
            case ("replace", seconds):
                try:
                    await self.sleep(seconds)
                except self.cancelled:
                    self.seen("replaced")
                    raise self.known.add(Boom("instead"), f"{token} instead") from None
            case ("shield", seconds):
                with anyio.CancelScope(shield=True):
                    await self.sleep(seconds)
            case ("cleanup", seconds):
                try:
                    await self.sleep(seconds)
                finally:
                    await self.sleep(0.25)
            case ("clean shielded", seconds):
                try:
                    await self.sleep(seconds)
                finally:
                    with anyio.CancelScope(shield=True):
                        await self.sleep(0.25)
            case ("scope", seconds):
                with anyio.move_on_after(seconds):
                    await self.sleep(0.5)
            case ("timeout", seconds):
                if self.trio:
                    with trio.fail_after(seconds):
                        await self.sleep(0.5)
                else:
                    async with asyncio.timeout(seconds):
                        await self.sleep(0.5)
            case ("deadline", seconds):
                with deadline(seconds):
                    await Pipeline()(self.sleep, 0.5)
            case ("tasks", seconds):
                async with anyio.create_task_group() as group:
                    group.start_soon(self.resting, seconds)
                    await self.sleep(0.5)
            case ("failing tasks", seconds):
                async with anyio.create_task_group() as group:
                    group.start_soon(self.failing, seconds, token)
                    await self.sleep(0.5)
            case ("variable",):
                _VARIABLE.set(token)
            case ("again",):
                if self.entries[token] < 3:
                    await self.built.pipes[0](self.entered, token)
            case ("inner", pipe, inner, script):
                self.scripts[inner] = (script,)
                await self.built.pipes[pipe](self.entered, inner)
            case ("cut", caller):
                self.cut(Cut(caller, "level" if self.trio else "edge", "running", 0.0))
            case ("act", act):
                self.act(act)
            case ("uncancel",) if not self.trio and (task := asyncio.current_task()) is not None:
                task.uncancel()
            case _:
                await self.sleep(0)

    async def resting(self, seconds: float) -> None:
        await self.sleep(seconds)

    async def failing(self, seconds: float, token: int) -> None:
        await self.sleep(seconds)
        raise self.known.add(OSError("in a task"), f"{token} in a task")

    # ----------------------------------------------------------------- callers

    async def caller(self, number: int, caller: Caller) -> None:
        task: Any = trio.lowlevel.current_task() if self.trio else asyncio.current_task()
        self.tasks[number] = task
        if caller.start:
            await self.sleep(caller.start)
        for asked in caller.calls:
            self.trace.append(("ask", number, asked.token, self.now()))
            self.busy.add(number)
            try:
                left = await self.scoped(number, asked, caller)
            finally:
                self.busy.discard(number)
            pending = 0 if self.trio else task.cancelling()
            steps = self.steps.get(task, 0)
            self.trace.append(("after", asked.token, self.now(), pending, steps, _VARIABLE.get()))
            if left:
                break
            if asked.pause:
                await self.sleep(asked.pause)
        # What comes late, a wheel that forgot or a shield that was left, must not fall on somebody else's wait.
        await self.sleep(_LONG)
        self.trace.append(("gone", number, self.now(), self.steps.get(task, 0)))

    async def scoped(self, number: int, asked: Asked, caller: Caller) -> bool:
        """Make a call; whether the caller leaves after it."""
        if not asked.level and not self.trio:
            return await self.edged(number, asked, caller)
        try:
            with anyio.CancelScope() as scope:
                self.scopes[number] = scope
                try:
                    return await self.edged(number, asked, caller)
                finally:
                    self.scopes[number] = None
        except Exception as error:  # noqa: BLE001 - told: what was beside a cancellation in a group of trio's
            self.trace.append(("beside", asked.token, self.known.error(error)))
        self.trace.append(("scope", asked.token, scope.cancelled_caught))
        return caller.after == "stop"

    async def edged(self, number: int, asked: Asked, caller: Caller) -> bool:
        try:
            result = await self.within(asked, asked.around)
        except self.cancelled as error:
            self.told(asked, error)
            scope = self.scopes.get(number)
            if self.trio or (scope is not None and scope.cancel_called):
                raise
            task: Any = asyncio.current_task()
            while caller.after != "keep" and task.cancelling():
                task.uncancel()
            return caller.after == "stop"
        except Exception as error:  # noqa: BLE001 - told
            self.told(asked, error)
        except GeneratorExit:
            raise
        except BaseException as error:
            self.told(asked, error)
            if isinstance(error, BaseExceptionGroup) and error.subgroup(self.cancelled) is not None:
                raise
        else:
            self.trace.append(("result", asked.token, self.now(), self.known.value(result)))
            self.seen(f"ended {type(result).__name__}")
        return False

    def told(self, asked: Asked, error: BaseException) -> None:
        known = self.known
        self.seen(f"ended {type(error).__name__}")
        self.trace.append(
            ("error", asked.token, self.now(), known.error(error), known.frames(error))
        )

    async def within(self, asked: Asked, around: tuple[tuple[Any, ...], ...]) -> Any:
        if not around:
            return await self.through(asked)
        (kind, *given), *rest = around
        self.seen(f"around {kind}")
        inside = functools.partial(self.within, asked, tuple(rest))
        match kind:
            case "deadline":
                async with deadline(given[0]):
                    return await inside()
            case "timeout" if not self.trio:
                async with asyncio.timeout(given[0]):
                    return await inside()
            case "timeout" | "scope":
                with anyio.move_on_after(given[0]):
                    return await inside()
            case "shield":
                with anyio.CancelScope(shield=True):
                    return await inside()
            case "disabled":
                with disabled():
                    return await inside()
            case "instant":
                with instant():
                    return await inside()
            case _:
                breaker = self.breaker()
                if breaker is None:
                    return await inside()
                with forced(
                    breaker, CircuitState.OPEN if asked.token % 2 else CircuitState.HALF_OPEN
                ):
                    return await inside()

    def breaker(self) -> Any:
        parts = zip(self.plan.parts, self.built.parts, strict=True)
        return next((made for part, made in parts if part.kind == "CircuitBreaker"), None)

    async def through(self, asked: Asked) -> Any:
        """The door itself."""
        door = asked.door
        if self.trios and door in {"closed", "thrown", "interleaved"}:
            door = "wrap"
        self.seen(f"door {door}")
        args, kwargs = self.arguments(asked)
        if door in {"call", "policy call"}:
            return await self.guard(asked)(self.callee(asked.callee), *args, **kwargs)
        if door == "outcome":
            return await self.guard(asked).outcome(self.callee(asked.callee), *args, **kwargs)
        if door == "wrapped now":
            return await self._wrap(asked)(*args, **kwargs)
        fn = self.wrapped_by(asked)
        if door == "informed":
            return await fn(asked.token)
        if door == "misfit":
            return await fn(*args, **kwargs, unheard_of=1)
        if door == "unstarted":
            fn(*args, **kwargs).close()
            return "unstarted"
        if door in {"closed", "thrown"}:
            thrown = self.known.add(Boom("thrown"), "thrown") if door == "thrown" else None
            return await _Driven(fn(*args, **kwargs), asked.number, thrown)
        if door == "interleaved":
            return await self.interleaved(fn, args, kwargs)
        if door == "task" and not self.trio:
            return await asyncio.create_task(fn(*args, **kwargs))
        if door == "gathered" and not self.trio:
            both = fn(*args, **kwargs), fn(*args, **kwargs)
            return await asyncio.gather(*both, return_exceptions=True)
        return await fn(*args, **kwargs)

    async def interleaved(self, fn: Any, args: Any, kwargs: Any) -> Any:
        """One is left waiting while another runs in the same task, and closed afterwards."""
        first = fn(*args, **kwargs)
        try:
            first.send(None)
        except StopIteration as stop:
            return stop.value
        try:
            # The second may wait in a line for what the first one has.
            with anyio.fail_after(_LONG / 10):
                return await fn(*args, **kwargs)
        finally:
            try:
                first.close()
            finally:
                # One that goes on is closed again when it is collected: at once, whatever holds this frame.
                first = None

    # ------------------------------------------------------------ from outside

    def cut(self, cut: Cut) -> None:
        if cut.caller not in self.busy:
            return
        self.seen(f"cut {cut.how} {cut.when}")
        self.trace.append(("cut", cut.caller, self.now()))
        scope = self.scopes.get(cut.caller)
        for time in range(cut.times):
            if cut.how == "level" and scope is not None:
                scope.cancel()
            elif not self.trio:
                self.tasks[cut.caller].cancel(*(("why",) * time))

    def act(self, act: Act) -> None:
        self.seen(f"act {act.what}")
        error = None
        try:
            self._act(act)
        except Exception as failure:  # noqa: BLE001 - told
            error = type(failure).__name__
        self.trace.append(("act", act.what, act.part, self.now(), error))

    def _act(self, act: Act) -> None:
        part: Any = self.built.parts[act.part] if act.part >= 0 else None
        held, value = self.held, act.value
        match act.what:
            case "isolate":
                held.append(part.isolate())
            case "release" | "let go":
                for each in held:
                    if hasattr(each, "release"):
                        each.release()
            case "force open":
                part._core.force(CircuitState.OPEN)
            case "force half-open":
                part._core.force(CircuitState.HALF_OPEN)
            case "force closed":
                part._core.force(CircuitState.CLOSED)
            case "change trip":
                words = ("consecutive 1", "count", "slow", "time")
                part._change({"trip": self.built.trip(words[value])})
            case "change break":
                part._change({"break_duration": 0.25 + value})
            case "change probes":
                part._change({"probes": 1 + value, "overdue_after": (None, 0.5)[value % 2]})
            case "admit" | "hold":
                held.append(part.admit())
            case "settle":
                for each in held:
                    if hasattr(each, "failure"):
                        (each.success, each.failure, each.ignore)[value % 3]()
            case "resize":
                part.change(limit=value, queue=value % 2)
            case "rate":
                part.change(rate=1.0 + value)
            case "patience":
                part.change(max_wait=0.5 * value)
            case "spend":
                part.spend()
            case "forget":
                (part.forget if hasattr(part, "forget") else part.reset)()
            case "clock back":
                self.clock(-value)
            case "clock on":
                self.clock(value)
            case "switch":
                self.built.on = not self.built.on
            case "listen":
                kind = "attempts" if value > 1 else "all"
                held.append(events.listen(Listening(self.trace, "everywhere", kind)))
            case "stop listening":
                self.stop_listening()
            case _:
                getattr(part, act.what)()

    def clock(self, seconds: float) -> None:
        if self.built.clock is not None:
            self.built.clock.by += seconds

    def stop_listening(self) -> None:
        for each in self.held:
            if isinstance(each, events.Subscription):
                each.stop()

    # --------------------------------------------------------------- backends

    def on_asyncio(self) -> None:
        loop = self.loop = SeededLoop(self.plan.seed)
        self.steps = loop.steps
        PROCESS_CLOCK.now = loop.time
        loop.set_exception_handler(
            lambda _, context: self.trace.append(("loop", context["message"]))
        )
        if self.plan.eager:
            loop.set_task_factory(asyncio.eager_task_factory)
        try:
            self.build()
            loop.run_until_complete(self.main_asyncio())
        finally:
            # Of a run without an end, or a group that was closed by hand: anyio's table would keep all there is.
            for task in asyncio.all_tasks(loop):
                anyio_tasks.pop(task, None)
            loop.close()

    async def main_asyncio(self) -> None:
        loop = self.loop
        first: Any = asyncio.current_task()
        loop.number_of(first)
        for cut in self.plan.cuts:
            if cut.when == "at":
                loop.call_at(self.start + cut.at, self.cut, cut)
            else:
                steps = loop.before if cut.when == "before" else loop.after
                steps[1 + cut.caller, int(cut.at)] = functools.partial(self.cut, cut)
        for act in self.plan.acts:
            loop.call_at(self.start + act.at, self.act, act)
        loop.call_at(self.start + _OVER, self.act, Act(_OVER, "let go", -1))
        tasks: list[asyncio.Task[None]] = []
        for number, caller in enumerate(self.plan.callers):
            task = loop.create_task(self.caller(number, caller))
            loop.number_of(task)
            tasks.append(task)
        await asyncio.wait(tasks)
        for task in tasks:
            if task.cancelled() or task.exception() is not None:
                self.trace.append(("caller lost", repr(task.cancelled() or task.exception())))
        left = len(asyncio.all_tasks()) - 1
        if left:
            self.trace.append(("tasks left", left))

    def on_trio(self) -> None:
        run_trio(self.plan.seed, self.main_trio)

    async def main_trio(self, steps: Any, clock: Any) -> None:
        PROCESS_CLOCK.now = clock.current_time
        self.steps = steps.steps
        self.build()
        with trio.move_on_after(10 * _LONG) as patience:
            steps.scope = patience
            async with trio.open_nursery() as nursery:
                first = len(steps.numbers)
                for cut in self.plan.cuts:
                    if cut.when != "at":
                        ways = steps.before if cut.when == "before" else steps.after
                        ways[first + cut.caller, int(cut.at)] = functools.partial(self.cut, cut)
                for number, caller in enumerate(self.plan.callers):
                    nursery.start_soon(self.caller, number, caller)
                nursery.start_soon(self.direct)
        if patience.cancelled_caught:
            raise Runaway("the callers come to no end")

    async def direct(self) -> None:
        """Do what is to be done at an instant."""
        due: list[tuple[float, Callable[[Any], None], Any]] = []
        due += [(cut.at, self.cut, cut) for cut in self.plan.cuts if cut.when == "at"]
        acts = *self.plan.acts, Act(_OVER, "let go", -1)
        due += [(act.at, self.act, act) for act in acts]
        for at, do, what in sorted(due, key=lambda each: each[0]):
            await trio.sleep_until(at)
            do(what)


def _steps_of(plan: Plan) -> Iterator[tuple[Any, ...]]:
    for caller in plan.callers:
        for asked in caller.calls:
            for script in asked.scripts:
                for step in script.steps:
                    yield step
                    if step[0] == "inner":
                        yield from step[3].steps


class _Lines(logging.Handler):
    def __init__(self, trace: list[Any]) -> None:
        super().__init__()
        self._trace = trace

    def emit(self, record: logging.LogRecord) -> None:
        self._trace.append(("log", record.levelname, record.getMessage()))


def _stopped() -> float:
    return START


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """What holds for any number of runs: the process's clock, silence, no collector at its own time."""
    clock = PROCESS_CLOCK.now, PROCESS_CLOCK.wall
    was = LOGGER.disabled, LOGGER.propagate, LOGGER.level, gc.isenabled(), sys.unraisablehook
    LOGGER.disabled, LOGGER.propagate = True, False
    PROCESS_CLOCK.wall = lambda: _WALL + PROCESS_CLOCK.now()
    frozen = gc.get_freeze_count() > 0
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            yield
    finally:
        if not frozen:
            gc.unfreeze()
        PROCESS_CLOCK.now, PROCESS_CLOCK.wall = clock
        LOGGER.disabled, LOGGER.propagate, level, collecting, sys.unraisablehook = was
        LOGGER.setLevel(level)
        if collecting:
            gc.enable()


def play(plan: Plan, name: Engine) -> Played:
    """Play it, within `prepared`."""
    played = Played()
    trace = played.trace
    events._reported.clear()
    RNG.seed(plan.seed)
    random.seed(plan.seed)
    show = warnings.showwarning
    warnings.showwarning = lambda message, category, *_: trace.append(  # type: ignore[assignment]
        ("warned", category.__name__, str(message))
    )
    sys.unraisablehook = lambda what: trace.append(("unraisable", repr(what.exc_value)))
    lines = _Lines(trace)
    if plan.log:
        LOGGER.disabled = False
        LOGGER.setLevel(logging.DEBUG)
        LOGGER.addHandler(lines)
    try:
        with engine(name):
            _run(plan, played)
    finally:
        if plan.log:
            LOGGER.disabled = True
            LOGGER.removeHandler(lines)
        warnings.showwarning = show
    played.seen.update(f"event {type(each[2]).__name__}" for each in trace if each[0] == "event")
    return played


def _run(plan: Plan, played: Played) -> None:
    trace = played.trace
    world = World(plan, played)
    try:
        world.on_trio() if world.trio else world.on_asyncio()
    except ConfigurationError as error:
        played.seen.add("refused")
        trace.append(("refused", str(error)))
    except (Exception, Runaway) as error:  # noqa: BLE001 - told, and counted
        played.crashed = repr(error)
        trace.append(("crashed", repr(error)))
    world.stop_listening()
    trace.append(
        ("context", MODES.in_use, MODES.block.get() is None, random.random(), RNG.random())
    )
    if world.built is not None:
        trace += world.built.told()
    PROCESS_CLOCK.now = _stopped  # the clock is the loop's, which holds all that ran on it
    del world
    # What had no end was older, and is more.
    gc.collect(2 if played.crashed else 0)
