"""What every test of telemetry begins and ends with: nobody listens."""

import gc

import pytest

from resilience import CircuitBreaker, ConsecutiveFailures, FullJitter, Pipeline, Retry, Timeout
from resilience.events import EVERYWHERE, LINES
from resilience.modes import MODES


@pytest.fixture(autouse=True)
def _nobody_listens_on():
    gc.collect()
    before = MODES.in_use, LINES.replaced
    yield
    assert () == EVERYWHERE._subscriptions
    assert before == (MODES.in_use, LINES.replaced)


@pytest.fixture
def gate():
    """A breaker that opens at the third failure in a row."""
    return CircuitBreaker("catalogue", on=OSError, trip=ConsecutiveFailures(3))


@pytest.fixture
def shop(gate):
    """A pipeline that was built before anybody listened."""
    return Pipeline(
        Retry(2, on=(OSError, TimeoutError), wait=FullJitter(0.001)), gate, Timeout(5), name="shop"
    )
