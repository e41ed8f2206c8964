"""
What holds for a context: a deadline around a block, and what a test may switch: policies, waits, the engine.

The count is read on every call and the context variables only while it is not zero, so where nothing of this is in use
a call pays for one attribute and no look-up. ``resilience.testing`` holds the switches, `resilience.deadlines` the
deadline.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias, final

__all__ = ["MODES", "Engine"]

Engine: TypeAlias = Literal["express", "linked"]


@final
class _Modes:
    __slots__ = ("_disabled", "_instant", "block", "engine", "in_use")

    def __init__(self) -> None:
        self.in_use: int = 0
        self._disabled = ContextVar("resilience_disabled", default=False)
        self._instant = ContextVar("resilience_instant", default=False)
        # The innermost deadline that was opened in this context; it may have been closed since.
        self.block: ContextVar[Any] = ContextVar("resilience_deadline", default=None)
        # Asked when a function is wrapped, or a guard runs one for the first time; not on every call.
        self.engine: ContextVar[Engine] = ContextVar("resilience_engine", default="express")

    def disabled(self) -> bool:
        return self._disabled.get()

    def instant(self) -> bool:
        return self._instant.get()

    @contextmanager
    def _switched(self, variable: ContextVar[bool]) -> Iterator[None]:
        self.in_use += 1
        token = variable.set(True)
        try:
            yield
        finally:
            variable.reset(token)
            self.in_use -= 1

    def disable(self) -> AbstractContextManager[None]:
        return self._switched(self._disabled)

    def make_instant(self) -> AbstractContextManager[None]:
        return self._switched(self._instant)


MODES = _Modes()
