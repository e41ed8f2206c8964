"""
pyresilience: one decorator for all of it; its breaker counts failures in a row, or a rate over a count window.
"""

from __future__ import annotations

from typing import Any

import pyresilience

from benchmarks.rivals import Adapter, Breaker, Function, Hook, Settings

__all__ = ["ADAPTER"]


def _breaker(settings: Settings) -> pyresilience.CircuitBreakerConfig:
    counted = settings.kind == "count"
    return pyresilience.CircuitBreakerConfig(
        failure_threshold=settings.failures,
        recovery_timeout=settings.break_seconds,
        success_threshold=settings.successes,
        error_types=settings.on,
        ignore_on=settings.ignore,
        sliding_window_size=settings.window if counted else 0,
        failure_rate_threshold=0.5,
        minimum_calls=settings.failures if counted else 0,
    )


def _retry(settings: Settings) -> pyresilience.RetryConfig:
    return pyresilience.RetryConfig(
        max_attempts=settings.attempts, delay=0.0, jitter=False, retry_on=settings.on
    )


class _Breaker(Breaker):
    """The breaker belongs to the decorator, so it exists once a function is wrapped."""

    def __init__(self, settings: Settings, listener: Hook | None) -> None:
        listeners: list[Any] = [] if listener is None else [listener]
        self._decorator = pyresilience.resilient(
            circuit_breaker=_breaker(settings), listeners=listeners
        )
        self._counted = settings.kind == "count"
        self._circuit: Any = None

    def wrap(self, fn: Function) -> Function:
        wrapped: Any = self._decorator(fn)
        self._circuit = wrapped._executor._circuit_breaker
        return wrapped  # type: ignore[no-any-return]

    def state(self) -> str:
        return str(self._circuit.state.value).replace("_", "-")

    def failures(self) -> int:
        if self._counted:
            metrics = self._circuit.metrics
            return round(metrics["failure_rate"] * metrics["total_calls"])
        return int(self._circuit.failure_count)

    def calls(self) -> int | None:
        return int(self._circuit.metrics["total_calls"]) if self._counted else None

    def open(self) -> bool:
        self._circuit.force_open()
        return True


class ADAPTER(Adapter):
    rejected = (pyresilience.CircuitOpenError,)
    timed_out = (pyresilience.ResilienceTimeoutError,)
    kinds = ("consecutive", "count")

    def breaker(self, settings: Settings, listener: Hook | None = None) -> Breaker:
        return _Breaker(settings, listener)

    def retry(self, fn: Function, settings: Settings) -> Function:
        return pyresilience.resilient(retry=_retry(settings))(fn)

    def timeout(self, fn: Function, settings: Settings) -> Function:
        return pyresilience.resilient(timeout=pyresilience.TimeoutConfig(seconds=settings.seconds))(
            fn
        )

    def layers(self, fn: Function, settings: Settings) -> Function:
        return pyresilience.resilient(
            retry=_retry(settings),
            circuit_breaker=_breaker(settings),
            timeout=pyresilience.TimeoutConfig(seconds=settings.seconds),
        )(fn)
