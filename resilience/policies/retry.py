"""
Retry: another attempt for what is worth one, and never more than was asked for.

Why not tenacity's loop: it costs more on success than the rest of a pipeline together and is not safe to share. Its
*strategies* are kept whole: plain callables of a state, asked in its order (retry, wait, stop), after a failure only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, final

import attrs

from resilience.bounds import Around, Inner
from resilience.budgets import RetryBudget
from resilience.call import Step
from resilience.clock import Clock, Rng
from resilience.core.backoff import FullJitter
from resilience.doors import Policy
from resilience.events import Hub
from resilience.policies._retry_bounds import RetryReach, can_end_before
from resilience.policies._retrying import Retrying
from resilience.strategies import is_other_strategy
from resilience.validation import (
    Allowed,
    as_clock,
    as_seconds,
    clock,
    count,
    duration,
    flag,
    instance,
    is_function,
    one_of,
    rng,
)
from resilience.verdicts import (
    ErrorFilter,
    ResultFilter,
    error_filter,
    refuse_nothing,
    result_filter,
)

if TYPE_CHECKING:
    from tenacity.stop import StopBaseT
    from tenacity.wait import WaitBaseT

__all__ = ["Retry"]

WaitStrategy: TypeAlias = "FullJitter | WaitBaseT | Callable[[Any], Any]"
StopStrategy: TypeAlias = "StopBaseT | Callable[[Any], Any]"


def _strategy(what: str, *, none: bool) -> Allowed:
    def accepts(value: object) -> bool:
        if value is None:
            return none
        if what == "stop" and isinstance(value, FullJitter):
            return False
        return (
            callable(value) and not isinstance(value, type) and not is_other_strategy(value, what)
        )

    breaches: dict[str, object] = {"number": 1.5, "text": "fast", "class": FullJitter}
    if what == "stop":
        breaches["wait strategy"] = FullJitter()
    if not none:
        breaches["none"] = None
    example = "wait_fixed(3)" if what == "wait" else "stop_after_delay(30)"
    return one_of(
        f"a {what} strategy: tenacity's object, such as {example}, or a function of the state",
        accepts,
        breaches,
    )


_READER = one_of(
    "True, False, or a function of an error or a result that returns seconds, not async",
    lambda value: isinstance(value, bool) or is_function(value),
    {"none": None, "number": 30, "text": "Retry-After", "class": float, "async": asyncio.sleep},
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
        budget: A `RetryBudget`, shared with others: an attempt that it does not pay for is not made, and none is made
            while a retry around this one retries. Default None: no limit but ``attempts``.
        retry_after: Whether a ``Retry-After`` of errors and results is the floor of the wait; or a function that reads
            one. Default True.
        clock: For the elapsed time that strategies see. Default: the process-wide monotonic clock.
        rng: For the default wait. Default: the library's own. tenacity's objects draw as tenacity does.
        error_text: Put the error's text into events. Default False.

    Raises:
        The last attempt's error, itself. `RejectedError` only if no attempt ran.
    """

    laned: ClassVar[bool] = True

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
    budget: RetryBudget | None = attrs.field(
        default=None, kw_only=True, validator=instance(RetryBudget, "a RetryBudget", none=True)
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
        refuse_nothing("Retry", self.on, self.on_result)
        if self.attempts is None and self.stop is None:
            object.__setattr__(self, "attempts", 3)

    def link(self, step: Step, hub: Hub) -> Step:
        retrying = Retrying(self, step, hub)
        hub.parts.append(retrying.part())
        return retrying.run

    def worst(self, inner: Inner, around: Around) -> Inner:
        early = any(
            can_end_before(self, outer, cut=_sets_deadlines(around.policies[place + 1 :]))
            for place, outer in enumerate(around.policies)
            if isinstance(outer, Retry)
        )
        return RetryReach(self, inner, early=early, effort=around.effort)


def _sets_deadlines(policies: Sequence[Policy]) -> bool:
    return any(
        not isinstance(policy, Retry) and type(policy).worst is not Policy.worst
        for policy in policies
    )
