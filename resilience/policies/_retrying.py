"""
The loop of `Retry`: one attempt after the other, until one is good, none is worth it or no more are allowed.

Strategies are asked in tenacity's order (retry, wait, stop) and see what they would see there.
"""

from __future__ import annotations

import contextlib
import math
import types
import warnings
from collections.abc import Awaitable, Generator
from typing import TYPE_CHECKING, Any, final

import anyio

from resilience._fronts import Part
from resilience.budgets import ASKED, attempt_begins, outer_retries
from resilience.call import GRAIN, Call, Step
from resilience.clock import PROCESS_CLOCK, RNG, loop_time
from resilience.core.backoff import FullJitter
from resilience.core.pushback import pushback_of, seconds_until
from resilience.errors import RejectedError, ResilienceWarning
from resilience.events import (
    EVERYWHERE,
    Hub,
    RetryScheduled,
    RetryStopped,
    error_text_of,
    hook_failed,
)
from resilience.here import running_loop, task_of
from resilience.loaded import loaded
from resilience.modes import MODES
from resilience.policies._last_error import forget_older_tracebacks, note, raise_it, summary
from resilience.strategies import AttemptState, is_strategy, judges_errors_only, named_exceptions
from resilience.validation import in_seconds
from resilience.verdicts import is_types, leaves

if TYPE_CHECKING:
    from resilience.policies.retry import Retry

__all__ = ["Retrying"]

_REFUSED = "result refused"
# A name of the module is read in one step, and every call reads it.
_UNTIMED = math.nan
# Ends that a note explains even where the first attempt was the only one.
_TOLD = frozenset({"budget", "deadline", "rejected", "retry_after", "stop"})
# Ends after which more attempts might have helped.
_EXHAUSTED = frozenset({"attempts", "budget", "deadline", "nested", "retry_after", "stop"})


@final
class _Tries:
    """
    One call of which an attempt has failed.

    ``failure`` or ``result`` is the last answer, ``failed`` the last error of an attempt that ran (a rejected one did
    not), ``earlier`` the names of the answers before, ``seen`` the traceback of the last, ``end`` the error it ends
    with.
    """

    __slots__ = (
        "attempt",
        "call",
        "delay",
        "earlier",
        "end",
        "failed",
        "failure",
        "floor",
        "result",
        "seen",
        "started",
        "state",
    )

    def __init__(self, call: Call, failure: Exception | None, result: Any, started: float) -> None:
        self.call = call
        self.failure = failure
        self.result = result
        self.started = started
        self.attempt = 1
        self.delay = self.floor = 0.0
        self.earlier: list[str] = []
        self.end: Exception | None = None
        self.failed: Exception | None = None
        self.seen: types.TracebackType | None = None
        self.state: AttemptState | None = None

    def next(self) -> None:
        """Another attempt follows."""
        failure = self.failure
        self.earlier.append(_REFUSED if failure is None else type(failure).__name__)
        self.seen = None if failure is None else failure.__traceback__
        self.attempt += 1
        self.call.attempt = self.attempt
        self.call.previous_error = failure
        self.call.begin_again()
        if self.state is not None:
            self.state.idle_for += self.delay
            self.state.attempt_number = self.attempt

    def forget(self) -> None:
        """The call is over: its errors' tracebacks hold this object, which must not hold them."""
        self.failure = self.failed = self.end = self.seen = self.state = self.result = None
        self.call.previous_error = None


@final
class Retrying:
    """One `Retry` around one step."""

    __slots__ = (
        "__weakref__",
        "_asks_results",
        "_budget",
        "_clock",
        "_gates",
        "_hub",
        "_label",
        "_looks",
        "_named",
        "_needs_state",
        "_policy",
        "_rng",
        "_step",
        "_types",
        "_warned",
        "timed",
    )

    def __init__(self, policy: Retry, step: Step, hub: Hub) -> None:
        self._policy = policy
        self._step = step
        self._hub = hub
        self._gates = tuple(hub.gates)
        self._label: str | None = None
        self._clock: Any = policy.clock or PROCESS_CLOCK
        self._rng = policy.rng or RNG
        on = policy.on
        self._types: Any = on if is_types(on) else None
        self._named = tuple(
            each for each in named_exceptions(on) if issubclass(each, RejectedError)
        )
        self._asks_results = policy.on_result is not None or (
            is_strategy(on) and not judges_errors_only(on)
        )
        self._budget = policy.budget
        self._looks = self._asks_results or policy.budget is not None
        self._needs_state = (
            is_strategy(on)
            or is_strategy(policy.on_result)
            or policy.stop is not None
            or not isinstance(policy.wait, FullJitter)
        )
        # While nobody asks when it began, nobody looks at the clock on the way in.
        self.timed = self._needs_state or bool(hub.listeners(RetryScheduled))
        if not self.timed:
            EVERYWHERE.tell_when_heard(self)
        self._warned: set[str] = set()

    def part(self) -> Part | None:
        """In the express lane; none where it judges results."""
        if self._asks_results:
            return None
        objects = {"retrying": self, "clock": self._clock, "untimed": _UNTIMED}
        if (budget := self._budget) is not None:
            objects |= {"ledger": budget._ledger, "ticks": budget._clock}  # noqa: SLF001 - our own
        return Part(
            "retry" if budget is None else "retry with a budget",
            objects,
            sees_arguments=self._needs_state,
            lets_pass=not self._named,
        )

    def _told_as(self) -> str:
        """How the policy is written, worked out when it is first told of."""
        if self._label is None:
            self._label = repr(self._policy)
        return self._label

    def aware(self) -> None:
        """Somebody listens now: look at the clock from the next call on."""
        self.timed = True

    async def run(self, call: Call) -> Any:
        """The step: the first attempt here, all others in `_persist`."""
        failure: Exception | None = None
        result: Any = None
        if call.lane is not None:
            started, failure = call.take_over()
        elif self.timed:
            started = self._clock.now()
        else:
            started = _UNTIMED
        if failure is None:
            try:
                result = await self._step(call)
            except Exception as error:  # noqa: BLE001 - `on` decides
                failure = error
        if failure is None and not self._looks:
            return result
        if failure is None and not self._asks_results:
            budget: Any = self._budget
            # budget._count, written out: this is the path every call takes.
            slot = budget._ledger.current  # noqa: SLF001 - our own
            if slot.successes >= slot.edge:
                slot = budget._ledger.turn(budget._clock.now())  # noqa: SLF001 - (as above)
            slot.successes += 1
            return result
        tries = _Tries(call, failure, result, started)
        failure = None
        try:
            result = await self._persist(tries)
            if tries.end is not None:
                # From here and not from the depth: each frame that an error passes costs as much as a call.
                raise_it(tries.end, self)
            return result
        finally:
            tries.forget()

    async def _persist(self, tries: _Tries) -> Any:  # noqa: C901 - one attempt, written out
        """All attempts but the first. Returns the result, or leaves the error to be raised as ``tries.end``."""
        step, budget = self._step, self._budget
        if self._needs_state:
            call = tries.call
            fn = call.callee or call.fn
            tries.state = AttemptState(fn, call.args, call.kwargs, tries.started, self._policy)
        while (reason := await self._reason_to_stop(tries)) is None:
            # The next attempt is paid for already.
            try:
                self._tell(tries)
                if tries.failure is None and tries.call.release is not None:
                    await _release(tries.call.release, tries.result)
                tries.next()
                if tries.delay > 0 and not (MODES.in_use and MODES.instant()):
                    await _sleep(tries.delay, exactly=tries.floor > 0)
                else:
                    await _turn()
            except BaseException:
                if budget is not None:
                    budget._give_back()  # noqa: SLF001 - our own
                raise
            if budget is not None:
                budget._start()  # noqa: SLF001 - (as above)
            tries.failure = None
            attempt = attempt_begins() if ASKED.by_anybody else None
            try:
                tries.result = await step(tries.call)
            except Exception as error:  # noqa: BLE001 - `on` decides
                tries.failure = error
                if not isinstance(error, RejectedError):
                    tries.result = None
            finally:
                if attempt is not None:
                    attempt.ends()
        return self._give_up(tries, reason)

    # ---------------------------------------------------------------- deciding

    async def _reason_to_stop(self, tries: _Tries) -> str | None:
        state, failure = tries.state, tries.failure
        if state is not None:
            at = self._clock.now()
            state.returned(tries.result, at) if failure is None else state.failed(failure, at)
        rejected = isinstance(failure, RejectedError)
        if failure is not None and not rejected:
            forget_older_tracebacks(failure, self, tries.seen)
            tries.failed = failure
            # `_worth_it`, answered without asking it, where there is one leaf and `on` names classes.
            worth_it = (
                self._types is not None
                and isinstance(failure, self._types)
                and not isinstance(failure, ExceptionGroup)
            )
        else:
            worth_it = False
        if not (worth_it or await self._worth_it(state, failure, tries.result)):
            return "rejected" if rejected else "not retryable"
        return await self._reason_against_another(tries)

    async def _reason_against_another(self, tries: _Tries) -> str | None:  # noqa: C901, PLR0911 - a rule each
        """Why an attempt that is worth it is not made; its delay is known then."""
        policy, state = self._policy, tries.state
        if policy.attempts is not None and tries.attempt >= policy.attempts:
            return "attempts"
        if self._budget is not None and outer_retries():
            return "nested"
        wait: Any = policy.wait
        if isinstance(wait, FullJitter):
            delay = min(wait.draw(tries.attempt, wait.rng or self._rng), policy.max_delay)
        else:
            delay = self._asked_delay(wait, state, tries.attempt)
            if type(delay) is not float:
                delay = await delay
        floor = self._floor(tries.failure, tries.result)
        tries.delay, tries.floor = max(floor, delay), floor
        if floor > policy.max_delay:
            if self._budget is not None:
                # Not now, says the server: the others are to try less often as well (gRPC A6).
                self._budget.spend()
            return "retry_after"
        if self._gates and self._foresees_rejection(tries):
            return "rejected"
        if state is not None:
            state.upcoming_sleep = tries.delay
            if policy.stop is not None and await self._stops(state):
                return "stop"
        if tries.delay + GRAIN >= tries.call.remaining():
            return "deadline"
        # Last, so that only what will be made is paid for.
        return None if self._budget is None or self._budget._take() else "budget"  # noqa: SLF001

    def _foresees_rejection(self, tries: _Tries) -> bool:
        """Whether a gate inside would still turn the next attempt away: then nobody waits for it."""
        for gate in self._gates:
            rejection = gate()
            if rejection is None or isinstance(rejection, self._named):
                continue
            if rejection.retry_after is None or rejection.retry_after > tries.delay:
                tries.call.rejection = rejection
                return True
        return False

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

    async def _leaf_worth_it(  # noqa: PLR0911 - a rule each
        self, state: AttemptState | None, leaf: Exception, *, whole: bool
    ) -> bool:
        if isinstance(leaf, RejectedError) and not isinstance(leaf, self._named):
            return False
        if self._types is not None and isinstance(leaf, self._types):
            return True
        tenacity = loaded("tenacity")
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
        try:
            answer = stop(state)
            return bool(await answer if hasattr(answer, "__await__") else answer)
        except Exception as error:  # noqa: BLE001 - law 6; without a limit that works, the safe end is to stop
            hook_failed("Retry.stop", stop, error)
            return True

    def _asked_delay(self, wait: Any, state: AttemptState | None, attempt: int) -> Any:
        """Seconds that the user's strategy says, mended; or what they are to be awaited from."""
        try:
            answer = wait(state)
            if type(answer) is float and 0 <= answer <= self._policy.max_delay:
                return answer
            if hasattr(answer, "__await__"):
                return self._awaited_delay(wait, answer, attempt)
            delay = in_seconds(answer)
        except Exception as error:  # noqa: BLE001 - law 6
            hook_failed("Retry.wait", wait, error)
            delay = math.nan
        return self._mended(delay, attempt)

    async def _awaited_delay(self, wait: Any, answer: Any, attempt: int) -> float:
        try:
            delay = in_seconds(await answer)
        except Exception as error:  # noqa: BLE001 - law 6
            hook_failed("Retry.wait", wait, error)
            delay = math.nan
        return self._mended(delay, attempt)

    def _mended(self, delay: Any, attempt: int) -> float:
        limit = self._policy.max_delay
        if type(delay) is int:  # one that no float can hold
            delay = math.inf if delay > 0 else -math.inf
        if isinstance(delay, float) and 0 <= delay <= limit:
            return delay
        if isinstance(delay, float) and delay > limit:
            self._warn(f"a wait above max_delay={limit:g}", "was cut to it")
            return limit
        got = str(delay) if isinstance(delay, float) else type(delay).__name__
        self._warn("a wait that is no number of seconds >= 0", f"({got}) became the default wait")
        return min(FullJitter().draw(attempt, self._rng), limit)

    def _warn(self, kind: str, what: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            # A filter that makes errors of warnings must not replace the call's own error.
            with contextlib.suppress(ResilienceWarning):
                warnings.warn(f"{self._told_as()}: {kind} {what}", ResilienceWarning, stacklevel=2)

    def _floor(self, failure: Exception | None, result: Any) -> float:
        if isinstance(failure, RejectedError):
            return failure.retry_after or 0.0
        reader = self._policy.retry_after
        source = result if failure is None else failure
        if reader is True:
            return pushback_of(source, PROCESS_CLOCK.wall) or 0.0
        if reader is False:
            return 0.0
        try:
            return seconds_until(reader(source), PROCESS_CLOCK.wall()) or 0.0
        except Exception as error:  # noqa: BLE001 - law 6
            hook_failed("Retry.retry_after", reader, error)
            return 0.0

    # ------------------------------------------------------------------ ending

    def _tell(self, tries: _Tries) -> None:
        if not self._hub.wants(RetryScheduled):
            return
        at = self._clock.now()
        failure = tries.failure
        text = None if failure is None else error_text_of(failure, self._policy.error_text)
        event = RetryScheduled(
            policy=self._told_as(),
            pipeline=self._hub.pipeline,
            at=at,
            attempt=tries.attempt,
            delay=tries.delay,
            elapsed=0.0 if math.isnan(tries.started) else at - tries.started,
            error=None if failure is None else type(failure).__name__,
            error_text=text,
        )
        self._hub.emit(event)

    def _give_up(self, tries: _Tries, reason: str) -> Any:
        """Return the last result, or raise the last error of an attempt that ran."""
        failure, call = tries.failure, tries.call
        if failure is None and reason == "not retryable":
            if self._budget is not None:
                self._budget._count()  # noqa: SLF001 - our own
            return tries.result
        error = tries.failed or failure
        refused = tries.failed is None and _REFUSED in tries.earlier
        ran = tries.attempt
        try:
            if isinstance(failure, RejectedError):
                ran -= 1
                if error is not failure or refused:
                    # For outcomes and fallbacks; its traceback holds the call, which would hold it.
                    call.rejection = failure.with_traceback(None)
            refused = refused or failure is None
            call.exhausted = refused or reason in _EXHAUSTED
            if ran and self._hub.wants(RetryStopped):
                self._tell_end(ran, reason, error)
            if error is None or refused:
                return tries.result
            if ran and (tries.earlier or reason in _TOLD):
                end = call.rejection if reason == "rejected" else None
                note(error, summary(tries.attempt, reason, tries.earlier, end))
            tries.end = error
            return None
        finally:
            # This frame is in the error's traceback; held here, the error would hold itself.
            error = failure = None

    def _tell_end(self, ran: int, reason: str, error: Exception | None) -> None:
        event = RetryStopped(
            policy=self._told_as(),
            pipeline=self._hub.pipeline,
            at=self._clock.now(),
            attempts=ran,
            reason=reason,
            error=None if error is None else type(error).__name__,
        )
        self._hub.emit(event)


async def _release(release: Any, result: Any) -> None:
    """What a refused result holds, a connection of a pool, is of use to others while this call waits."""
    try:
        await release(result)
    except Exception as error:  # noqa: BLE001 - the next attempt may well succeed without
        hook_failed("release", release, error)


@types.coroutine
def _turn_of_asyncio() -> Generator[None]:
    yield


def _turn() -> Awaitable[None]:
    """A checkpoint: others have their turn, and a cancellation comes through."""
    loop = running_loop()
    # All that anyio does in a task of asyncio (its cancelled scopes throw from outside), at a third of the price.
    if loop is not None and task_of(loop) is not None:
        return _turn_of_asyncio()
    from anyio.lowlevel import checkpoint  # noqa: PLC0415 - it needs a lot, and few need it

    return checkpoint()


async def _sleep(delay: float, *, exactly: bool) -> None:
    due = loop_time() + delay
    await anyio.sleep(delay)
    # uvloop rounds to milliseconds, up or down. Who was told when to come back does not come early.
    while exactly and (rest := due - loop_time()) > 0:  # noqa: ASYNC110 - time is what is waited for
        await anyio.sleep(rest)
