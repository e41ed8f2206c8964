"""
The bounded list of events.
"""

from __future__ import annotations

import threading

import pytest

from resilience import ConfigurationError
from resilience.events import CallFinished, CircuitTripped, RetryStopped, listen
from resilience.telemetry import EventLog
from resilience.testing import Script


def event(n):
    return RetryStopped(policy=f"r{n}", at=float(n), attempts=1, reason="attempts", error=None)


def test_keeps_the_newest_and_says_how_many_it_forgot():
    """
    A ring: the oldest go, numbers go on, clearing counts as forgetting.
    """
    log = EventLog(3)
    assert (0, 0) == (len(log), log.forgotten)
    for n in range(5):
        log(event(n))
    assert ["r2", "r3", "r4"] == [each.event.policy for each in log]
    assert [3, 4, 5] == [each.number for each in log]
    assert (3, 2) == (len(log), log.forgotten)
    log.clear()
    assert (0, 5) == (len(log), log.forgotten)
    assert [] == list(log)


async def test_hears_the_process_without_the_per_call_events(backend, shop):
    """
    By default everything but calls and attempts; with classes named, those.
    """
    rare, calls = EventLog(), EventLog(listens_to=(CallFinished,))
    with listen(rare), listen(calls):
        await shop.outcome(Script(OSError))
    assert ["RetryScheduled", "RetryStopped"] == [type(each.event).__name__ for each in rare]
    assert ["CallFinished"] == [type(each.event).__name__ for each in calls]
    assert all(each.wall > 1e9 for each in rare)


def test_may_be_written_and_read_by_many_threads():
    """
    Law 15: every event gets a number of its own, and readers never see it change under their hands.
    """
    log = EventLog(50)
    done = threading.Event()
    torn = []

    def read():
        while not done.is_set():
            torn.extend(each for each in log if not isinstance(each.event, CircuitTripped))

    def write():
        for _ in range(2000):
            log(CircuitTripped(policy="g", at=0.0, calls=1, failures=1, slow=0))

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write) for _ in range(4)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert [] == torn
    numbers = [each.number for each in log]
    assert 50 == len(set(numbers))
    assert max(numbers) == 8000


@pytest.mark.parametrize("limit", [0, -1, True, 2.5, "10", None])
def test_a_bad_limit_is_refused(limit):
    """
    One error that names the field.
    """
    with pytest.raises(ConfigurationError, match=r"EventLog\.limit must be a whole number"):
        EventLog(limit)
