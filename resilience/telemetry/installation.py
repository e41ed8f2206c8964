"""
What `install` gives back: the way to undo it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self, final

from resilience.events import Listener, listen

__all__ = ["Installation"]


@final
class Installation:
    """A listener wired to the process: a context manager, or ``remove()``. Removing a second time does nothing."""

    __slots__ = ("_subscription", "_undo", "listener")

    def __init__(
        self,
        listener: Listener,
        undo: Callable[[], object] | None = None,
        wired: Listener | None = None,
    ) -> None:
        self.listener: Listener = listener
        self._undo = undo
        self._subscription = listen(wired or listener)

    def remove(self) -> None:
        """Take it out again."""
        self._subscription.stop()
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()
