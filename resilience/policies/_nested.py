"""
Whether a task already stands inside a guard, asked only when it would otherwise wait, perhaps for itself.

Nothing is kept for this while calls run: the guards around are on the stack of the task that asks.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from resilience._express import HELD
from resilience.here import running_loop, task_of
from resilience.loaded import loaded

__all__ = ["guards_around"]


def guards_around(name: str, value: object) -> int:
    """How many steps, called ``guarded`` as all are, whose variable *name* is *value* the running task is in."""
    root = _first_frame()
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the stack is what is asked for
    found = 0
    while frame is not None:
        if frame.f_code.co_name == "guarded" and _holds(frame, name, value):
            found += 1
        # Below it stands another task, if this one was started eagerly.
        if frame is root:
            break
        frame = frame.f_back
    return found


def _holds(frame: FrameType, name: str, value: object) -> bool:
    """In an express lane that is a variable of its own, as it may have left before it took a place."""
    names = frame.f_locals
    return names.get(name) is value or any(
        names.get(each) is value for each in frame.f_code.co_varnames if each.startswith(HELD)
    )


def _first_frame() -> object:
    """The frame in which the running task began, where that can be known."""
    coroutine: Any = None
    loop = running_loop()
    if loop is not None and (task := task_of(loop)) is not None:
        coroutine = task.get_coro()
    elif (trio := loaded("trio")) is not None and trio.lowlevel.in_trio_task():
        coroutine = trio.lowlevel.current_task().coro
    return getattr(coroutine, "cr_frame", None)
