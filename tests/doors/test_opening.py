"""
`p.opening(cm_fn)`: the entering is guarded, the body is the caller's.
"""

from __future__ import annotations

import anyio
import pytest

from resilience import (
    FullJitter,
    Pipeline,
    Retry,
)

retry = Retry(3, on=OSError, wait=FullJitter(0, 0))


class Manager:
    """A context manager that tells what happens to it."""

    log: list

    def __init__(self, log, *fails) -> None:
        self.log = log
        self.fails = fails

    async def __aenter__(self):
        self.log.append("enter")
        if self.fails and len(self.log) <= len(self.fails):
            raise self.fails[len(self.log) - 1]
        return len(self.log)

    async def __aexit__(self, kind, *_):
        self.log.append("exit" if kind is None else kind.__name__)


async def test_opening_guards_the_entering_only(backend):
    """
    api.md: entering is retried with a new manager each time; the body is the caller's.
    """
    log: list = []
    with pytest.raises(OSError, match="body"):  # noqa: PT012 - the body is what raises
        async with Pipeline(retry).opening(Manager)(log, OSError(), OSError()) as value:
            assert 3 == value
            raise OSError("body")
    assert ["enter", "enter", "enter", "OSError"] == log


async def test_a_manager_whose_value_is_refused_is_left(backend):
    """
    api.md: a manager that was entered in vain is exited before the next, and the last one after the body.
    """
    log: list = []
    picky = Retry(5, on=OSError, on_result=lambda value: value < 5, wait=lambda _: 0.0)
    async with picky.opening(Manager)(log) as value:
        assert 5 == value
    assert ["enter", "exit", "enter", "exit", "enter", "exit"] == log


async def test_a_manager_is_left_when_the_waiting_is_cancelled(backend, unit):
    """
    api.md, P4: cancelled between two tries, what was entered is exited.
    """
    log: list = []
    picky = Retry(
        5, on=OSError, on_result=lambda _: True, wait=lambda _: 50 * unit, retry_after=False
    )
    with anyio.move_on_after(unit):
        async with picky.opening(Manager)(log):
            raise AssertionError
    assert ["enter", "Cancelled" if backend == "trio" else "CancelledError"] == log
