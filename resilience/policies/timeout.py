"""
Timeout: an answer in time or none.

The call runs in the caller's task and context; nothing is spawned. On asyncio the deadline is an entry in a wheel
(`_wheel`), several times cheaper than a scope per call; on trio it is trio's own scope. Which of several
nested deadlines
is named: the earliest, at a tie the outer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, ClassVar, final

import attrs

from resilience._fronts import Part
from resilience.bounds import ORIGIN, Around, Inner, Reach, merged, shifted
from resilience.call import Call, Step
from resilience.clock import PROCESS_CLOCK
from resilience.doors import Policy
from resilience.errors import DeadlineExpiredError, TimeoutExceededError
from resilience.events import Hub, TimedOut, hook_failed
from resilience.here import running_loop, task_of
from resilience.loaded import loaded
from resilience.policies._wheel import Wheels, uncancel, without_cancellation
from resilience.validation import duration, in_seconds

__all__ = ["Timeout", "cut_off"]


def _seconds_or_function(
    value: float | timedelta | Callable[[Call], float | timedelta | None],
) -> float | Callable[[Call], float | timedelta | None]:
    return in_seconds(value)  # type: ignore[no-any-return]


@final
@attrs.frozen(repr=False)
class Timeout(Policy):
    """
    Cut a call off when its time is over.

    Outside a `Retry` it bounds the whole call, waits included; inside, each attempt. A result that was produced beats
    the deadline, and shields are respected: a deadline that fires inside a shielded scope waits until the task has left
    it.

    Args:
        seconds: Time the call has, > 0, or a timedelta, or a function of the `Call` that returns seconds: None, NaN or
            infinity mean no limit, 0 or less that the time is over already.

    Raises:
        TimeoutExceededError: the call ran and was cut off; also a builtin `TimeoutError`. A ``TimeoutError`` of the
            callee's own passes as it is.
        DeadlineExpiredError: the function returned 0 or less; the call never ran.
        RuntimeError: awaited outside a task of asyncio or trio.
    """

    laned: ClassVar[bool] = True

    seconds: float | Callable[[Call], float | timedelta | None] = attrs.field(
        converter=_seconds_or_function, validator=duration(function=True)
    )

    def link(self, step: Step, hub: Hub) -> Step:
        given, label = self.seconds, repr(self)
        if isinstance(given, float):
            wheels, expired = Wheels(), _expiry(hub, label, given)
            on_trio = scoped(step, given, label, expired)
            objects = {"wheels": wheels, "seconds": given, "on_trio": on_trio}
            hub.parts.append(Part("deadline", objects, lets_pass=True))
            return cut_off(step, given, wheels, label, expired)
        function: Any = given

        async def resolved(call: Call) -> Any:
            seconds = _resolve(function, call)
            if seconds == math.inf:
                return await step(call)
            if seconds <= 0:
                raise DeadlineExpiredError(policy=label)
            # A length of its own breaks the order that a shared wheel lives by, so it gets one of its own.
            wheels = Wheels()
            try:
                expired = _expiry(hub, label, seconds)
                return await cut_off(step, seconds, wheels, label, expired)(call)
            finally:
                wheels.stop()

        return resolved

    def worst(self, inner: Inner, around: Around) -> Inner:  # noqa: ARG002
        seconds = self.seconds
        if not isinstance(seconds, float):
            return inner

        def reach(starts: Sequence[Reach], deadline: float) -> Sequence[Reach]:
            edge = deadline - seconds
            ours = [
                Reach(each.attempts, each.first, min(each.last, edge))
                for each in starts
                if each.first < edge
            ]
            # From here on the deadline around is the earlier one.
            others = [
                Reach(each.attempts, max(each.first, edge), each.last)
                for each in starts
                if each.last >= edge
            ]
            ends = shifted(ours, inner([ORIGIN], seconds)) if ours else []
            return merged([*ends, *inner(others, deadline)] if others else ends)

        return reach


def _resolve(function: Callable[[Call], float | timedelta | None], call: Call) -> float:
    try:
        seconds = in_seconds(function(call))
    except Exception as error:  # noqa: BLE001 - law 6: the user's function must not become the call's error
        hook_failed("Timeout.seconds", function, error)
        return math.inf
    if not isinstance(seconds, float) or math.isnan(seconds):
        return math.inf
    return seconds


def _expiry(hub: Hub, label: str, seconds: float) -> Callable[[Call], TimeoutExceededError]:
    def expired(_: Call) -> TimeoutExceededError:
        if hub.wants(TimedOut):
            at = PROCESS_CLOCK.now()
            hub.emit(TimedOut(policy=label, pipeline=hub.pipeline, at=at, seconds=seconds))
        return TimeoutExceededError(seconds, policy=label)

    return expired


def cut_off(  # noqa: C901 - one guard, once per kind of loop
    step: Step,
    seconds: float,
    wheels: Wheels,
    label: str,
    expired: Callable[[Call], Exception],
    *,
    instant: Callable[[], float] | None = None,
) -> Step:
    """
    The step that ends *step* in time, with the error that *expired* makes.

    Args:
        seconds: The time a call has, from now or from *instant*.
        wheels: Of that length, made with the same *instant*.
        label: How its policy is written.
        instant: On the clock of the running loop. Default: now.
    """
    on_trio = scoped(step, seconds, label, expired, instant=instant)

    async def guarded(call: Call) -> Any:  # noqa: C901 - (as above)
        key: Any = call
        if call.lane is not None:
            # The express lane begins for nobody who is cancelled.
            (wheel, task, outer), cancelling = call.take_over(), 0
            untold: Any = False
            key, entries = task, wheel.entries
        else:
            loop = running_loop()
            # No current task in a running loop: trio as a guest of that loop, or a coroutine driven by hand.
            if loop is None or (task := task_of(loop)) is None:
                return await on_trio(call)
            wheel = wheels.latest()
            if wheel is None or wheel.loop is not loop:
                wheel = wheels.of(loop)
            outer = call.until
            until = wheel.now() + seconds
            if outer <= until:
                del task  # (as below)
                return await step(call)
            entries = wheel.entries
            cancelling = task.cancelling()
            # Cancelled before the call, and not told yet: our own would fall on the same exception, and hide it.
            untold = cancelling and getattr(task, "_must_cancel", False)
            call.until = entries[call] = until
            call.task = task
            if wheel.timer is None:
                wheel.arm(until)
        try:
            result = await step(call)
        except BaseException as error:
            call.until = outer
            if ours := entries.pop(key, None) is None:
                wheel.cut.discard(key)
                # Else not by us, or not by us alone.
                ours = uncancel(task, cancelling) <= cancelling - untold
            # Its error keeps this frame and the call; a task that ends with it would keep itself.
            del key, task
            if outer == math.inf:
                call.task = None
            if not ours or (rest := without_cancellation(error)) is error:
                raise
            call.settle_parked(cut=True)
            if rest is None:
                raise expired(call) from error
            raise rest from error.__cause__
        call.until = outer
        # Gone: the callee swallowed our cancellation. What it returned beats the deadline.
        if entries.pop(key, None) is None:
            wheel.cut.discard(key)
            uncancel(task, cancelling)
        return result

    return guarded


def scoped(
    step: Step,
    seconds: float,
    label: str,
    expired: Callable[[Call], Exception],
    *,
    instant: Callable[[], float] | None = None,
) -> Step:
    """What `cut_off` is on trio."""
    # trio's, looked up once, when it is there.
    in_task: Any = None
    scope_of: Any = None
    now: Any = None

    async def bounded(call: Call) -> Any:
        nonlocal in_task, scope_of, now
        if in_task is None and (trio := loaded("trio")) is not None:
            in_task, scope_of = trio.lowlevel.in_trio_task, trio.CancelScope
            now = instant or trio.current_time
        if in_task is None or not in_task():
            raise RuntimeError(f"{label} must be awaited in a task of asyncio or trio")
        outer = call.until
        until = now() + seconds
        if outer <= until:
            return await step(call)
        call.until = until
        scope = scope_of(deadline=until)
        try:
            with scope:
                return await step(call)
        finally:
            call.until = outer
            if scope.cancelled_caught:
                call.settle_parked(cut=True)
        raise expired(call)

    return bounded
