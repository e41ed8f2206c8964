"""Stories in seconds: on uvloop, where they are real, a machine that is late is not a failure of the code."""

import pathlib

from tests.composition.punctual import watch_the_clock


def pytest_collection_modifyitems(items):
    watch_the_clock(items, pathlib.Path(__file__).parent)
