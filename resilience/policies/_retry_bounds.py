"""
The worst that a retry makes of what it holds: which attempts can start when, and when the last one can end.

An attempt fails at any instant it likes and a server asks for any wait that is honoured, so what can be reached is
followed as intervals (`resilience.bounds`), attempt by attempt. The next one starts only if the wait ends before the
deadline; otherwise the attempt before was the last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, final

from resilience.bounds import ORIGIN, Effort, Inner, Reach, bounds_of, merged, shifted
from resilience.errors import RejectedError
from resilience.strategies import named_exceptions, only_counts, stops_from, wait_bounds
from resilience.verdicts import is_types

if TYPE_CHECKING:
    from resilience.policies.retry import Retry

__all__ = ["RetryReach", "can_end_before"]


@final
class RetryReach:
    """
    An `Inner` around an `Inner`.

    Args:
        policy: The retry.
        inner: What it holds.
        early: Whether an error can end it that a retry around it takes up.
        effort: What following it may cost.
    """

    def __init__(self, policy: Retry, inner: Inner, *, early: bool, effort: Effort) -> None:
        self._policy = policy
        self._inner = inner
        self._early = early
        self._effort = effort
        self._most = math.inf if policy.attempts is None else policy.attempts
        self._asked = policy.retry_after is not False or any(
            issubclass(each, RejectedError) for each in named_exceptions(policy.on)
        )

    def __call__(self, starts: Sequence[Reach], deadline: float) -> Sequence[Reach]:
        around = self._effort.retries
        # One with a budget leaves it to the retry around it that retries; a budget itself is taken to give.
        stands_down = self._policy.budget is not None and around
        try:
            return self._followed(starts, deadline, 1 if stands_down else self._most)
        finally:
            self._effort.retries = around

    def _followed(self, starts: Sequence[Reach], deadline: float, limit: float) -> Sequence[Reach]:
        policy = self._policy
        # What a strategy sees of time is told by the policy's clock, which may be any.
        began = _instant(starts) if policy.clock is None else math.inf
        alike: Sequence[Reach] = ()
        ends: list[Reach] = []
        number = 0
        while starts:
            number += 1
            self._effort.retries += number == 2  # noqa: PLR2004 - from the second attempt on it retries
            if deadline < math.inf:
                found = self._inner(starts, deadline)
            else:
                # Far from any deadline the first attempt is like any first one, and the others are alike.
                alike = self._inner([ORIGIN], deadline) if number <= 2 else alike  # noqa: PLR2004
                found = shifted(starts, alike)
            reached = merged(found)
            after, before = stops_from(policy.stop, number)
            due = began + after if after > 0 else -math.inf
            # No wait is begun that does not end before this.
            until = min(deadline, began + before)
            if self._early or number >= limit:
                ends += reached
            if number >= limit:
                break
            short, own = wait_bounds(policy.wait, number, policy.max_delay)
            long = policy.max_delay if self._asked else own
            last = min(due, until - own)
            ends += [
                Reach(each.attempts, max(each.first, last), each.last)
                for each in reached
                if each.last >= last
            ]
            starts = merged(
                Reach(each.attempts, each.first + short, min(min(each.last, due) + long, until))
                for each in reached
                if each.first < due and each.first + short < until
            )
            if starts and not self._effort.spend(1 + len(found)):
                ends.append(self._no_more_than(starts, limit - number, deadline))
                break
        return merged(ends)

    def _no_more_than(self, starts: Sequence[Reach], more: float, deadline: float) -> Reach:
        """What so many *more* attempts cannot exceed, where following each of them would take too long."""
        here = bounds_of(starts)
        first = min(start.first for start in starts)
        # Whenever it starts: with less time left there may be more attempts in it.
        anywhere = ORIGIN if deadline == math.inf else Reach(0, first, deadline)
        each = bounds_of(self._inner([anywhere], deadline))
        last = here.duration + more * (each.duration + self._policy.max_delay)
        return Reach(here.attempts + more * each.attempts, first, min(deadline, last))


def _instant(starts: Sequence[Reach]) -> float:
    """When it begins, if that is one instant: else a delay since then is no bound to go by."""
    first = starts[0].first
    return first if all(each.first == each.last == first for each in starts) else math.inf


def can_end_before(retry: Retry, outer: Retry, *, cut: bool) -> bool:
    """
    Whether *retry* can give up on something that *outer*, around it, tries again; *cut*: a deadline is in between.

    True where nobody can tell.
    """
    if not only_counts(retry.stop) or not _takes_all_of(retry.on, outer.on):
        return True
    if outer.on_result is not None and outer.on_result != retry.on_result:
        return True
    # A server may ask for more than one of them honours, or than fits one of the deadlines.
    return retry.retry_after is not False and (
        cut or outer.retry_after != retry.retry_after or outer.max_delay > retry.max_delay
    )


def _takes_all_of(on: Any, other: Any) -> bool:
    if on == other:
        return True
    if not is_types(on) or not is_types(other):
        return False
    kinds = on if isinstance(on, tuple) else (on,)
    others = other if isinstance(other, tuple) else (other,)
    return all(issubclass(each, kinds) for each in others)
