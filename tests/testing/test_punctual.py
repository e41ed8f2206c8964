"""
The helper that tells a story again: it must not make a failure disappear.
"""

import asyncio
import time

import pytest

from tests.punctual import _TIMES, _told_again


def told(story, **fixtures):
    """Run it as the conftest has it run."""
    asyncio.run(_told_again(story)(**fixtures))


def test_a_failure_on_a_punctual_loop_stands_at_once():
    """
    Told once, failed once, while the loop was in time. Where this machine is late itself, it may be told again.
    """
    times = []

    async def story():
        times.append(1)
        raise AssertionError("as it is")

    with pytest.raises(AssertionError, match="as it is"):
        told(story)

    assert 1 <= len(times) <= _TIMES


def test_a_failure_of_every_telling_stands_however_late():
    """
    A machine that is always late is no excuse: after a few tellings the failure is raised.
    """
    times = []

    async def story():
        times.append(1)
        time.sleep(0.01)  # noqa: ASYNC251 - the lateness itself
        raise AssertionError("every time")

    with pytest.raises(AssertionError, match="every time"):
        told(story)

    assert _TIMES == len(times)


def test_a_late_story_is_told_again():
    """
    Late and failed twice, then in time: passed, and told more slowly each time.
    """
    units = []

    async def story(unit):
        units.append(unit)
        if len(units) < 3:
            time.sleep(0.01)  # noqa: ASYNC251 - the lateness itself
            raise AssertionError("late")

    told(story, unit=0.5)

    assert [0.5, 1.0, 2.0] == units
