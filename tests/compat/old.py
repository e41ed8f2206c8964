"""
The old breaker in small, with its defects as they were seen at work: what the regression tests must fail on.

It stands for behaviour only; no line of it is the old code's.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from resilience.testing import ManualClock

WALL = ManualClock()
"""The wall clock it reads; it can be set back."""


class OldConfig:
    """Takes any name, checks nothing."""

    def __init__(self, **given: Any) -> None:
        self.name = "default"
        self.failure_threshold = 5
        self.success_threshold = 2
        self.recovery_timeout = 60
        self.timeout_seconds = 30.0
        vars(self).update(given)


class OldOpenError(Exception):
    def __init__(self, circuit_name: str) -> None:
        super().__init__(f"Circuit breaker '{circuit_name}' is OPEN")
        self.circuit_name = circuit_name


class OldBreaker:
    def __init__(self, config: OldConfig) -> None:
        self.config = config
        self.state = "closed"
        self.failure_count = self.success_count = self.total_calls = 0
        self.consecutive = 0
        self.durations: list[float] = []
        self.last_failure_time: float | None = None
        self.opened_at: float | None = None

    # by hand: nothing moves but counters
    def can_execute(self) -> bool:
        return self.state != "open" or self._waited(self.last_failure_time)

    def _waited(self, since: float | None) -> bool:
        return since is not None and WALL.now() - since > self.config.recovery_timeout

    def record_success(self) -> None:
        self.success_count += 1
        self.consecutive = 0

    def record_failure(self, error_type: str = "Exception") -> None:
        self.failure_count += 1
        self.consecutive += 1
        self.last_failure_time = WALL.now()
        if self.consecutive >= self.config.failure_threshold:
            self.state = "open"

    # call: another way of counting
    async def call(self, operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.total_calls += 1
        if self.state == "open":
            if not self._waited(self.last_failure_time):
                raise OldOpenError(f"Circuit breaker {self.config.name} is OPEN")
            self.state = "half_open"
        try:
            if inspect.iscoroutinefunction(operation):
                result = await operation(*args, **kwargs)
            else:
                result = operation(*args, **kwargs)
        except Exception as error:
            self.durations.append(0.0)
            self.record_failure(type(error).__name__)
            raise
        self.durations.append(0.0)
        self.record_success()
        if self.state == "half_open" and len(self.durations) >= self.config.success_threshold:
            self.state = "closed"
        return result

    async def force_open(self) -> None:
        self.state = "open"
        self.last_failure_time = WALL.now()

    def reset(self) -> None:
        self.state = "closed"
        self.consecutive = 0

    def get_status(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "can_execute": self.state != "open",
            "metrics": {
                "success_count": self.success_count,
                "failure_count": self.consecutive,
                "failed_calls": self.failure_count,
                "total_calls": self.total_calls,
                "success_rate": self.success_count / max(1, self.total_calls),
                "rejected_calls": 0,
            },
        }


def old_get_circuit_breaker(name: str, config: OldConfig | None = None) -> OldBreaker:
    """Always a new one."""
    return OldBreaker(config or OldConfig(name=name))


def old_decorator(breaker: OldBreaker) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """With counters of its own, and another timestamp."""

    def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
        failures = 0

        @functools.wraps(fn)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            nonlocal failures
            if breaker.state == "open" and not breaker._waited(breaker.opened_at):
                raise OldOpenError(breaker.config.name)
            try:
                return await fn(*args, **kwargs)
            except Exception:
                failures += 1
                if failures >= breaker.config.failure_threshold:
                    breaker.state = "open"
                    breaker.opened_at = WALL.now()
                raise

        return guarded

    return decorate
