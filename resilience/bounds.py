"""
The worst a pipeline can do, worked out from inside to outside: each policy says when what it holds can end.

A chain of policies can end at many instants, after more or fewer entries of the callee. They are kept as intervals,
because a callee may take any time before it fails: that is exact, and few intervals are enough. One number is not:
where a retry stands in another one, an attempt that fails late can be worth more attempts than one that fails at once,
because the deadline then ends the inner retry instead of a long wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias, final

__all__ = [
    "INVOKE",
    "ORIGIN",
    "Around",
    "Bounds",
    "Effort",
    "Inner",
    "Reach",
    "bounds_of",
    "merged",
    "shifted",
]


class Bounds(NamedTuple):
    """
    The worst of one chain of policies.

    Attributes:
        attempts: Times the callee can be entered.
        duration: Seconds until the caller has an answer, infinity if nothing bounds it.
    """

    attempts: float
    duration: float


class Reach(NamedTuple):
    """After *attempts* entries of the callee a call can be here at any instant from *first* to *last*, seconds."""

    attempts: float
    first: float
    last: float


ORIGIN = Reach(0, 0.0, 0.0)

Inner: TypeAlias = Callable[[Sequence[Reach], float], Sequence[Reach]]
"""Where a chain can end, from where it can start and with the instant of the earliest deadline around."""


def INVOKE(starts: Sequence[Reach], deadline: float) -> Sequence[Reach]:  # noqa: N802 - a constant: the innermost
    """The callee itself: entered once, and as long as it likes."""
    return [Reach(each.attempts + 1, each.first, deadline) for each in starts]


@final
class Effort:
    """
    How many more intervals may be followed; where that is not enough, a bound that is too high has to do.

    ``retries``: retries around the one that is followed which are at an attempt that is not their first.
    """

    __slots__ = ("left", "retries")

    def __init__(self) -> None:
        self.left: int = 40_000
        self.retries: int = 0

    def spend(self, intervals: int) -> bool:
        """Whether there is enough left."""
        self.left -= intervals
        return self.left > 0


class Around(NamedTuple):
    """What is around a policy whose worst is asked for: the *policies*, outermost first."""

    policies: Sequence[Any]
    effort: Effort


def shifted(starts: Sequence[Reach], ends: Sequence[Reach]) -> list[Reach]:
    """The ends of a chain that started at the `ORIGIN`, from all these starts."""
    return [
        Reach(start.attempts + end.attempts, start.first + end.first, start.last + end.last)
        for start in starts
        for end in ends
    ]


def merged(reached: Iterable[Reach]) -> list[Reach]:
    """The same in fewer intervals: those that meet are one, and what another one covers is gone."""
    joined: list[Reach] = []
    for each in sorted(reached, key=lambda reach: (-reach.attempts, reach.first)):
        before = joined[-1] if joined else None
        if before and before.attempts == each.attempts and each.first <= before.last:
            joined[-1] = before._replace(last=max(before.last, each.last))
        else:
            joined.append(each)
    kept: list[Reach] = []
    spans: list[tuple[float, float]] = []
    for each in joined:
        if not any(first <= each.first and each.last <= last for first, last in spans):
            kept.append(each)
            spans.append((each.first, each.last))
    return kept


def bounds_of(ends: Iterable[Reach]) -> Bounds:
    """The most attempts and the longest time among these ends."""
    attempts = duration = 0.0
    for end in ends:
        attempts = max(attempts, end.attempts)
        duration = max(duration, end.last)
    return Bounds(attempts, duration)
