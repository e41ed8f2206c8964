"""
A look into the express lane: whether a function has one, and how often its calls leave it.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine
from typing import Any

from resilience import FullJitter, Retry
from resilience._fronts import LANE
from resilience.testing import engine

ENGINES = ("express", "linked")


def quick_retry(attempts: int = 3, **options: Any) -> Retry:
    """At once, and without a strategy that asks for the arguments."""
    return Retry(attempts, on=OSError, wait=FullJitter(0, 0), **options)


def cells(made: Any) -> dict[str, types.CellType]:
    """What a generated function names, without the prefix."""
    names = made.__code__.co_freevars
    return {
        name.removeprefix(LANE): cell
        for name, cell in zip(names, made.__closure__ or (), strict=True)
    }


def has_lane(made: Any) -> bool:
    """Whether calls of it begin in the lane."""
    return "resumed" in cells(made)


def unwrapped(guard: Any) -> Any:
    """What ``await guard(fn)`` goes through from its first call on."""
    guard(idle).close()
    return guard._runner


async def idle() -> None:
    """Nothing."""


class Watched:
    """
    A function that has a lane, watched.

    Attributes:
        left: Calls that left before anything was taken, for the linked function.
        resumed: Calls that failed in the lane.
    """

    def __init__(self, made: Any) -> None:
        self.left = 0
        self.resumed = 0
        self._watch(made, "linked", self._leave)
        self._watch(made, "resumed", self._resume)

    @staticmethod
    def _watch(made: Any, name: str, count: Callable[[], None]) -> None:
        cell = cells(made)[name]
        real = cell.cell_contents

        def counted(*args: Any, **kwargs: Any) -> Any:
            count()
            return real(*args, **kwargs)

        cell.cell_contents = counted

    def _leave(self) -> None:
        self.left += 1

    def _resume(self) -> None:
        self.resumed += 1

    @property
    def seen(self) -> tuple[int, int]:
        """Both."""
        return self.left, self.resumed


def wrapped_on(name: Any, guard: Any, fn: Callable[..., Any]) -> Any:
    """*fn* wrapped for this engine."""
    with engine(name):
        return guard.wrap(fn)


def by_hand(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of what suspends nowhere, outside of any loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it suspends")
