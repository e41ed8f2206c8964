"""Fixtures of the tests for ASGI."""

import gc

import pytest

from resilience.events import EVERYWHERE
from resilience.integrations.asgi import OperationsApp


@pytest.fixture(autouse=True)
def _nobody_listens_on():
    gc.collect()
    yield
    assert () == EVERYWHERE._subscriptions


@pytest.fixture
def operations():
    """Make an operations app that is closed at the end of the test."""
    made = []

    def make(*args, **options):
        made.append(OperationsApp(*args, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()
