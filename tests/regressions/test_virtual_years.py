"""
Virtual time stood still for ever once it had come to 194 days.

From there on two neighbouring readings are further apart than the resolution that asyncio adds before it compares, so
a timer that was due at the very instant was never run.
"""

from __future__ import annotations

import pytest

from resilience.testing import VirtualEventLoop

_DAY = 86_400.0


@pytest.mark.parametrize("days", [1, 100, 195, 365, 36_500])
def test_a_timer_is_run_at_its_instant_however_late_it_is(days: int) -> None:
    """
    H34: time that jumps to a timer runs it, after any number of days.
    """
    loop = VirtualEventLoop()
    fired: list[float] = []
    try:
        loop.jump(days * _DAY)
        due = loop.time() + 0.1
        loop.call_at(due, lambda: fired.append(loop.time()))
        for _ in range(3):
            if not fired:
                loop._run_once()  # a turn by hand: the fault is a loop that turns for ever
    finally:
        loop.close()
    assert [due] == fired
