"""
Work, counted in lines that run: a clock would measure the machine.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from resilience.core import windows


@pytest.fixture
def lines_of_windows(lines_run_in: Any) -> Callable[[Callable[[], object]], int]:
    """How many lines of ``core/windows.py`` a function runs."""
    return functools.partial(lines_run_in, windows)


@pytest.fixture
def lines_run_in() -> Callable[[types.ModuleType, Callable[[], object]], int]:
    """How many lines of a module a function runs."""

    def count(module: types.ModuleType, function: Callable[[], object]) -> int:
        lines = 0

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal lines
            if frame.f_code.co_filename != module.__file__:
                return None
            lines += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            function()
        finally:
            sys.settrace(before)
        return lines

    return count
