"""
Pipelines as values: nested, frozen, switched off, copied; and their errors on the way to another process.
"""

from __future__ import annotations

import copy
import pickle

import pytest

from resilience import (
    CircuitOpenError,
    CircuitState,
    ConfigurationError,
    FullJitter,
    Pipeline,
    Retry,
    Timeout,
    TimeoutExceededError,
)
from resilience.errors import (
    BulkheadFullError,
    CircuitIsolatedError,
    DeadlineExpiredError,
    RateLimitedError,
    RejectedError,
    ThrottledError,
)
from resilience.testing import Script
from tests.doors.kit import plain_breaker

retry = Retry(3, on=OSError, wait=FullJitter(0, 0))


def test_pipelines_nest_and_keep_what_is_their_own():
    """
    api.md: an unnamed inner pipeline is spliced in; one with a name, a key, listeners or a switch stays a step.
    """
    first, last = Timeout(9), Timeout(3)
    assert Pipeline(first, retry, last) == Pipeline(first, Pipeline(retry, last))
    assert hash(Pipeline(first, retry, last)) == hash(Pipeline(first, Pipeline(retry, last)))
    assert (first, retry, last) == Pipeline(first, Pipeline(retry, last)).policies
    for own in ({"name": "inner"}, {"key": 1}, {"listeners": [print]}, {"enabled": False}):
        inner = Pipeline(last, **own)
        assert (first, inner) == Pipeline(first, inner).policies
    assert Pipeline(first) != first
    assert "Pipeline(Timeout(9.0), Timeout(3.0), name='n', enabled=False)" == repr(
        Pipeline(first, last, name="n", enabled=False)
    )


def test_a_pipeline_is_frozen():
    """
    api.md: a pipeline is frozen; `replace` makes another.
    """
    guarded = Pipeline(Timeout(9), name="n")
    with pytest.raises(AttributeError, match="frozen; use replace"):
        guarded.name = "other"
    assert "n" == guarded.name
    assert Pipeline(Timeout(5), name="n") == guarded.replace(Timeout(5))
    with pytest.raises(ConfigurationError, match="0 candidates"):
        guarded.replace(retry)
    with pytest.raises(ConfigurationError, match="2 candidates"):
        Pipeline(Timeout(9), Timeout(3)).replace(Timeout(1))


async def test_a_switched_off_pipeline_is_the_bare_call(backend):
    """
    api.md: `enabled` is False, or a function that says so at each call.
    """
    script = Script(OSError, OSError, 42)
    with pytest.raises(OSError, match="step 1"):
        await Pipeline(retry, enabled=False)(script)
    on = []
    switched = Pipeline(retry, enabled=lambda: bool(on)).wrap(script)
    with pytest.raises(OSError, match="step 2"):
        await switched()
    on.append(1)
    assert 42 == await switched()


def _pickled(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own


@pytest.mark.parametrize(
    "error",
    [
        RejectedError("no", policy="p", retry_after=2.0, reason="busy"),
        CircuitOpenError("db", retry_after=1.5, last_failure="OSError"),
        CircuitIsolatedError("db"),
        DeadlineExpiredError(policy="Timeout(2.0)"),
        BulkheadFullError(policy="Bulkhead(2)", retry_after=0.5),
        RateLimitedError(policy="RateLimit(9.0)", retry_after=0.1),
        ThrottledError(),
        TimeoutExceededError(2.0),
        ConfigurationError("Retry.attempts", got="0", allowed="a whole number >= 1"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("through", [copy.copy, copy.deepcopy, _pickled])
def test_errors_survive_pickle_and_copy(error, through):
    """
    Law 37: type, text, attributes and notes come through.
    """
    error = copy.copy(error)
    error.__notes__ = ["noted"]
    again = through(error)
    assert (type(error), str(error), repr(error)) == (type(again), str(again), repr(again))
    assert vars(error) == vars(again)
    assert ["noted"] == again.__notes__


def test_a_pipeline_of_values_can_be_copied_and_one_with_state_cannot():
    """
    Law 37: values copy; a stateful policy refuses with one sentence.
    """
    guarded = Pipeline(Timeout(9), Timeout(3), name="n")
    assert guarded == copy.deepcopy(guarded) == _pickled(guarded)
    breaker = plain_breaker(1)
    for refused in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            refused(breaker)
    assert CircuitState.CLOSED is breaker.state
