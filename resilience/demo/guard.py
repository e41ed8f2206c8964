"""
How the guarded group calls: one pipeline, as a service would write it.

The break is short because the demo is: a service would let a circuit stay open for half a minute.
"""

from __future__ import annotations

from collections.abc import Iterable

from resilience import CircuitBreaker, FailureRate, Pipeline, Retry, Timeout, TimeWindow
from resilience.demo.clients import ServiceError
from resilience.events import Listener

__all__ = ["BREAKER", "guarded"]

BREAKER = "demo"
_FAILURES = (OSError, ServiceError)  # timeouts, refused and broken connections are OSErrors


def guarded(listeners: Iterable[Listener] = ()) -> Pipeline:
    """A pipeline with a circuit of its own."""
    return Pipeline(
        Timeout(2.0),
        Retry(attempts=3, on=_FAILURES),
        CircuitBreaker(
            BREAKER,
            on=_FAILURES,
            trip=FailureRate(0.5, TimeWindow(1.0), minimum_calls=5),
            break_duration=0.5,
        ),
        Timeout(0.4),
        listeners=tuple(listeners),
    )
