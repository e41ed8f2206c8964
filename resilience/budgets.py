"""
A budget for further attempts, shared by everything that makes them: retries, hedges, probes of your own.

Also here: how a retry sees that another one around it retries. A context variable says so while an attempt that is not
the first one runs, and only then, and only where somebody may ask: in a process in which a budget was made. A call that
succeeds at once neither sets nor reads it. What it holds is marked as over when that attempt ends, because a task that
was started meanwhile keeps the context for as long as it lives.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NoReturn, final

import attrs

from resilience.clock import PROCESS_CLOCK, Clock
from resilience.core.budget import LEDGER, Ledger
from resilience.validation import as_clock, as_seconds, clock, name, number, one_of, spelled
from resilience.values import Value

__all__ = ["ASKED", "BudgetSnapshot", "RetryBudget", "attempt_begins", "outer_retries"]

_TTL = one_of(
    "seconds from 1 to 60, or a timedelta",
    lambda value: type(value) is float and 1 <= value <= 60,  # noqa: PLR2004 - the range itself
    {"text": "10", "boolean": True, "none": None, "below": 0.5, "above": 61.0},
)


class BudgetSnapshot(Value):
    """
    A budget at one instant.

    Attributes:
        name: Its name, or None.
        successes: Calls that succeeded within the time to live.
        spent: Further attempts that were begun within it.
        asleep: Further attempts that are paid for and wait in back-off.
        available: Further attempts that could be made now.
        refused: Those that were refused, ever.
    """

    name: str | None
    successes: int
    spent: int
    asleep: int
    available: int
    refused: int


@final
@attrs.frozen(eq=False, repr=False)
class RetryBudget:
    """
    Further attempts as a share of what succeeds, for all callers of a dependency together.

    It holds state and has identity: give one object to every `Retry` and `Hedge` that loads the same dependency. Any
    number of tasks, loops and threads may share it, without a lock. Pickle and copy are refused.

    Args:
        ratio: Further attempts that one success buys, 0 to 1000. Default 0.2: at most a fifth more load.
        minimum_per_second: Further attempts per second that are free, 0 to 1000, so that a caller with little traffic
            can retry at all. Default 0.5: five in any ten seconds.
        ttl: Seconds that a success, and what it bought, counts, 1 to 60. Default 10.
        name: For reprs: 1 to 256 printable characters.
        clock: Monotonic clock. Default: the process-wide one.
    """

    ratio: float = attrs.field(default=0.2, validator=number(0, 1000))
    minimum_per_second: float = attrs.field(default=0.5, kw_only=True, validator=number(0, 1000))
    ttl: float = attrs.field(default=10.0, kw_only=True, converter=as_seconds, validator=_TTL)
    name: str | None = attrs.field(default=None, kw_only=True, validator=name(none=True))
    clock: Clock | Callable[[], float] | None = attrs.field(
        default=None, kw_only=True, converter=as_clock, validator=clock()
    )
    _ledger: Ledger = attrs.field(init=False)
    _clock: Any = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        made = LEDGER(self.ratio, self.minimum_per_second, self.ttl)
        object.__setattr__(self, "_ledger", made)
        object.__setattr__(self, "_clock", self.clock or PROCESS_CLOCK)
        ASKED.by_anybody = True

    def __repr__(self) -> str:
        return spelled(self)

    def spend(self) -> bool:
        """
        Pay for one further attempt that is made by hand, now: a probe, a retry in code of your own.

        Returns:
            Whether it may be made; nothing was paid if not.
        """
        if not self._take():
            return False
        self._start()
        return True

    def snapshot(self) -> BudgetSnapshot:
        """Everything there is to know at this instant, frozen."""
        ledger, now = self._ledger, self._clock.now()
        successes, spent = ledger.counts(now)
        return BudgetSnapshot(
            name=self.name,
            successes=successes,
            spent=spent,
            asleep=ledger.asleep,
            available=max(0, int(ledger.room(now) + 1e-6)),
            refused=ledger.refused,
        )

    def _count(self) -> None:
        """A call succeeded."""
        slot = self._ledger.turn(self._clock.now())
        slot.successes += 1

    def _take(self) -> bool:
        return self._ledger.take(self._clock.now())

    def _start(self) -> None:
        self._ledger.start(self._clock.now())

    def _give_back(self) -> None:
        self._ledger.give_back()

    def __reduce_ex__(self, _: Any) -> NoReturn:
        raise TypeError(
            "a RetryBudget holds the state of this process and cannot be pickled or copied"
        )

    def __copy__(self) -> NoReturn:
        self.__reduce_ex__(2)

    def __deepcopy__(self, _: Any) -> NoReturn:
        self.__reduce_ex__(2)


@final
class _Asked:
    """Whether anybody may ask for `outer_retries`. Setting a context variable costs as much as a call does."""

    __slots__ = ("by_anybody",)

    def __init__(self) -> None:
        self.by_anybody: bool = False


ASKED = _Asked()


@final
class _Again:
    """An attempt that is not the first one; *over* when it has ended."""

    __slots__ = ("_before", "over")

    _before: _Again | None
    over: bool

    def ends(self) -> None:
        self.over = True
        # Not by its token: a coroutine that is collected may be closed in another context.
        if _AGAIN.get() is self:
            _AGAIN.set(self._before)
        self._before = None


_AGAIN: ContextVar[_Again | None] = ContextVar("resilience_again", default=None)


def attempt_begins() -> _Again:
    """What runs from here until it ``ends`` is an attempt of a retry that is not its first."""
    attempt = _Again()
    attempt.over = False
    attempt._before = _AGAIN.get()  # noqa: SLF001 - stored from here, which is cheaper than by an __init__
    _AGAIN.set(attempt)
    return attempt


def outer_retries() -> bool:
    """Whether a retry around this call is at an attempt that is not its first."""
    attempt = _AGAIN.get()
    return attempt is not None and not attempt.over
