"""Stories in seconds: on uvloop, where they are real, a machine that is late is not a failure of the code."""

import pathlib

from tests.composition.punctual import watch_the_clock

HERE = pathlib.Path(__file__).parent
TOLD_IN_SECONDS = ("retry", "jitter", "timeout", "composition", "cancellation")


def pytest_collection_modifyitems(items):
    watch_the_clock(items, *(HERE / f"test_{name}_cases.py" for name in TOLD_IN_SECONDS))
