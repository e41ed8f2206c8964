"""Fixtures of the demo's tests."""

import gc
import threading

import pytest


@pytest.fixture
def one_circuit():
    """A finished run's circuit lives until the collector comes, and two live ones of one name warn."""
    gc.collect()


@pytest.fixture
def soon():
    """Do something in a while, unless the test is over by then."""
    timers = []

    def start(seconds, act, *arguments):
        timers.append(threading.Timer(seconds, act, arguments))
        timers[-1].start()

    yield start
    for timer in timers:
        timer.cancel()
        timer.join()
