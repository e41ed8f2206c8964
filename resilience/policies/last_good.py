"""
LastGood: where a call fails, the answer that the same call got before, if it is not too old.

Why only answers of the callee are kept: a fallback's, or one that a retry gave up on, would come back as good. Why the
callee belongs to the key: one object may guard several functions, and each gets its own answers only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, final

import attrs

from resilience.call import Call, Step
from resilience.clock import PROCESS_CLOCK, Clock, Rng
from resilience.core.answers import Answers
from resilience.doors import Stateful
from resilience.events import Hub, StaleServed
from resilience.keys import NO_KEY, key_of
from resilience.validation import as_clock, as_seconds, clock, count, duration, key, name, rng
from resilience.values import Value
from resilience.verdicts import (
    ErrorFilter,
    Judge,
    Named,
    ResultFilter,
    Verdict,
    error_filter,
    refuse_nothing,
    result_filter,
)

__all__ = ["LastGood", "LastGoodSnapshot"]


@final
class LastGoodSnapshot(Value):
    """
    What is kept at one instant.

    Attributes:
        name: The policy's.
        keys: Answers that are kept, those that are too old included.
        kept: Good answers since it was made.
        served: Stale answers that were given.
        missed: Failures for which there was none.
    """

    name: str | None
    keys: int
    kept: int
    served: int
    missed: int


@final
class _Core:
    """The answers and the counters of one `LastGood`; the counters are added to in straight lines, see core/circuit."""

    __slots__ = ("answers", "clock", "kept", "missed", "served")

    def __init__(self, policy: LastGood) -> None:
        self.answers = Answers(policy.ttl, policy.max_keys)
        self.clock: Any = policy.clock or PROCESS_CLOCK
        self.kept = self.served = self.missed = 0


@final
@attrs.frozen(eq=False, repr=False)
class LastGood(Stateful):
    """
    Where a call fails, give the answer that the same call got before: ``LastGood(60)``.

    It holds answers and has identity: used in two pipelines it is shared, by any number of tasks, loops and threads.
    That an answer is stale is told by ``outcome`` (``from_fallback``, ``age``) and by `StaleServed`. Pickle and copy
    are refused, and so are the doors ``opening`` and ``stream``. A cancellation is never answered.

    Args:
        ttl: Seconds for which an answer may be given again, > 0.
        on: What is answered for, as in `Fallback`. Default every `Exception`, rejections and deadlines included.
        on_result: A predicate of the result; true: it is not kept, and answered for. Default: every result is good.
        key: What makes two calls the same: a function of the call's arguments, or one value for all calls. Default: the
            callee with the pipeline's ``key``, and where there is none, with its arguments. A call whose key cannot be
            told (it raises, or cannot be hashed) is left alone; that is logged once.
        max_keys: Answers that are kept, >= 1; beyond them the one goes that was used longest ago. Default 1024.
        name: For events and logs.
        clock: Monotonic clock. Default: the process-wide one.
        rng: Nothing here is left to chance; taken so that every policy that holds state takes the same.

    Raises:
        The call's own error, where there is no answer that is young enough.
    """

    ttl: float = attrs.field(converter=as_seconds, validator=duration())
    on: ErrorFilter = attrs.field(default=Exception, kw_only=True, validator=error_filter())
    on_result: ResultFilter | None = attrs.field(
        default=None, kw_only=True, validator=result_filter()
    )
    key: Any = attrs.field(default=None, kw_only=True, validator=key())
    max_keys: int = attrs.field(default=1024, kw_only=True, validator=count())
    name: str | None = attrs.field(default=None, kw_only=True, validator=name(none=True))
    clock: Clock | Callable[[], float] | None = attrs.field(
        default=None, kw_only=True, converter=as_clock, validator=clock()
    )
    rng: Rng | None = attrs.field(default=None, kw_only=True, validator=rng())
    _core: _Core = attrs.field(init=False)

    shares_answers: ClassVar[bool] = True

    def __attrs_post_init__(self) -> None:
        refuse_nothing("LastGood", self.on, self.on_result)
        object.__setattr__(self, "_core", _Core(self))

    def link(self, step: Step, hub: Hub) -> Step:
        return _linked(self, self._core, step, hub)

    def snapshot(self) -> LastGoodSnapshot:
        """How much is kept, and how often it was needed."""
        core = self._core
        return LastGoodSnapshot(
            name=self.name,
            keys=len(core.answers),
            kept=core.kept,
            served=core.served,
            missed=core.missed,
        )

    def forget(self) -> None:
        """Keep none of the answers; what is in flight may be kept again."""
        self._core.answers.forget()


def _linked(  # noqa: C901 - one guard and what it tells
    policy: LastGood, core: _Core, step: Step, hub: Hub
) -> Step:
    named, judge = Named("LastGood", policy.on), Judge((), (), policy.on_result)
    label = policy.name or repr(policy)
    judges_results = policy.on_result is not None

    async def guarded(call: Call) -> Any:
        try:
            result = await step(call)
        except Exception as error:
            rejection = call.rejection
            if not (named(error) or (rejection is not None and named(rejection))):
                raise
            found = last(call, type(error).__name__)
            if found is None:
                raise
            return found[0]
        if judges_results and judge.result(result) is Verdict.FAILURE:
            found = last(call, None)
            return result if found is None else found[0]
        if not (call.from_fallback or call.exhausted):
            keep(call, result)
        return result

    def keep(call: Call, result: object) -> None:
        if (same := key_of(call, policy.key, "LastGood")) is not NO_KEY:
            core.answers.keep(same, result, core.clock.now())
            core.kept += 1

    def last(call: Call, error: str | None) -> tuple[Any, float] | None:
        now = core.clock.now()
        same = key_of(call, policy.key, "LastGood")
        found = None if same is NO_KEY else core.answers.last(same, now)
        if found is None:
            core.missed += 1
            return None
        core.served += 1
        call.from_fallback = True
        call.age = found[1]
        if hub.wants(StaleServed):
            hub.emit(
                StaleServed(policy=label, pipeline=hub.pipeline, at=now, age=found[1], error=error)
            )
        return found

    return guarded
