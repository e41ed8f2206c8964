"""
Fixtures for pytest, found by its plugin mechanism wherever the package is installed.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resilience.testing.scripts import Recorder
from resilience.testing.switches import disabled, instant
from resilience.testing.time import ManualClock, follow

__all__ = ["instant_retries", "manual_clock", "no_policies", "recorder", "virtual_time"]


@pytest.fixture
def manual_clock() -> Iterator[ManualClock]:
    """A clock that every policy without one of its own follows, and that moves by ``advance(seconds)`` only."""
    clock = ManualClock()
    with follow(clock):
        yield clock


@pytest.fixture
def virtual_time() -> Iterator[None]:
    """Policies follow the running loop: `VirtualEventLoop` on asyncio, ``MockClock`` on trio."""
    with follow():
        yield


@pytest.fixture
def recorder() -> Recorder:
    """A listener that keeps what it hears."""
    return Recorder()


@pytest.fixture
def instant_retries() -> Iterator[None]:
    """Retries do not wait."""
    with instant():
        yield


@pytest.fixture
def no_policies() -> Iterator[None]:
    """Every pipeline is the bare call."""
    with disabled():
        yield
