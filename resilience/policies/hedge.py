"""
Hedge: where an answer takes too long, ask once more beside it and take the first one.

It shortens the tail of latencies (Dean and Barroso, "The Tail at Scale", CACM 2013) at the price of load, so it asks
for `idempotent=True`, takes a budget, and stops where the other side says that it is busy.

Nothing outlives the call: losers are cancelled and awaited before the winner's answer is given. The first attempt runs
in the caller's task and context; those beside it have tasks of their own.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Literal, TypeAlias, final

import attrs

from resilience.bounds import Around, Inner, Reach, merged
from resilience.budgets import RetryBudget
from resilience.call import Call, Step
from resilience.clock import Clock, Rng
from resilience.core.latency import Latencies, Quantile
from resilience.doors import Stateful
from resilience.events import Hub
from resilience.policies._hedging import Hedging
from resilience.validation import (
    as_clock,
    clock,
    count,
    in_seconds,
    instance,
    is_function,
    name,
    one_of,
    rng,
)
from resilience.verdicts import ErrorFilter, error_filter

__all__ = ["Hedge"]

After: TypeAlias = "float | timedelta | Quantile | Callable[[Call], float | timedelta | None]"


def _after(
    value: float | timedelta | Quantile | Callable[[Call], float | timedelta | None],
) -> float | Quantile | Callable[[Call], float | timedelta | None]:
    return in_seconds(value)  # type: ignore[no-any-return]


_AFTER = one_of(
    "seconds >= 0 (infinity: only a failure starts another attempt), a timedelta, a Quantile, or a function of the "
    "Call, not async",
    lambda value: (
        isinstance(value, Quantile) or is_function(value) or (type(value) is float and value >= 0)
    ),
    {
        "text": "p95",
        "boolean": True,
        "none": None,
        "negative": -1.0,
        "not a number": math.nan,
        "class": Quantile,
        "async": asyncio.sleep,
    },
)
_IDEMPOTENT = one_of(
    "True: running the callee several times must be as good as once",
    lambda value: value is True,
    {"false": False, "none": None, "number": 1},
)
_ON_DISCARD = one_of(
    "None or a function of a result, async or not",
    lambda value: value is None or (callable(value) and not isinstance(value, type)),
    {"number": 1, "text": "close", "class": float},
)


@final
@attrs.frozen(eq=False, repr=False)
class Hedge(Stateful):
    """
    Start another attempt beside one that is slow, or at once when one has failed, and take the first answer.

    The losers are cancelled and awaited; to breakers inside a loser is nothing. It holds state (what it observed) and
    has identity. Pickle and copy are refused.

    Args:
        after: Seconds before another attempt is started, >= 0, or a timedelta; 0: all at once; infinity: only when one
            fails. Or a `Quantile` of the latency of first attempts, which waits until enough were observed. Or a
            function of the `Call` that returns seconds; None, NaN or less than 0: only when one fails.
        max_hedges: Attempts beside the first, 1 to 10. Default 1.
        idempotent: Required, and True: the callee may run several times at once for one call.
        on: What makes another attempt worth it: exception classes, a predicate of the error, or one of tenacity's
            ``retry_if_*`` objects. An error that it does not name is the answer. A rejection only if it is named
            itself. Default every `Exception`.
        on_discard: Called with each result that is not returned, once; awaited if it is async, at most 5 s.
        budget: A `RetryBudget`, shared with others, that pays for each attempt beside the first. Default None.
        name: For events: 1 to 256 printable characters. Default: as it is written.
        clock: For observed latencies. Default: the process-wide monotonic clock.
        rng: Nothing here is left to chance; taken so that every policy that holds state takes the same.

    Raises:
        The error of the attempt that failed last, if all fail; the others are the group in its ``__context__``.
    """

    makes_attempts_at_once: ClassVar[bool] = True

    after: float | Quantile | Callable[[Call], float | timedelta | None] = attrs.field(
        converter=_after, validator=_AFTER
    )
    max_hedges: int = attrs.field(default=1, validator=count(high=10))
    idempotent: Literal[True] = attrs.field(kw_only=True, validator=_IDEMPOTENT)
    on: ErrorFilter = attrs.field(default=Exception, kw_only=True, validator=error_filter())
    on_discard: Callable[[Any], Any] | None = attrs.field(
        default=None, kw_only=True, validator=_ON_DISCARD
    )
    budget: RetryBudget | None = attrs.field(
        default=None, kw_only=True, validator=instance(RetryBudget, "a RetryBudget", none=True)
    )
    name: str | None = attrs.field(default=None, kw_only=True, validator=name(none=True))
    clock: Clock | Callable[[], float] | None = attrs.field(
        default=None, kw_only=True, converter=as_clock, validator=clock()
    )
    rng: Rng | None = attrs.field(default=None, kw_only=True, validator=rng())
    _latencies: Latencies | None = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        observed = Latencies(self.after) if isinstance(self.after, Quantile) else None
        object.__setattr__(self, "_latencies", observed)

    def link(self, step: Step, hub: Hub) -> Step:
        return Hedging(self, step, hub).run

    def worst(self, inner: Inner, around: Around) -> Inner:  # noqa: ARG002 - nothing around it matters
        after = self.after if isinstance(self.after, float) else math.inf

        def reach(starts: Sequence[Reach], deadline: float) -> Sequence[Reach]:
            ends: list[Reach] = []
            begun = starts
            for _ in range(self.max_hedges + 1):
                found = merged(inner(begun, deadline))
                ends += found
                first = min(each.first for each in begun)
                last = max(each.last for each in begun) + after
                # The next one begins while this one runs, when its delay is over, or when it fails: at the latest then.
                begun = merged(Reach(each.attempts, first, min(each.last, last)) for each in found)
            return merged(ends)

        return reach
