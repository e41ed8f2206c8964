"""
How the attempts of a `Hedge` run, on asyncio and on trio; who wins is `_race`'s.

The first attempt runs in the caller's task. Those beside it run in a task group of a task of their own, the
*conductor*: on asyncio it is started when there is somebody to conduct, so a call that is answered in time pays for one
timer; on trio a nursery has to be open before. The call does not end before the conductor has.

How the first attempt loses. On trio it runs in a scope. On asyncio its task is cancelled as by a deadline (`_wheel`):
who finds its call gone from ``entries`` was cut off; the cancellation is taken back, and shields are respected.

What an attempt raises is kept and raised by the caller's task, so no exception group comes of the task groups.
"""

from __future__ import annotations

import asyncio
import math
from asyncio import CancelledError
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

import anyio
from anyio.abc import TaskGroup

from resilience.call import Call, Step
from resilience.clock import PROCESS_CLOCK
from resilience.core.pushback import pushback_of
from resilience.errors import RejectedError
from resilience.events import HedgeFinished, HedgeSkipped, HedgeStarted, Hub, hook_failed
from resilience.here import running_loop, task_of
from resilience.loaded import loaded
from resilience.policies._race import Race
from resilience.policies._wheel import uncancel, without_cancellation
from resilience.strategies import named_exceptions
from resilience.validation import in_seconds
from resilience.verdicts import Judge, Verdict

if TYPE_CHECKING:
    from resilience.policies.hedge import Hedge

__all__ = ["Hedging"]

_PATIENCE = 5.0
"""Seconds that an async ``on_discard`` may take."""


@final
class Hedging:
    """One `Hedge` around one step."""

    __slots__ = (
        "_budget",
        "_clock",
        "_hub",
        "_judge",
        "_label",
        "_latencies",
        "_named",
        "_policy",
        "_step",
    )

    def __init__(self, policy: Hedge, step: Step, hub: Hub) -> None:
        self._policy = policy
        self._step = step
        self._hub = hub
        self._label = policy.name or repr(policy)
        self._budget = policy.budget
        self._clock: Any = policy.clock or PROCESS_CLOCK
        self._judge = Judge(policy.on, (), None)
        self._latencies = policy._latencies  # noqa: SLF001 - our own
        self._named = tuple(
            each for each in named_exceptions(policy.on) if issubclass(each, RejectedError)
        )

    # ----------------------------------------------------------------- asyncio

    async def run(self, call: Call) -> Any:  # noqa: C901, PLR0912, PLR0915 - one attempt, and every way it can end
        """The step. `_shield` finds this frame by its ``call`` and ``entries``."""
        loop = running_loop()
        if loop is None or (task := task_of(loop)) is None:
            return await self._on_trio(call)
        race = Race(self, call)
        race.task = task
        entries = race.entries
        delay = self.delay(call)
        timer: asyncio.TimerHandle | None = None
        left: BaseException | None = None
        cancelling = task.cancelling()
        # Cancelled before the call, and not told yet: our own would fall on the same exception, and hide it.
        untold = cancelling and getattr(task, "_must_cancel", False)
        entries[call] = True
        try:
            if delay <= 0:
                race.launch()
            elif delay < math.inf:
                timer = loop.call_later(delay, race.launch)
            try:
                result = await self._step(call)
            except BaseException as error:
                rest: BaseException | None = error
                if (
                    not entries.pop(call, None)
                    and uncancel(task, cancelling) <= cancelling - untold
                    and (rest := without_cancellation(error)) is not error
                ):
                    call.settle_parked(cut=False)  # by us, and by us alone
                if rest is None:
                    race.lost()
                elif isinstance(rest, Exception):
                    race.failed(call, rest)
                else:
                    raise
            else:
                # Gone: the callee swallowed our cancellation.
                if not entries.pop(call, None):
                    uncancel(task, cancelling)
                race.answered(call, result)
            if not race.over:
                if timer is not None:
                    timer.cancel()
                race.launch()
                await race.ended()
        except GeneratorExit:  # closed by hand: nothing may be awaited
            race.abandon()
            raise
        except BaseException as error:  # noqa: BLE001 - raised again when nobody runs any more
            left = error
            race.leave()
        finally:
            if timer is not None:
                timer.cancel()
        if race.conductor is not None:
            late = await self._drained(race)
            if late is not None:
                if left is None:
                    race.leave()
                # Of several cancellations the last one is on its way out; what is none goes before all of them.
                left = late if left is None or isinstance(left, CancelledError) else left
        return await self._end(race, left)

    async def _drained(self, race: Race) -> CancelledError | None:
        """See the conductor end, whoever cancels meanwhile; the last such cancellation."""
        race.stop_others()
        conductor: asyncio.Task[None] = race.conductor
        late: CancelledError | None = None
        while not conductor.done():
            try:
                # From a scope it would come again at each turn of the loop, for as long as a loser needs.
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([conductor])
            except CancelledError as error:
                late = error
            except GeneratorExit:
                race.abandon()
                raise
        if not conductor.cancelled():
            conductor.result()
        return late

    # -------------------------------------------------------------------- trio

    async def _on_trio(self, call: Call) -> Any:
        trio = loaded("trio")
        if trio is None or not trio.lowlevel.in_trio_task():
            raise RuntimeError(f"{self._label} must be awaited in a task of asyncio or trio")
        race = Race(self, call)
        delay = self.delay(call)
        left: BaseException | None = None
        async with trio.open_nursery() as nursery:
            race.nursery = nursery
            if delay < math.inf:
                race.launch(delay)
            race.scope = scope = trio.CancelScope()
            try:
                try:
                    with scope:
                        race.answered(call, await self._step(call))
                except Exception as error:  # noqa: BLE001 - `on` decides
                    race.failed(call, error)
                else:
                    if scope.cancelled_caught:
                        race.lost()
                if scope.cancelled_caught:
                    call.settle_parked(cut=False)
                if not race.over:
                    race.launch()
                    await race.ended()
            except BaseException as error:  # noqa: BLE001 - raised again when nobody runs any more
                left = error
                race.leave()
            race.stop_others()
        return await self._end(race, left)

    # -------------------------------------------------------------------- both

    async def conduct(self, race: Race, delay: float = 0.0) -> None:
        """Start the attempts beside the first, one after the other, and see them all end."""
        try:
            async with anyio.create_task_group() as group:
                race.group = group.cancel_scope
                await self._start_in(group, race, delay)
        except anyio.get_cancelled_exc_class():
            race.no_more()
            # On trio its caller is told as well, and one who is told twice is told by a group of exceptions.
            if race.nursery is None:
                raise

    async def _start_in(self, group: TaskGroup, race: Race, delay: float) -> None:
        try:
            if delay > 0 and not race.over and not race.failures:
                await race.rest(delay)
            race.stirred = anyio.Event()
            while (other := race.begin()) is not None:
                group.start_soon(self._beside, race, other)
                await race.rest(self.delay(other))
                race.stirred = anyio.Event()
        except (anyio.get_cancelled_exc_class(), GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a listener was interrupted: the caller's task raises it
            race.interrupted(None, error)

    async def _beside(self, race: Race, call: Call) -> None:
        try:
            result = await self._step(call)
        except Exception as error:  # noqa: BLE001 - `on` decides
            race.failed(call, error)
        except BaseException as error:
            if race.abandoned:
                call.settle_parked(cut=False)
            race.interrupted(call, error)
            if isinstance(error, (anyio.get_cancelled_exc_class(), GeneratorExit)):
                raise
        else:
            race.answered(call, result)

    def delay(self, call: Call) -> float:
        """Seconds before the next attempt is due; infinity: only when one fails."""
        after: Any = self._policy.after
        if isinstance(after, float):
            return after
        if self._latencies is not None:
            read = self._latencies.read(self._clock.now())
            return math.inf if read is None else read
        try:
            seconds = in_seconds(after(call))
        except Exception as error:  # noqa: BLE001 - law 6: the user's function must not become the call's error
            hook_failed("Hedge.after", after, error)
            return math.inf
        return seconds if isinstance(seconds, float) and seconds >= 0 else math.inf

    def worth_another(self, error: Exception) -> bool:
        if isinstance(error, RejectedError):
            return isinstance(error, self._named)
        return self._judge.error(error) is Verdict.FAILURE

    def pushed_back(self, error: Exception) -> bool:
        """Whether the other side says when to come back, so that nobody comes before."""
        return pushback_of(error, PROCESS_CLOCK.wall) is not None

    def may_pay(self) -> bool:
        return self._budget is None or self._budget.spend()

    def observes(self) -> float | None:
        """The instant, if somebody wants to know how long the first attempt takes."""
        return None if self._latencies is None else self._clock.now()

    def observed(self, began: float | None) -> None:
        if began is not None and self._latencies is not None:
            now = self._clock.now()
            self._latencies.add(now - began, now)

    def started(self, attempt: int, failure: Exception | None) -> None:
        if self._hub.wants(HedgeStarted):
            event = HedgeStarted(
                policy=self._label,
                pipeline=self._hub.pipeline,
                at=self._clock.now(),
                attempt=attempt,
                reason="slow" if failure is None else "failed",
                error=None if failure is None else type(failure).__name__,
            )
            self._hub.emit(event)

    def skipped(self, reason: str) -> None:
        if self._hub.wants(HedgeSkipped):
            at = self._clock.now()
            self._hub.emit(
                HedgeSkipped(policy=self._label, pipeline=self._hub.pipeline, at=at, reason=reason)
            )

    async def _end(self, race: Race, left: BaseException | None) -> Any:
        """What the call gives, when nobody of it runs any more."""
        try:
            race.gather(left)
            if race.others and self._hub.wants(HedgeFinished):
                event = HedgeFinished(
                    policy=self._label,
                    pipeline=self._hub.pipeline,
                    at=self._clock.now(),
                    attempts=1 + len(race.others),
                    winner=race.place_of_winner() if left is None else None,
                )
                self._hub.emit(event)
            if race.discarded and self._policy.on_discard is not None:
                await self._discard(race, self._policy.on_discard)
            if left is not None:
                raise left
            if race.error is not None:
                raise race.error
            if self._budget is not None:
                self._budget._count()  # noqa: SLF001 - our own
            return race.result
        finally:
            # An error's traceback holds this frame, which must not hold the error.
            race.forget()
            left = None

    async def _discard(self, race: Race, on_discard: Callable[[Any], Any]) -> None:
        for result in race.discarded:
            try:
                answer = on_discard(result)
                if hasattr(answer, "__await__"):
                    with anyio.move_on_after(_PATIENCE, shield=True):
                        await answer
            except Exception as error:  # noqa: BLE001 - law 6
                hook_failed("Hedge.on_discard", on_discard, error)
