"""
`p.outcome(fn, ...)`: what happened, as a value.
"""

from __future__ import annotations

import anyio
import pytest

from resilience import (
    CircuitOpenError,
    Failure,
    FullJitter,
    Pipeline,
    Retry,
    Success,
    Timeout,
)
from resilience.testing import Hang, Script, Wait
from tests.doors.kit import plain_breaker

retry = Retry(3, on=OSError, wait=FullJitter(0, 0))


async def test_an_outcome_raises_no_exception(backend, unit):
    """
    api.md: Success or Failure, with attempts, elapsed, exhausted and the rejection.
    """
    good = await retry.outcome(Script(OSError, 42))
    assert isinstance(good, Success)
    assert (True, 42, 2, False, None) == (
        good.ok,
        good.unwrap(),
        good.attempts,
        good.exhausted,
        good.rejection,
    )
    bad = await retry.outcome(Script(OSError("down")))
    assert isinstance(bad, Failure)
    assert (False, 3, True) == (bad.ok, bad.attempts, bad.exhausted)
    with pytest.raises(OSError, match="down"):
        bad.unwrap()
    took = await Timeout(5 * unit).outcome(Script(Wait(unit, 1)))
    assert 0.9 * unit <= took.elapsed <= 3 * unit


async def test_an_outcome_shows_the_rejection(backend):
    """
    api.md, law 25: the rejection itself, or the one that ended the retries after an error.
    """
    breaker = plain_breaker(1)
    with pytest.warns(match="hang"):
        guarded = Pipeline(retry, breaker)
    ended = await guarded.outcome(Script(OSError))
    assert (OSError, CircuitOpenError) == (type(ended.error), type(ended.rejection))
    rejected = await guarded.outcome(Script(1))
    assert rejected.error is rejected.rejection
    assert 0 == rejected.attempts


async def test_an_outcome_lets_a_cancellation_pass(backend, unit):
    """
    Law 2: an outcome answers no cancellation.
    """
    with anyio.move_on_after(unit) as scope:
        await retry.outcome(Script(Hang()))
    assert scope.cancelled_caught
