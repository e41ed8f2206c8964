"""
Guards that let a plain call through untouched, one of each kind.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

from resilience import (
    CircuitBreaker,
    ConsecutiveFailures,
    Pipeline,
    PipelineWarning,
    Policy,
    Retry,
    Timeout,
)

_names = itertools.count(1)


def breaker(failures: int = 2, **options: Any) -> CircuitBreaker:
    """Opens after so many failures, under a name of its own."""
    given = {"on": OSError, "trip": ConsecutiveFailures(failures), "overdue_after": 3600}
    return CircuitBreaker(f"door-{next(_names)}", **(given | options))


def plain_breaker(failures: int = 2, **options: Any) -> CircuitBreaker:
    """The same without a register of calls in flight: the fast lane."""
    return breaker(failures, **({"overdue_after": None} | options))


def retry(attempts: int = 3, **options: Any) -> Retry:
    """At once, and without Retry-After."""
    given: dict[str, Any] = {"on": OSError, "wait": lambda _: 0.0, "retry_after": False}
    return Retry(attempts, **(given | options))


def pipeline(*policies: Policy | Pipeline, **options: Any) -> Pipeline:
    """A pipeline of the shape the test is about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PipelineWarning)
        return Pipeline(*policies, **options)


GUARDS: dict[str, Callable[[], Any]] = {
    "Pipeline()": Pipeline,
    "Timeout": lambda: Timeout(60),
    "Retry": retry,
    "CircuitBreaker": breaker,
    "plain breaker": plain_breaker,
    "all": lambda: pipeline(Timeout(60), retry(), breaker(), Timeout(30)),
    "switched": lambda: pipeline(Timeout(60), enabled=lambda: True),
    "switched off": lambda: pipeline(Timeout(60), enabled=False),
    "named inside": lambda: pipeline(Timeout(60), pipeline(retry(), name="inner")),
}
"""Every kind of thing that has doors."""
