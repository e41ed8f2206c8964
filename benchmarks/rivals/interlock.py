"""
interlock-cb: its pipeline with tenacity's retry, its breaker with its own default classifier.

The classifier is the one setting that is not equal: every exception counts as a failure, which costs less than a
classifier written for this table would. What it calls unreachable stands for what is to be ignored.
"""

from __future__ import annotations

import itertools

import interlock
from interlock.integrations.tenacity import RetryStrategy, retry_unless_open
from tenacity import wait_none

from benchmarks.rivals import Adapter, Breaker, Function, Hook, Settings

__all__ = ["ADAPTER"]

_NUMBERS = itertools.count(1)


class _Listener:
    """One hook for all of its events."""

    def __init__(self, hook: Hook) -> None:
        self._hook = hook

    def on_state_change(self, **event: object) -> None:
        self._hook(event)

    def on_call(self, **event: object) -> None:
        self._hook(event)

    def on_rejected(self, **event: object) -> None:
        self._hook(event)

    def on_reset(self, **event: object) -> None:
        self._hook(event)


def _circuit(settings: Settings, listener: Hook | None = None) -> interlock.CircuitBreaker:
    timed = settings.kind == "time"
    return interlock.CircuitBreaker(
        name=f"benchmark-{next(_NUMBERS)}",
        config=interlock.Config(
            failure_rate_threshold=0.5,
            minimum_number_of_calls=settings.failures,
            permitted_calls_in_half_open=max(settings.probes, settings.successes),
            max_concurrent_probes=settings.probes,
            wait_duration_in_open=settings.break_seconds,
            window_type=interlock.WindowType.TIME_BASED
            if timed
            else interlock.WindowType.COUNT_BASED,
            window_size=30 if timed else settings.window,
        ),
        listener=None if listener is None else _Listener(listener),
        unreachable_exceptions=settings.ignore,
    )


class _Breaker(Breaker):
    def __init__(self, settings: Settings, listener: Hook | None) -> None:
        self._circuit = _circuit(settings, listener)

    def wrap(self, fn: Function) -> Function:
        return self._circuit(fn)

    def state(self) -> str:
        return str(self._circuit.state.value).replace("_", "-")

    def failures(self) -> int:
        return self._circuit.snapshot().failed_calls

    def calls(self) -> int:
        return self._circuit.snapshot().total_calls

    def open(self) -> bool:
        self._circuit.force_open()
        return True

    def reset(self) -> bool:
        self._circuit.reset()
        return True


def _retry(settings: Settings) -> RetryStrategy:
    again = retry_unless_open(*settings.on, interlock.CallTimeoutError)
    return RetryStrategy(attempts=settings.attempts, retry=again, wait=wait_none())


class ADAPTER(Adapter):
    rejected = (interlock.CircuitOpenError,)
    timed_out = (interlock.CallTimeoutError,)
    kinds = ("count", "time")

    def breaker(self, settings: Settings, listener: Hook | None = None) -> Breaker:
        return _Breaker(settings, listener)

    def retry(self, fn: Function, settings: Settings) -> Function:
        return interlock.Pipeline(_retry(settings))(fn)

    def timeout(self, fn: Function, settings: Settings) -> Function:
        return interlock.Pipeline(interlock.TimeoutStrategy(settings.seconds))(fn)

    def layers(self, fn: Function, settings: Settings) -> Function:
        return interlock.Pipeline(
            _retry(settings),
            interlock.CircuitBreakerStrategy(_circuit(settings)),
            interlock.TimeoutStrategy(settings.seconds),
        )(fn)
