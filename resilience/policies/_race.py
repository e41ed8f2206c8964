"""
The race of the attempts of one call: who is started, who wins, and what becomes of the others.

Synchronous, and in one thread: attempts report to it how they ended, and it says who has to be stopped.
"""

from __future__ import annotations

import asyncio
import functools
import math
from typing import TYPE_CHECKING, Any, final

import anyio

from resilience.call import GRAIN, Call, twin
from resilience.clock import loop_time
from resilience.errors import RejectedError
from resilience.loaded import loaded
from resilience.policies._last_error import note
from resilience.policies._shield import when_unshielded

if TYPE_CHECKING:
    from resilience.policies._hedging import Hedging

__all__ = ["OtherAttempts", "Race"]


class OtherAttempts(ExceptionGroup[Exception]):
    """What the other attempts of a call failed with; the ``__context__`` of the error that is raised."""


@final
class Race:
    """
    One call: its attempts, and the first answer.

    ``over`` is set once, by the first of: a result; an error that is the answer; every attempt has failed and no more
    will be started; the caller left.
    """

    __slots__ = (
        "abandoned",
        "around",
        "began",
        "call",
        "conductor",
        "discarded",
        "done",
        "entries",
        "error",
        "failures",
        "group",
        "live",
        "nursery",
        "others",
        "over",
        "owner",
        "pushed_back",
        "result",
        "scope",
        "stirred",
        "task",
        "used_up",
        "winner",
    )

    def __init__(self, owner: Hedging, call: Call) -> None:
        self.owner = owner
        self.call = call
        self.began = owner.observes()
        # As they are around the race: policies inside it change them for the first attempt.
        self.around = call.until, call.attempt, call.previous_error
        self.live = 1
        self.others: list[Call] = []
        self.over = self.used_up = self.pushed_back = self.abandoned = False
        self.winner: Call | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.failures: list[Exception] = []
        self.discarded: list[Any] = []
        self.entries: dict[Call, bool] = {}
        self.task: asyncio.Task[Any] | None = None
        self.conductor: Any = None
        # Of the first attempt on trio, and of those beside it: scopes, which are left to whoever made them.
        self.scope: Any = None
        self.group: Any = None
        self.nursery: Any = None
        self.done: anyio.Event | None = None
        self.stirred: anyio.Event | None = None

    # --------------------------------------------------------------- starting

    def launch(self, delay: float = 0.0) -> None:
        """Have those beside the first attempt started, by a conductor, unless there is one or no need."""
        if self.conductor is not None or self.over:
            return
        if self.nursery is not None:
            self.conductor = self.nursery
            self.nursery.start_soon(self.owner.conduct, self, delay)
            return
        loop = asyncio.get_running_loop()
        self.conductor = self  # an eager task may come back here before it is known
        self.conductor = loop.create_task(self.owner.conduct(self, delay))

    def begin(self) -> Call | None:
        """One more attempt, or none and the reason for it; nothing is started after that."""
        if self.over or self.used_up:
            return None
        owner = self.owner
        reason = ""
        if self.pushed_back:
            reason = "retry_after"
        elif len(self.others) < owner._policy.max_hedges:  # noqa: SLF001 - our own
            if self._left() <= 0:
                reason = "deadline"
            elif not owner.may_pay():
                reason = "budget"
            else:
                return self._begun()
        if reason:
            owner.skipped(reason)
        self.no_more()
        return None

    def _begun(self) -> Call:
        failure = self.failures[-1] if self.failures else None
        other = twin(self.call)
        until, attempt, error = self.around
        other.until, other.previous_error = until, failure or error
        self.others.append(other)
        other.attempt = attempt + len(self.others)
        self.live += 1
        self.owner.started(1 + len(self.others), failure)
        return other

    def _left(self) -> float:
        """Seconds until the earliest deadline around the race."""
        until = self.around[0]
        return until if until == math.inf else until - loop_time() - GRAIN

    async def rest(self, delay: float) -> None:
        """Until the next attempt is due: the delay is over, one has failed, or all is over."""
        stirred = self.stirred = self.stirred or anyio.Event()
        if delay == math.inf:
            await stirred.wait()
        else:
            with anyio.move_on_after(delay):
                await stirred.wait()

    # ----------------------------------------------------------------- ending

    def answered(self, call: Call, result: Any) -> None:
        """An attempt returned."""
        self._observe(call)
        self.live -= 1
        if self.over:
            self.discarded.append(result)
            return
        self.winner, self.result = call, result
        self._finish()

    def failed(self, call: Call, error: Exception) -> None:
        """An attempt raised."""
        self.live -= 1
        if self.over:
            return
        owner = self.owner
        if not owner.worth_another(error):
            if isinstance(error, RejectedError) and (self.live or self.failures):
                # It never ran; who runs may still answer, and an error of one that ran is worth more.
                self.failures.append(error)
                self._stir()
                self.no_more()
                return
            self.winner, self.error = call, error
            self._finish()
            return
        self.failures.append(error)
        self.pushed_back = self.pushed_back or owner.pushed_back(error)
        self._stir()
        self._settle_if_all_failed()

    def lost(self) -> None:
        """The first attempt was cut off because another one has answered."""
        self._observe(self.call)
        self.live -= 1

    def interrupted(self, call: Call | None, error: BaseException) -> None:
        """
        One beside the first, or their conductor (None), ended with what no policy may replace.

        Of a loser, or of one whose caller leaves, it is nothing.
        """
        self.live -= call is not None
        trio = loaded("trio")
        if self.over or (trio is not None and isinstance(error, trio.Cancelled)):
            return
        self.winner, self.error = call, error
        self._finish()

    def leave(self) -> None:
        """The caller leaves, or is thrown out."""
        if self.over and self.winner is not None and self.error is None:
            self.discarded.append(self.result)  # produced, and returned to nobody
        self.over = True
        self._stir()

    def abandon(self) -> None:
        """The call is closed by hand; those beside it end without it."""
        self.abandoned = True
        self.leave()
        self.stop_others()

    def no_more(self) -> None:
        """Nobody is started any more."""
        self.used_up = True
        self._settle_if_all_failed()

    def _settle_if_all_failed(self) -> None:
        if self.live or not self.used_up or self.over:
            return
        ran = [each for each in self.failures if not isinstance(each, RejectedError)]
        error = (ran or self.failures)[-1]
        self.call.rejection = next(
            (
                each
                for each in self.failures
                if isinstance(each, RejectedError) and each is not error
            ),
            None,
        )
        self._explain(error)
        self.error = error
        self._finish()

    def _explain(self, error: Exception) -> None:
        """The others are found from the error that is raised: in a note, and as a group where there is room."""
        rest = list({id(each): each for each in self.failures if each is not error}.values())
        if not rest:
            return
        told = ", ".join(type(each).__name__ for each in rest)
        note(error, f"resilience: {len(self.failures)} attempts at once failed; the others: {told}")
        if error.__context__ is None or isinstance(error.__context__, OtherAttempts):
            error.__context__ = OtherAttempts("other attempts of this call", rest)

    def _finish(self) -> None:
        self.over = True
        if self.winner is not self.call:
            self._cut_first()
        self.stop_others()
        self._stir()
        if self.done is not None:
            self.done.set()

    async def ended(self) -> None:
        """Until it is over."""
        if not self.over:
            self.done = anyio.Event()
            await self.done.wait()

    def _stir(self) -> None:
        if self.stirred is not None:
            self.stirred.set()

    def _cut_first(self) -> None:
        if self.scope is not None:
            self.scope.cancel()
        elif self.call in self.entries and self.task is not None:
            cancel = functools.partial(self._cancel, self.task)
            loop = self.task.get_loop()
            if not when_unshielded(self.task, self.call, self.entries, loop, cancel):
                cancel()

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        del self.entries[self.call]
        task.cancel()

    def stop_others(self) -> None:
        """Cancel those beside the first; they end in their own time."""
        if self.group is not None:
            self.group.cancel()
        elif isinstance(self.conductor, asyncio.Task):
            self.conductor.cancel()  # it has not begun yet

    def _observe(self, call: Call) -> None:
        if call is self.call:
            self.owner.observed(self.began)

    # ------------------------------------------------------------------ after

    def gather(self, left: BaseException | None) -> None:
        """What happened to the others happened to this call."""
        call, winner = self.call, self.winner
        for other in self.others:
            call.entered += other.entered
            if left is None:
                other.settle_parked(cut=False)
            else:
                other.hand_over(call)
        if left is None and winner is not None and winner is not call:
            call.begin_again()
            call.end_like(winner)

    def place_of_winner(self) -> int | None:
        """Its number, from 1; None if all failed."""
        if self.winner is None:
            return None
        return 1 if self.winner is self.call else 2 + self.others.index(self.winner)

    def forget(self) -> None:
        """The call is over: its errors' tracebacks hold this object, which must not hold them."""
        self.error = self.result = None
        self.failures.clear()
        self.discarded.clear()
        for other in self.others:
            other.previous_error = None
