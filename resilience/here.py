"""
Where this code runs: the running asyncio loop and its current task, at the lowest price each Python has.

Up to 3.11 `asyncio.current_task` is written in Python and costs more than a breaker; the table it looks into does not.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import sys
from asyncio.events import _get_running_loop as running_loop
from collections.abc import Callable
from typing import Any

__all__ = ["running_loop", "task_of"]

task_of: Callable[[asyncio.AbstractEventLoop], asyncio.Task[Any] | None]
if sys.version_info < (3, 12):  # pragma: no cover - measured on a newer one
    task_of = asyncio.tasks._current_tasks.get  # type: ignore[attr-defined] # noqa: SLF001 - see above
else:
    task_of = asyncio.current_task
