"""
This library, behind the same door as the others.
"""

from __future__ import annotations

import itertools
import warnings
from typing import Any

from benchmarks.rivals import Adapter, Breaker, Function, Hook, Kind, Settings
from resilience import (
    CircuitBreaker,
    ConsecutiveFailures,
    CountWindow,
    FailureRate,
    FullJitter,
    Pipeline,
    PipelineWarning,
    RejectedError,
    Retry,
    TimeoutExceededError,
    TimeWindow,
)
from resilience import Timeout as Deadline

__all__ = ["ADAPTER", "circuit", "pipeline", "retrying"]

_NUMBERS = itertools.count(1)


def pipeline(*policies: Any, **options: Any) -> Pipeline:
    """A pipeline of any shape: the ones under test here leave out what users are warned to put in."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PipelineWarning)
        return Pipeline(*policies, **options)


def circuit(settings: Settings, **options: Any) -> CircuitBreaker:
    """A breaker with these settings and a name of its own."""
    trips: dict[Kind, Any] = {
        "consecutive": lambda: ConsecutiveFailures(settings.failures),
        "count": lambda: FailureRate(
            0.5, CountWindow(settings.window), minimum_calls=min(settings.failures, settings.window)
        ),
        "time": lambda: FailureRate(0.5, TimeWindow(30.0), minimum_calls=settings.failures),
    }
    return CircuitBreaker(
        f"benchmark-{next(_NUMBERS)}",
        **{
            "on": settings.on,
            "ignore": settings.ignore,
            "trip": trips[settings.kind](),
            "break_duration": settings.break_seconds,
            "probes": settings.probes,
            "successes_to_close": settings.successes,
            **options,
        },
    )


def retrying(settings: Settings) -> Retry:
    # No wait, by the strategy that is the default; a function would have to be shown the state of the call.
    return Retry(settings.attempts, on=settings.on, wait=FullJitter(0.0, cap=0.0))


class _Breaker(Breaker):
    def __init__(self, settings: Settings, listener: Hook | None) -> None:
        self.circuit = circuit(settings)
        self._listeners = () if listener is None else (listener,)

    def wrap(self, fn: Function) -> Function:
        return pipeline(self.circuit, listeners=self._listeners).wrap(fn)

    def state(self) -> str:
        return self.circuit.state.value.replace("_", "-")

    def failures(self) -> int:
        return self.circuit.snapshot().totals.failures

    def calls(self) -> int:
        totals = self.circuit.snapshot().totals
        return totals.failures + totals.successes

    def open(self) -> bool:
        self.circuit.isolate()
        return True


class ADAPTER(Adapter):
    rejected = (RejectedError,)
    timed_out = (TimeoutExceededError,)
    kinds = ("time", "count", "consecutive")
    on_trio = True

    def breaker(self, settings: Settings, listener: Hook | None = None) -> Breaker:
        return _Breaker(settings, listener)

    def retry(self, fn: Function, settings: Settings) -> Function:
        return pipeline(retrying(settings)).wrap(fn)

    def timeout(self, fn: Function, settings: Settings) -> Function:
        return pipeline(Deadline(settings.seconds)).wrap(fn)

    def layers(self, fn: Function, settings: Settings) -> Function:
        return pipeline(retrying(settings), circuit(settings), Deadline(settings.seconds)).wrap(fn)
