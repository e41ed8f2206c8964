"""
The helper that tells a story again: it must not make a failure disappear.
"""

import asyncio
import time

import pytest

from tests.composition.punctual import _TIMES, _told_again


def told(story):
    """Run it as the conftests have it run."""
    asyncio.run(_told_again(story)())


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
    Late and failed once, then in time: passed.
    """
    times = []

    async def story():
        times.append(1)
        if len(times) == 1:
            time.sleep(0.01)  # noqa: ASYNC251 - the lateness itself
            raise AssertionError("late")

    told(story)

    assert 2 == len(times)
