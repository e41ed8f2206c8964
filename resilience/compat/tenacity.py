"""
tenacity's ``retry`` and ``AsyncRetrying`` on this library's engine: the import line changes, the arguments stay.

Strategies and hooks are tenacity's own objects, asked in its order. What differs, and why: one object may be shared by
any number of calls at once; a cancellation is never retried; a wait that does not fit a deadline around is not begun;
a hook that raises is logged and changes nothing. Functions that are not async go to tenacity itself.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from types import TracebackType
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload

import tenacity as _tenacity
from tenacity import (
    NO_RESULT,
    BaseAction,
    BaseRetrying,
    DoAttempt,
    DoSleep,
    Future,
    RetryAction,
    RetryCallState,
    RetryError,
    Retrying,
    TryAgain,
    WrappedFn,
    after_log,
    after_nothing,
    before_log,
    before_nothing,
    before_sleep_log,
    before_sleep_nothing,
    retry_all,
    retry_any,
    retry_base,
    retry_if_exception,
    retry_if_exception_cause_type,
    retry_if_exception_message,
    retry_if_exception_type,
    retry_if_not_exception_message,
    retry_if_not_exception_type,
    retry_if_not_result,
    retry_if_result,
    retry_unless_exception_type,
    sleep,
    sleep_using_event,
    stop_after_attempt,
    stop_after_delay,
    stop_all,
    stop_any,
    stop_before_delay,
    stop_when_event_set,
    wait_chain,
    wait_combine,
    wait_exception,
    wait_exponential,
    wait_exponential_jitter,
    wait_fixed,
    wait_full_jitter,
    wait_incrementing,
    wait_none,
    wait_random,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from resilience.call import Step, new_call
from resilience.clock import PROCESS_CLOCK
from resilience.doors import Guard
from resilience.events import Hub, hook_failed
from resilience.policies._retrying import Retrying as Engine
from resilience.policies._retrying import _sleep as engine_sleep
from resilience.policies._retrying import _Tries as Tries
from resilience.policies.retry import Retry
from resilience.strategies import AttemptState, is_asynchronous, judges_errors_only

__all__ = [
    "NO_RESULT",
    "AsyncRetrying",
    "AttemptManager",
    "BaseAction",
    "BaseRetrying",
    "DoAttempt",
    "DoSleep",
    "Future",
    "RetryAction",
    "RetryCallState",
    "RetryError",
    "Retrying",
    "TryAgain",
    "WrappedFn",
    "after_log",
    "after_nothing",
    "before_log",
    "before_nothing",
    "before_sleep_log",
    "before_sleep_nothing",
    "retry",
    "retry_all",
    "retry_always",
    "retry_any",
    "retry_base",
    "retry_if_exception",
    "retry_if_exception_cause_type",
    "retry_if_exception_message",
    "retry_if_exception_type",
    "retry_if_not_exception_message",
    "retry_if_not_exception_type",
    "retry_if_not_result",
    "retry_if_result",
    "retry_never",
    "retry_unless_exception_type",
    "sleep",
    "sleep_using_event",
    "stop_after_attempt",
    "stop_after_delay",
    "stop_all",
    "stop_any",
    "stop_before_delay",
    "stop_never",
    "stop_when_event_set",
    "wait_chain",
    "wait_combine",
    "wait_exception",
    "wait_exponential",
    "wait_exponential_jitter",
    "wait_fixed",
    "wait_full_jitter",
    "wait_incrementing",
    "wait_none",
    "wait_random",
    "wait_random_exponential",
]

P = ParamSpec("P")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)

# tenacity leaves these without types.
retry_always: _tenacity.retry_base = _tenacity.retry_always
retry_never: _tenacity.retry_base = _tenacity.retry_never
stop_never: stop_base = _tenacity.stop_never

_NO_LIMIT = 1e9  # seconds: tenacity has no cap of its own


class Retried(Protocol[P, R_co]):
    """A coroutine function that is retried."""

    retry: AsyncRetrying
    retry_with: Callable[..., Any]
    statistics: dict[str, Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...


class _Run:
    """One call: what its hooks and strategies are told of it, and how it ended."""

    __slots__ = ("args", "delay", "fn", "kwargs", "owner", "statistics", "stopped")

    def __init__(self, owner: AsyncRetrying, fn: Any, args: Any, kwargs: Any) -> None:
        self.owner = owner
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.stopped: AttemptState | None = None
        self.delay = 0.0
        self.statistics: dict[str, Any] = {
            "start_time": PROCESS_CLOCK.now(),
            "attempt_number": 1,
            "idle_for": 0,
            "delay_since_first_attempt": 0,
        }

    def told(self, state: AttemptState) -> AttemptState:
        state.fn, state.args, state.kwargs = self.fn, self.args, self.kwargs
        state.retry_object = self.owner
        return state

    async def attempt(self) -> Any:
        await self.before(self.statistics["attempt_number"])
        return await self.fn(*self.args, **self.kwargs)

    async def before(self, attempt: int) -> None:
        owner = self.owner
        if owner.before is not before_nothing:
            state = AttemptState(start_time=self.statistics["start_time"], attempt_number=attempt)
            state.idle_for = self.statistics["idle_for"]
            await _hook("before", owner.before, self.told(state))


_RUN: ContextVar[_Run] = ContextVar("resilience_compat_tenacity_run")


async def _hook(kind: str, hook: Any, state: AttemptState) -> None:
    try:
        answer = hook(state)
        if inspect.isawaitable(answer):
            await answer
    except Exception as error:  # noqa: BLE001 - law 6
        hook_failed(f"AsyncRetrying.{kind}", hook, error)


class _Asked(_tenacity.retry_base):
    """The user's ``retry``, told what tenacity would tell it."""

    def __init__(self, asked: Any) -> None:
        self._asked = asked

    def __call__(self, retry_state: Any) -> Any:
        return self._asked(_RUN.get().told(retry_state))


def _as_predicate(retry: Any) -> Any:
    asked = _Asked(retry)
    if isinstance(retry, _tenacity.retry_base) and judges_errors_only(retry):
        if is_asynchronous(retry):
            return asked
        # So that a success need not be asked about.
        return _tenacity.retry_all(_tenacity.retry_if_exception(lambda _: True), asked)
    return asked


async def _answer(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer


async def _wait(state: Any) -> Any:
    """Tenacity's order: after, wait, stop, before_sleep."""
    run = _RUN.get()
    owner, told = run.owner, run.told(state)
    if owner.after is not after_nothing:
        await _hook("after", owner.after, told)
    run.delay = await _answer(owner.wait(told))
    # Where the user brings a sleep, that is what is waited for, and the engine waits for no time.
    return run.delay if owner.sleep is None else 0.0


async def _stop(state: Any) -> bool:
    run = _RUN.get()
    owner, told = run.owner, run.told(state)
    statistics = run.statistics
    told.upcoming_sleep = run.delay
    statistics["delay_since_first_attempt"] = told.seconds_since_start
    if await _answer(owner.stop(told)):
        run.stopped = told
        return True
    seconds = run.delay
    statistics["idle_for"] += seconds
    statistics["attempt_number"] += 1
    told.next_action = RetryAction(seconds)
    told.idle_for += seconds
    if owner.before_sleep is not None:
        await _hook("before_sleep", owner.before_sleep, told)
    if owner.sleep is None:
        told.idle_for -= seconds  # the engine adds it
    else:
        await _answer(owner.sleep(seconds))
    told.next_action = None
    return False


class _Bare(Guard):
    """The engine, without the checks of a pipeline."""

    __slots__ = ("_policy",)

    def __init__(self, policy: Retry) -> None:
        self._policy = policy

    def _link(self) -> Step:
        return self._policy.link(_enter, Hub(None))


async def _enter(call: Any) -> Any:
    call.entered += 1
    return await call.fn()


class AsyncRetrying:
    """
    tenacity's, on this engine. It may be shared: what one call knows, no other call sees.

    Args:
        sleep: What waits. Default: the loop's own sleep, asyncio's or trio's.
        stop, wait, retry: tenacity's strategy objects or functions of its state; ``retry`` may be async.
        before, after, before_sleep: Called with the state, also if async.
        reraise: Raise the last error itself. Default False: a `RetryError` from it.
        retry_error_cls: In the place of `RetryError`.
        retry_error_callback: Called with the state instead of raising; its answer is returned.
        name: For ``str()``.
        enabled: False: the bare call.
    """

    def __init__(  # noqa: PLR0917 - tenacity's
        self,
        sleep: Callable[[float], Awaitable[None] | None] | None = None,
        stop: Any = stop_never,
        wait: Any = None,
        retry: Any = None,
        before: Callable[[Any], Any] = before_nothing,
        after: Callable[[Any], Any] = after_nothing,
        before_sleep: Callable[[Any], Any] | None = None,
        reraise: bool = False,  # noqa: FBT001, FBT002 - tenacity's spelling
        retry_error_cls: type[RetryError] = RetryError,
        retry_error_callback: Callable[[Any], Any] | None = None,
        name: str | None = None,
        enabled: bool = True,  # noqa: FBT001, FBT002
    ) -> None:
        self.sleep = sleep
        self.stop = stop
        self.wait: Any = wait_none() if wait is None else wait
        self.retry: Any = retry_if_exception_type() if retry is None else retry
        self.before = before
        self.after = after
        self.before_sleep = before_sleep
        self.reraise = reraise
        self.retry_error_cls = retry_error_cls
        self.retry_error_callback = retry_error_callback
        self.name = name
        self.enabled = enabled
        self.statistics: dict[str, Any] = {}
        self._policy = Retry(
            None,
            on=_as_predicate(self.retry),
            wait=_wait,
            stop=_stop,
            max_delay=_NO_LIMIT,
            retry_after=False,
        )
        self._guard = _Bare(self._policy)

    def __str__(self) -> str:
        return self.name if self.name is not None else "<unknown>"

    def __repr__(self) -> str:
        return f"AsyncRetrying(stop={self.stop!r}, wait={self.wait!r}, retry={self.retry!r})"

    def copy(self, **changed: Any) -> AsyncRetrying:
        """The same with other arguments."""
        names = [*inspect.signature(type(self)).parameters]
        return type(self)(**({name: getattr(self, name) for name in names} | changed))

    async def __call__(
        self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call it, again where it is worth it."""
        if not self.enabled:
            return await fn(*args, **kwargs)
        run = _Run(self, fn, args, kwargs)
        self.statistics = run.statistics
        return cast("T", await self._run(run))

    async def _run(self, run: _Run) -> Any:
        token = _RUN.set(run)
        try:
            result = await self._guard(run.attempt)
        except Exception as error:
            if run.stopped is None:
                raise
            failure: Exception | None = error
        else:
            if run.stopped is None:
                return result
            failure = None
        finally:
            _RUN.reset(token)
        try:
            return await self._ended(run.stopped, failure)
        finally:
            failure = None  # this frame is in its traceback

    async def _ended(self, state: AttemptState, failure: Exception | None) -> Any:
        if self.retry_error_callback is not None:
            return await _answer(self.retry_error_callback(state))
        future = cast("Future", state.outcome)
        ended = self.retry_error_cls(future)
        if self.reraise:
            ended.reraise()
        raise ended from failure

    @overload
    def wraps(self, fn: Callable[P, Awaitable[T]], /) -> Retried[P, T]: ...
    @overload
    def wraps(self, fn: Callable[..., Any], /) -> Any: ...
    def wraps(self, fn: Callable[..., Any], /) -> Any:
        """*fn*, retried; with ``retry``, ``retry_with(**changed)`` and the ``statistics`` of the call begun last."""
        retrying = self

        @functools.wraps(fn)
        async def retried(*args: Any, **kwargs: Any) -> Any:
            if not retrying.enabled:
                return await fn(*args, **kwargs)
            run = _Run(retrying, fn, args, kwargs)
            retried.statistics = retrying.statistics = run.statistics  # type: ignore[attr-defined]
            return await retrying._run(run)

        retried.retry = self  # type: ignore[attr-defined]
        retried.retry_with = lambda **changed: self.copy(**changed).wraps(fn)  # type: ignore[attr-defined]
        retried.statistics = {}  # type: ignore[attr-defined]
        return retried

    def __iter__(self) -> Any:
        raise TypeError("AsyncRetrying is iterated over with async for")

    def __aiter__(self) -> _Attempts:
        return _Attempts(self)


class _Seen:
    """``attempt.retry_state``: what the block may look at, and set a result on."""

    def __init__(self, run: _Run) -> None:
        self.attempt_number: int = run.statistics["attempt_number"]
        self.start_time: float = run.statistics["start_time"]
        self.idle_for: float = run.statistics["idle_for"]
        self.retry_object = run.owner
        self.outcome: Future | None = None
        self.fn = None
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}

    def set_result(self, value: Any) -> None:
        """What the block made, for ``retry_if_result``."""
        self.outcome = Future(self.attempt_number)
        self.outcome.set_result(value)

    def set_exception(self, raised: tuple[Any, BaseException, Any]) -> None:
        """What it raised."""
        self.outcome = Future(self.attempt_number)
        self.outcome.set_exception(raised[1])


class AttemptManager:
    """One attempt: ``with attempt:`` around what may fail."""

    def __init__(self, retry_state: Any) -> None:
        self.retry_state = retry_state

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if error is None:
            self.retry_state.set_result(None)
            return None
        if not isinstance(error, Exception):
            return None  # a cancellation is the caller's
        self.retry_state.set_exception((kind, error, traceback))
        return True

    async def __aenter__(self) -> None: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self.__exit__(kind, error, traceback)


class _Attempts:
    """``async for attempt in retrying``: the engine's decisions between attempts that the caller makes itself."""

    def __init__(self, owner: AsyncRetrying) -> None:
        self._owner = owner
        self._run = _Run(owner, None, (), {})
        owner.statistics = self._run.statistics
        self._engine = Engine(owner._policy, _enter, Hub(None))  # noqa: SLF001 - its own
        self._tries: Tries | None = None
        self._attempt: AttemptManager | None = None

    def __aiter__(self) -> _Attempts:
        return self

    async def __anext__(self) -> AttemptManager:
        if self._attempt is not None:
            await self._go_on(self._attempt.retry_state.outcome)
        token = _RUN.set(self._run)
        try:
            await self._run.before(self._run.statistics["attempt_number"])
        finally:
            _RUN.reset(token)
        self._attempt = AttemptManager(_Seen(self._run))
        return self._attempt

    async def _go_on(self, outcome: Any) -> None:
        """Wait for another attempt, or end the loop."""
        if outcome is None:
            raise StopAsyncIteration  # the block was left without an answer
        failure = outcome.exception() if outcome.failed else None
        result = None if outcome.failed else outcome.result()
        owner = self._owner
        if not owner.enabled:
            await self._end(failure)
        token = _RUN.set(self._run)
        try:
            tries = self._answered(failure, result)
            reason = await self._engine._reason_to_stop(tries)  # noqa: SLF001 - its engine
            if reason is None:
                tries.next()
                await engine_sleep(tries.delay, exactly=False)
                return
        finally:
            _RUN.reset(token)
        if (failure is None and reason == "not retryable") or self._run.stopped is None:
            await self._end(failure)
        await owner._ended(cast("AttemptState", self._run.stopped), failure)  # noqa: SLF001
        raise StopAsyncIteration

    def _answered(self, failure: Exception | None, result: Any) -> Tries:
        tries = self._tries
        if tries is None:
            started = self._run.statistics["start_time"]
            tries = self._tries = Tries(new_call(_nothing, (), {}), failure, result, started)
            tries.state = AttemptState(start_time=started)
        else:
            tries.failure, tries.result = failure, result
        return tries

    async def _end(self, failure: Exception | None) -> None:
        if failure is not None:
            raise failure
        raise StopAsyncIteration


async def _nothing() -> None:  # pragma: no cover - stands for the block, which the caller runs
    ...


@overload
def retry(fn: Callable[P, Coroutine[Any, Any, T]], /) -> Retried[P, T]: ...
@overload
def retry(**options: Any) -> Callable[[Callable[..., Any]], Any]: ...
def retry(*args: Any, **options: Any) -> Any:
    """
    Tenacity's decorator, with or without arguments.

    A coroutine function (or any, with an async ``sleep``) goes to this engine; what is not async to tenacity's own
    `Retrying`.
    """
    if len(args) == 1 and callable(args[0]) and not options:
        return retry()(args[0])

    def decorate(fn: Callable[..., Any]) -> Any:
        if is_asynchronous(fn) or is_asynchronous(options.get("sleep")):
            return AsyncRetrying(*args, **options).wraps(fn)
        return Retrying(*args, **options).wraps(fn)

    return decorate
