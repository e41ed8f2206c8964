"""
What a planted fault leaves behind is no other test's.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from resilience.modes import MODES


@pytest.fixture(autouse=True)
def _nothing_stays_in_use() -> Iterator[None]:
    """
    A planted fault may leave a block open, and while one is open no call of this process is made in the lane.
    """
    before = MODES.in_use
    yield
    gc.collect()  # what is collected later would count down once more
    MODES.in_use = before
