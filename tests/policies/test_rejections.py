"""
What turns a call away makes its error without `__init__`: nothing but its price may tell the two apart.
"""

from __future__ import annotations

import itertools
import math
import pickle

import pytest

from resilience import (
    AIMD,
    Bulkhead,
    CircuitBreaker,
    ConcurrencyLimit,
    Pipeline,
    RateLimit,
    Throttle,
    Timeout,
)
from resilience.errors import (
    BulkheadFullError,
    CircuitIsolatedError,
    CircuitOpenError,
    RateLimitedError,
    RejectedError,
    ThrottledError,
)
from resilience.events import CallRejected
from resilience.testing import ManualClock

_NUMBERS = itertools.count(1)


class _Always:
    """Draws what turns everybody away."""

    def random(self) -> float:
        return 0.0


async def _never(*_: object) -> None:
    raise AssertionError("a rejected call never runs")


async def _fails() -> None:
    raise OSError


def _isolated(clock: ManualClock) -> tuple[CircuitBreaker, RejectedError]:
    breaker = CircuitBreaker(f"isolated-{next(_NUMBERS)}", on=OSError, clock=clock)
    breaker.isolate()
    return breaker, CircuitIsolatedError(breaker.name)


async def _opened(clock: ManualClock) -> tuple[CircuitBreaker, RejectedError]:
    breaker = CircuitBreaker(f"opened-{next(_NUMBERS)}", on=OSError, clock=clock)
    for _ in range(10):
        with pytest.raises(OSError):  # noqa: PT011 - the callee's own
            await breaker(_fails)
    expected = CircuitOpenError(breaker.name, last_failure="OSError", retry_after=30.0)
    return breaker, expected


async def _rejecting(kind: str, clock: ManualClock) -> tuple[object, RejectedError]:
    match kind:
        case "open":
            return await _opened(clock)
        case "isolated":
            return _isolated(clock)
        case "bulkhead":
            bulkhead = Bulkhead(0)
            return bulkhead, BulkheadFullError(policy=repr(bulkhead))
        case "rate limit":
            limit = RateLimit(1, per=10, clock=clock)
            limit.admit()
            return limit, RateLimitedError(policy=repr(limit), retry_after=10.0)
        case "throttle":
            throttle = Throttle(minimum_calls=1, clock=clock, rng=_Always())
            for _ in range(20):
                with pytest.raises((OSError, ThrottledError)):
                    await throttle(_fails)
            return throttle, ThrottledError(policy=repr(throttle))
        case _:
            adaptive = ConcurrencyLimit(AIMD(initial=1, minimum=1))
            adaptive._core.places.taken = 1  # type: ignore[attr-defined]
            return adaptive, ThrottledError(policy=repr(adaptive))


KINDS = ["open", "isolated", "bulkhead", "rate limit", "throttle", "concurrency limit"]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_is_what_its_class_makes(backend, clock, kind):
    """
    Law 37: class, fields, text, repr, args and pickle of a rejection are those of one that was made by hand.
    """
    gate, expected = await _rejecting(kind, clock)
    with pytest.raises(RejectedError) as caught:
        await gate(_never)
    error = caught.value
    for each in (error, pickle.loads(pickle.dumps(error))):  # noqa: S301 - our own
        assert type(expected) is type(each)
        assert vars(expected) == vars(each)
        assert (str(expected), repr(expected), ()) == (str(each), repr(each), each.args)
    assert error.__cause__ is None
    assert error.__context__ is None


@pytest.mark.parametrize("kind", KINDS)
async def test_a_rejection_is_told_once(backend, clock, kind):
    """
    An error and its event say the same, and each rejection is its own object.
    """
    gate, expected = await _rejecting(kind, clock)
    heard = []
    heard_by = heard.append
    guarded = Pipeline(gate, Timeout(5), name="p", listeners=[heard_by])
    errors = []
    for _ in range(2):
        with pytest.raises(type(expected)) as caught:
            await guarded(_never)
        errors.append(caught.value)
    assert errors[0] is not errors[1]
    told = [each for each in heard if isinstance(each, CallRejected)]
    assert [("p", expected.reason, expected.retry_after)] * 2 == [
        (each.pipeline, each.reason, each.retry_after) for each in told
    ]
    assert all(math.isfinite(each.at) for each in told)
