"""Names of breakers that no other test has used: managers of a process remember."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from resilience.compat import unified

_numbers = itertools.count(1)


@pytest.fixture
def named() -> str:
    return f"compat-{next(_numbers)}"


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """What one test has named is no other test's."""
    yield
    unified.get_unified_circuit_breaker_manager().cleanup_all()
