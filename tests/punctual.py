"""
Tests whose story is told in seconds, on a loop whose seconds are real.

uvloop cannot be given a clock that jumps, so a machine that is busy with something else may wake a test so
late that the story is another one: a wait of one unit ends after a deadline of two. Such a run says nothing
about the code. So the loop is watched while a test runs there; if it fails *and* the loop was late, the test
is told again, a few times, each time twice as slowly. A failure of a loop that kept its time stands at once.
"""

import asyncio
import functools
import inspect
import time

import pytest

_BEAT = 0.002
_LATE = 0.004  # a fifth of a unit
_TIMES = 6


class _Watch:
    """How late the running loop was, at worst."""

    def __init__(self):
        self._loop = asyncio.get_running_loop()
        self.worst = 0.0
        self._beat()

    def _beat(self):
        self._due = time.monotonic() + _BEAT
        self._handle = self._loop.call_later(_BEAT, self._on_time)

    def _on_time(self):
        self.worst = max(self.worst, time.monotonic() - self._due)
        self._beat()

    def late(self):
        self._handle.cancel()
        return max(self.worst, time.monotonic() - self._due) > _LATE


def _told_again(function):
    @functools.wraps(function)
    async def test(**arguments):
        for left in reversed(range(_TIMES)):
            watch = _Watch()
            try:
                return await function(**arguments)
            except (Exception, pytest.fail.Exception):
                if not watch.late() or not left:
                    raise
                if "unit" in arguments:
                    arguments["unit"] *= 2
            finally:
                watch.late()
        raise AssertionError("unreachable")

    return test


def watch_the_clock(items):
    """For the conftest: the async tests that run on uvloop are told again where the machine was late."""
    for item in items:
        if (
            isinstance(item, pytest.Function)
            and inspect.iscoroutinefunction(item.obj)
            and item.callspec.params.get("backend") == "uvloop"
        ):
            item.obj = _told_again(item.obj)
