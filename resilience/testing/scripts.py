"""
A callee that plays a list, and a listener that keeps what it hears.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, final

import anyio
import attrs

from resilience.clock import PROCESS_CLOCK
from resilience.events import Event

__all__ = ["Calls", "Hang", "Recorder", "Script", "Wait"]

E = TypeVar("E", bound=Event)


@final
@attrs.frozen
class Wait:
    """
    A step of a `Script` that takes its time.

    Args:
        seconds: How long before it ends.
        then: How it ends: a value to return, or an exception (class) to raise. Default None.
    """

    seconds: float
    then: Any = None


@final
@attrs.frozen
class Hang:
    """A step of a `Script` that never ends by itself."""


@final
@attrs.frozen
class Calls:
    """
    One call of a `Script`.

    Attributes:
        at: The instant it began, on the process-wide clock (virtual in a test).
        args, kwargs: What it was called with.
    """

    at: float
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@final
class Script:
    """
    An async callable that plays a list, one step per call, and records its calls. The last step is repeated.

    Args:
        steps: A value is returned; an exception or its class is raised; `Wait` sleeps first; `Hang` never ends; a
            function is called with the arguments of the call, and awaited if it is async.

    Attributes:
        history: Every call, in order.
        running: Calls in flight.
        peak: Most calls in flight at once.
    """

    def __init__(self, *steps: Any) -> None:
        self._steps = steps or (None,)
        self.history: list[Calls] = []
        self.running: int = 0
        self.peak: int = 0

    @property
    def calls(self) -> int:
        """How often it was called."""
        return len(self.history)

    @property
    def times(self) -> list[float]:
        """When it was called, in seconds since the first call."""
        return [call.at - self.history[0].at for call in self.history]

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        step = self._steps[min(self.calls, len(self._steps) - 1)]
        self.history.append(Calls(PROCESS_CLOCK.now(), args, kwargs))
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            return await self._play(step, args, kwargs)
        finally:
            self.running -= 1

    async def _play(self, step: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        match step:
            case Wait():
                await anyio.sleep(step.seconds)
                return await self._play(step.then, args, kwargs)
            case Hang():
                await anyio.sleep_forever()
            case BaseException():
                raise step
            case type() if issubclass(step, BaseException):
                raise step(f"step {self.calls}")
            case _:
                pass
        if callable(step):
            answer = step(*args, **kwargs)
            return await answer if inspect.isawaitable(answer) else answer
        return step


@final
class Recorder:
    """A listener that keeps every event it hears, in order: ``Pipeline(..., listeners=[recorder])``."""

    def __init__(self, *listens_to: type[Event]) -> None:
        self.events: list[Event] = []
        if listens_to:
            self.listens_to = listens_to

    def __call__(self, event: Event, /) -> None:
        self.events.append(event)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def of(self, kind: type[E], where: Callable[[E], bool] | None = None) -> list[E]:
        """The events of one class, in order."""
        found = [event for event in self.events if isinstance(event, kind)]
        return found if where is None else [event for event in found if where(event)]

    @property
    def kinds(self) -> list[str]:
        """The class names of the events, in order."""
        return [type(event).__name__ for event in self.events]

    def clear(self) -> None:
        """Forget them."""
        self.events.clear()
