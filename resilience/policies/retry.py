"""
Retry: another attempt for what is worth one, and never more than was asked for.

Why not tenacity's loop: it costs more on success than the rest of a pipeline together and is not safe to share. Its
*strategies* are kept whole: plain callables of a state, asked in its order (retry, wait, stop), after a failure only.
"""

from __future__ import annotations

import math
import sys
import types
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, final

import anyio
import anyio.lowlevel
import attrs

from resilience.bounds import Bounds, Inner
from resilience.call import Call, Step
from resilience.clock import PROCESS_CLOCK, RNG, Clock, Rng
from resilience.core.backoff import FullJitter
from resilience.core.pushback import pushback_of, seconds_until
from resilience.doors import Policy
from resilience.errors import RejectedError, ResilienceWarning
from resilience.events import Hub, RetryScheduled, RetryStopped, error_text_of, hook_failed
from resilience.modes import MODES
from resilience.strategies import (
    AttemptState, is_strategy, judges_errors_only, named_exceptions, wait_bounds,
)  # fmt: skip
from resilience.validation import as_clock, as_seconds, clock, count, duration, flag, one_of, rng
from resilience.verdicts import ErrorFilter, ResultFilter, error_filter, is_types, leaves, result_filter

if TYPE_CHECKING:
    from tenacity.stop import StopBaseT
    from tenacity.wait import WaitBaseT

__all__ = ["Retry"]

WaitStrategy: TypeAlias = "FullJitter | WaitBaseT | Callable[[Any], Any]"
StopStrategy: TypeAlias = "StopBaseT | Callable[[Any], Any]"

_NOTE = "resilience: "
_REFUSED = "result refused"


def _strategy(what: str, *, none: bool) -> Any:
    def accepts(value: object) -> bool:
        return none if value is None else callable(value) and not isinstance(value, type)

    breaches: dict[str, object] = {"number": 1.5, "text": "fast", "class": FullJitter}
    if not none:
        breaches["none"] = None
    return one_of(f"a {what} strategy: tenacity's object or a function of the state", accepts, breaches)


_READER = one_of(
    "True, False, or a function of an error or a result that returns seconds",
    lambda value: isinstance(value, bool) or (callable(value) and not isinstance(value, type)),
    {"none": None, "number": 30, "text": "Retry-After"},
)


@final
@attrs.frozen(repr=False)
class Retry(Policy):
    """
    Try again what failed and may succeed.

    A cancellation is never retried; a rejection only if ``on`` names its class. An attempt starts, and a wait is begun,
    only if it fits the deadline around. The last error is raised itself, with one note that sums up the attempts.

    Args:
        attempts: Attempts, the first included, >= 1. Default 3, or no limit of its own where ``stop`` is given.
        on: Required. What is worth another attempt: exception classes, a predicate of the error (may be async), or one
            of tenacity's ``retry_if_*`` objects. Groups count by their leaves: all must be worth it.
        on_result: A predicate of the result (may be async) or a tenacity object; true: try again. A result that is
            still refused at the end is returned. Default: every result is welcome.
        wait: tenacity's ``wait_*`` object or a function of its state, seconds. Default exponential with full jitter,
            0.1 s at first, at most 5 s.
        stop: tenacity's ``stop_*`` object or a function of its state; with ``attempts``, whichever stops first.
        max_delay: Seconds no wait exceeds, > 0. Default 60. A server that asks for more stops the retry instead.
        retry_after: Whether a ``Retry-After`` of errors and results is the floor of the wait; or a function that reads
            one. Default True.
        clock: For the elapsed time that strategies see. Default: the process-wide monotonic clock.
        rng: For the default wait. Default: the library's own. tenacity's objects draw as tenacity does.
        error_text: Put the error's text into events. Default False.

    Raises:
        The last attempt's error, itself. `RejectedError` only if no attempt ran.
    """

    attempts: int | None = attrs.field(default=None, validator=count(none=True))
    on: ErrorFilter = attrs.field(kw_only=True, validator=error_filter(asynchronous=True))
    on_result: ResultFilter | None = attrs.field(
        default=None, kw_only=True, validator=result_filter(asynchronous=True)
    )
    wait: WaitStrategy = attrs.field(
        factory=FullJitter, kw_only=True, validator=_strategy("wait", none=False)
    )
    stop: StopStrategy | None = attrs.field(
        default=None, kw_only=True, validator=_strategy("stop", none=True)
    )
    max_delay: float = attrs.field(
        default=60.0, kw_only=True, converter=as_seconds, validator=duration()
    )
    retry_after: bool | Callable[[Any], Any] = attrs.field(
        default=True, kw_only=True, validator=_READER
    )
    clock: Clock | Callable[[], float] | None = attrs.field(
        default=None, kw_only=True, converter=as_clock, validator=clock(), eq=False
    )
    rng: Rng | None = attrs.field(default=None, kw_only=True, validator=rng(), eq=False)
    error_text: bool = attrs.field(default=False, kw_only=True, validator=flag())

    def __attrs_post_init__(self) -> None:
        if self.attempts is None and self.stop is None:
            object.__setattr__(self, "attempts", 3)

    def link(self, step: Step, hub: Hub) -> Step:
        return _Linked(self, step, hub).run

    def worst(self, inner: Inner, remaining: float) -> Bounds:
        limit = math.inf if self.attempts is None else self.attempts
        limit = min(limit, _attempts_of(self.stop))
        longest = inner(math.inf).duration
        attempts = passed = reached = 0.0
        number = 0
        counting = stretching = True
        while counting or stretching:
            number += 1
            if counting:  # every attempt fails at once, every wait is as short as it can be
                inside = inner(remaining - passed)
                attempts += inside.attempts
                passed += inside.quickest
                counting = number < limit
            if stretching:  # every attempt and every wait takes as long as it can
                reached += longest
                stretching = number < limit and reached < remaining
            if attempts == math.inf or (number >= _PATIENCE and limit == math.inf):
                attempts = math.inf
                reached = math.inf if stretching else reached
                break
            short, long = wait_bounds(self.wait, number, self.max_delay)
            if self.retry_after is not False:
                long = self.max_delay
            counting = counting and passed + short < remaining
            # The next attempt starts only if the wait ends in time; the attempt before could have failed sooner.
            stretching = stretching and passed + short < remaining
            passed += short
            reached += long
        return Bounds(attempts, min(reached, remaining), passed)


_PATIENCE = 10_000


def _attempts_of(stop: Any) -> float:
    """The attempts that a stop strategy allows at most, as far as can be read off it."""
    tenacity = sys.modules.get("tenacity")
    if stop is None or tenacity is None:
        return math.inf
    if isinstance(stop, tenacity.stop_after_attempt):
        return stop.max_attempt_number  # type: ignore[no-any-return]
    if isinstance(stop, tenacity.stop_any):
        return min(map(_attempts_of, stop.stops))
    if isinstance(stop, tenacity.stop_all):
        return max(map(_attempts_of, stop.stops))
    return math.inf


@final
class _Linked:
    """One `Retry` around one step."""

    __slots__ = (
        "_asks_results", "_clock", "_hub", "_label", "_named", "_needs_state", "_policy",
        "_rng", "_step", "_timed", "_types", "_warned",
    )  # fmt: skip

    def __init__(self, policy: Retry, step: Step, hub: Hub) -> None:
        self._policy = policy
        self._step = step
        self._hub = hub
        self._label = repr(policy)
        self._clock: Any = policy.clock or PROCESS_CLOCK
        self._rng = policy.rng or RNG
        on = policy.on
        self._types = (on if isinstance(on, tuple) else (on,)) if is_types(on) else None
        self._named = tuple(
            each for each in named_exceptions(on) if issubclass(each, RejectedError)
        )
        self._asks_results = policy.on_result is not None or (
            is_strategy(on) and not judges_errors_only(on)
        )
        self._needs_state = (
            is_strategy(on)
            or is_strategy(policy.on_result)
            or policy.stop is not None
            or not isinstance(policy.wait, FullJitter)
        )
        # Nobody asks when it began, so nobody looks at the clock on the way in.
        self._timed = self._needs_state or bool(hub.listeners(RetryScheduled))
        self._warned: set[str] = set()

    async def run(self, call: Call) -> Any:
        started = self._clock.now() if self._timed else 0.0
        failure: Exception | None = None
        result: Any = None
        try:
            result = await self._step(call)
        except Exception as error:  # noqa: BLE001 - `on` decides
            failure = error
        if failure is None and not self._asks_results:
            return result
        try:
            return await self._persist(call, failure, result, started)
        finally:
            failure = None  # the traceback of an error must not hold the error

    async def _persist(
        self, call: Call, failure: Exception | None, result: Any, started: float
    ) -> Any:
        policy = self._policy
        state = self._state(call, started)
        attempt = 1
        earlier: list[str] = []
        failed: Exception | None = None  # the last error of an attempt that ran
        seen: types.TracebackType | None = None
        try:
            while True:
                self._record(state, failure, result)
                rejected = isinstance(failure, RejectedError)
                if failure is not None and not rejected:
                    _forget_older_tracebacks(failure, self, seen)
                    failed = failure
                if not await self._worth_it(state, failure, result):
                    reason = "rejected" if rejected else "not retryable"
                    break
                if policy.attempts is not None and attempt >= policy.attempts:
                    reason = "attempts"
                    break
                delay, floor = await self._delay(state, attempt, failure, result)
                if floor > policy.max_delay:
                    reason = "retry_after"
                    break
                if state is not None:
                    state.upcoming_sleep = delay
                    if await self._stops(state):
                        reason = "stop"
                        break
                    state.idle_for += delay
                if delay >= call.remaining():
                    reason = "deadline"
                    break
                earlier.append(_REFUSED if failure is None else type(failure).__name__)
                self._tell(call, attempt, delay, started, failure)
                call.previous_error = failure
                seen = None if failure is None else failure.__traceback__
                await _sleep(delay)
                attempt += 1
                call.attempt = attempt
                if state is not None:
                    state.attempt_number = attempt
                failure, result_before, result = None, result, None
                try:
                    result = await self._step(call)
                except Exception as error:  # noqa: BLE001 - `on` decides
                    failure = error
                    if isinstance(error, RejectedError):
                        result = result_before
            return self._give_up(call, attempt, reason, earlier, failed, failure, result)
        finally:
            failure = failed = seen = None

    # ---------------------------------------------------------------- deciding

    def _state(self, call: Call, started: float) -> AttemptState | None:
        if not self._needs_state:
            return None
        return AttemptState(
            fn=call.fn, args=call.args, kwargs=call.kwargs, start_time=started, retry_object=self._policy
        )

    def _record(self, state: AttemptState | None, failure: Exception | None, result: Any) -> None:
        if state is not None:
            at = self._clock.now()
            state.returned(result, at) if failure is None else state.failed(failure, at)

    async def _worth_it(
        self, state: AttemptState | None, failure: Exception | None, result: Any
    ) -> bool:
        if failure is None:
            return await self._refused(state, result)
        for leaf in leaves(failure):
            if not await self._leaf_worth_it(state, leaf, whole=leaf is failure):
                return False
        return True

    async def _refused(self, state: AttemptState | None, result: Any) -> bool:
        """Whether a result asks for another attempt."""
        policy = self._policy
        asked = [policy.on] if is_strategy(policy.on) else []
        if policy.on_result is not None:
            asked.append(policy.on_result)
        for each in asked:
            if await self._ask(each, state if is_strategy(each) else result, each):
                return True
        return False

    async def _leaf_worth_it(
        self, state: AttemptState | None, leaf: Exception, *, whole: bool
    ) -> bool:
        if isinstance(leaf, RejectedError):
            return isinstance(leaf, self._named)
        if self._types is not None and isinstance(leaf, self._types):
            return True
        tenacity = sys.modules.get("tenacity")
        if tenacity is not None and isinstance(leaf, tenacity.TryAgain):
            return True
        if self._types is not None:
            return False
        on = self._policy.on
        if state is None:
            return await self._ask(on, leaf, on)
        if not is_strategy(on):
            return await self._ask(on, leaf, on)
        if whole:
            return await self._ask(on, state, on)
        outcome = state.outcome
        try:
            return await self._ask(on, state.failed(leaf, state.outcome_timestamp or 0.0), on)
        finally:
            state.outcome = outcome

    async def _ask(self, predicate: Any, about: Any, name: object) -> bool:
        try:
            answer = predicate(about)
            return bool(await answer if hasattr(answer, "__await__") else answer)
        except Exception as error:  # noqa: BLE001 - law 6: a failing predicate counts as failure
            hook_failed("Retry predicate", name, error)
            return True

    async def _stops(self, state: AttemptState) -> bool:
        stop: Any = self._policy.stop
        if stop is None:
            return False
        try:
            answer = stop(state)
            return bool(await answer if hasattr(answer, "__await__") else answer)
        except Exception as error:  # noqa: BLE001 - law 6; without a limit that works, the safe end is to stop
            hook_failed("Retry.stop", stop, error)
            return True

    async def _delay(
        self, state: AttemptState | None, attempt: int, failure: Exception | None, result: Any
    ) -> tuple[float, float]:
        """Seconds to wait, and the floor that the server set."""
        policy = self._policy
        wait: Any = policy.wait
        if isinstance(wait, FullJitter):
            delay = min(wait.draw(attempt, wait.rng or self._rng), policy.max_delay)
        else:
            delay = await self._asked_delay(wait, state, attempt)
        floor = self._floor(failure, result)
        return max(delay, floor), floor

    async def _asked_delay(self, wait: Any, state: AttemptState | None, attempt: int) -> float:
        limit = self._policy.max_delay
        try:
            answer = wait(state)
            delay = as_seconds(await answer if hasattr(answer, "__await__") else answer)
        except Exception as error:  # noqa: BLE001 - law 6
            hook_failed("Retry.wait", wait, error)
            delay = math.nan
        if isinstance(delay, float) and 0 <= delay <= limit:
            return delay
        if isinstance(delay, float) and delay > limit:
            self._warn(f"a wait above max_delay={limit:g} was cut to it")
            return limit
        self._warn(f"a wait that is no number of seconds >= 0 ({delay!r}) became the default wait")
        return min(FullJitter().draw(attempt, self._rng), limit)

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            try:
                warnings.warn(f"{self._label}: {text}", ResilienceWarning, stacklevel=2)
            except ResilienceWarning:
                pass  # a filter that makes errors of warnings must not replace the call's own error

    def _floor(self, failure: Exception | None, result: Any) -> float:
        if isinstance(failure, RejectedError):
            return failure.retry_after or 0.0
        reader = self._policy.retry_after
        source = result if failure is None else failure
        if reader is True:
            return pushback_of(source, PROCESS_CLOCK.wall()) or 0.0
        if reader is False:
            return 0.0
        try:
            return seconds_until(reader(source), PROCESS_CLOCK.wall()) or 0.0
        except Exception as error:  # noqa: BLE001 - law 6
            hook_failed("Retry.retry_after", reader, error)
            return 0.0

    # ------------------------------------------------------------------ ending

    def _tell(
        self, call: Call, attempt: int, delay: float, started: float, failure: Exception | None
    ) -> None:
        if not self._hub.wants(RetryScheduled):
            return
        at = self._clock.now()
        self._hub.emit(
            RetryScheduled(
                policy=self._label, pipeline=self._hub.pipeline, at=at, attempt=attempt, delay=delay,
                elapsed=at - started if self._timed else 0.0,
                error=None if failure is None else type(failure).__name__,
                error_text=None if failure is None else error_text_of(failure, self._policy.error_text),
            )  # fmt: skip
        )

    def _give_up(
        self,
        call: Call,
        attempt: int,
        reason: str,
        earlier: list[str],
        failed: Exception | None,
        failure: Exception | None,
        result: Any,
    ) -> Any:
        """Return the last result, or raise the last error of an attempt that ran."""
        if failure is None and reason == "not retryable":
            return result
        ran = attempt - 1 if isinstance(failure, RejectedError) else attempt
        call.exhausted = reason in {"attempts", "stop", "deadline", "retry_after"}
        if isinstance(failure, RejectedError):
            call.rejection = failure
        if ran and self._hub.wants(RetryStopped):
            error = failed or failure
            self._hub.emit(
                RetryStopped(
                    policy=self._label, pipeline=self._hub.pipeline, at=self._clock.now(),
                    attempts=ran, reason=reason,
                    error=None if error is None else type(error).__name__,
                )  # fmt: skip
            )
        if failure is None or (failed is None and _REFUSED in earlier):
            return result
        error = failed or failure
        if earlier or reason in {"deadline", "retry_after", "stop"}:
            _note(error, _summary(attempt, reason, earlier, failure))
        _raise(error, self)


def _summary(attempt: int, reason: str, earlier: list[str], failure: Exception) -> str:
    text = f"{_NOTE}gave up after attempt {attempt} ({reason})"
    if earlier:
        text += f"; earlier: {', '.join(earlier)}"
    if isinstance(failure, RejectedError):
        text += f"; then {type(failure).__name__}: {failure}"
    return text


def _note(error: Exception, text: str) -> None:
    """One note of ours on an error, however often the same instance comes by."""
    try:
        notes: Iterable[Any] = getattr(error, "__notes__", ())
        error.__notes__ = [
            note for note in notes if not (isinstance(note, str) and note.startswith(_NOTE))
        ] + [text]
    except Exception:  # noqa: BLE001, S110 - an error that takes no notes is raised without
        pass


def _raise(error: Exception, owner: _Linked) -> NoReturn:  # noqa: ARG001 - found again in the traceback's frame
    try:
        raise error
    finally:
        del error


def _forget_older_tracebacks(
    error: Exception, owner: _Linked, seen: types.TracebackType | None
) -> None:
    """
    An instance that is raised again carries the traceback of the time before behind the new one; cut it off there.

    The time before is *seen*, that of the attempt before, or it holds the frame in which this retry raised it (`_raise`).
    """
    entry = error.__traceback__
    while entry is not None and (after := entry.tb_next) is not None:
        frame = after.tb_frame
        if after is seen or (
            frame.f_code is _raise.__code__ and frame.f_locals.get("owner") is owner
        ):
            entry.tb_next = None
        entry = after


async def _sleep(delay: float) -> None:
    if delay <= 0 or (MODES.in_use and MODES.instant()):
        await anyio.lowlevel.checkpoint()
    else:
        await anyio.sleep(delay)
