"""
Metrics and span events for OpenTelemetry, through its API only; the SDK and the exporter are the application's.

Experimental: there is no semantic convention for resilience yet (open proposal open-telemetry/semantic-conventions
2355). Names stay near it and Polly's, units are UCUM, durations seconds; when
a convention comes, this file moves to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, final

from resilience.core.generations import CircuitState
from resilience.events import (
    AttemptFinished,
    CallFinished,
    CallRejected,
    CircuitStateChanged,
    Event,
    RetryScheduled,
    RetryStopped,
    TimedOut,
    seldom,
)
from resilience.policies.circuit_breaker import CircuitSnapshot
from resilience.telemetry import _sources
from resilience.telemetry._sources import Breakers, Readable, limited, readable, severity, snapshots
from resilience.telemetry._words import Labels, name_of, snake_case
from resilience.telemetry.installation import Installation
from resilience.validation import check, count, flag

try:
    from opentelemetry import metrics, trace
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        "resilience.telemetry.opentelemetry needs opentelemetry-api: "
        "pip install 'resilience-anyio[opentelemetry]'"
    ) from _missing

__all__ = ["OpenTelemetryListener", "install"]

Attributes: TypeAlias = dict[str, str | int | float | bool]

METER = "resilience"
PIPELINE = "resilience.pipeline.name"
OUTCOME = "resilience.outcome"
BREAKER = "resilience.circuit_breaker.name"
STATE = "resilience.circuit_breaker.state"


@final
class OpenTelemetryListener:
    """
    A listener that measures, and adds span events to the current span.

    Args:
        meter_provider: Where the instruments are made. Default: the global one.
        breakers: Which breakers to read: None for all of the process, a `Registry`, breakers, or a function that gives
            them. Of a registry ``install`` hears the events of its pipelines and breakers alone.
        others: Named bulkheads, rate limits, throttles and retry budgets whose numbers are reported too, next to those
            of a registry given as ``breakers``.
        per_call: Measure each call and attempt too: histograms of their durations. Default True.
        spans: Add an event to the current span, if it is recording, for retries, rejections, timeouts and transitions.
            Default True. No span is made: a call's time belongs to the span that makes it.
        limit: The most values an attribute may have, and the most breakers that are reported, the worst first; the rest
            is ``other``. Default 200.
    """

    def __init__(
        self,
        meter_provider: MeterProvider | None = None,
        *,
        breakers: Breakers = None,
        others: Iterable[Any] = (),
        per_call: bool = True,
        spans: bool = True,
        limit: int = 200,
    ) -> None:
        check("OpenTelemetryListener.limit", limit, count())
        check("OpenTelemetryListener.spans", spans, flag())
        self.listens_to: tuple[type[Event], ...] = (Event,) if per_call else seldom()
        self._breakers: Callable[[], Iterable[Readable]] = readable(
            "OpenTelemetryListener.breakers", breakers
        )
        self._given = breakers
        self._others = _sources.others("OpenTelemetryListener.others", others)
        self._spans = spans
        self._limit = limit
        self._closed = False
        self._pipelines, self._circuits, self._errors, self._reasons = (
            Labels(limit) for _ in range(4)
        )
        meter = (meter_provider or metrics.get_meter_provider()).get_meter(METER)
        self._calls = meter.create_histogram(
            "resilience.pipeline.duration",
            "s",
            "Duration of calls, from the pipeline's door and back.",
        )
        self._attempts = meter.create_histogram(
            "resilience.attempt.duration", "s", "Duration of attempts."
        )
        self._events = meter.create_counter(
            "resilience.events", "{event}", "Events; calls and attempts are counted apart."
        )
        self._retries = meter.create_counter("resilience.retries", "{retry}", "Retries scheduled.")
        self._stopped = meter.create_counter(
            "resilience.retries.stopped", "{call}", "Retries given up."
        )
        self._rejections = meter.create_counter(
            "resilience.rejections", "{call}", "Calls a policy turned away before they ran."
        )
        self._timeouts = meter.create_counter(
            "resilience.timeouts", "{timeout}", "Calls or attempts our own deadline cut off."
        )
        self._transitions = meter.create_counter(
            "resilience.circuit_breaker.transitions", "{transition}", "Transitions of circuits."
        )
        meter.create_observable_gauge(
            "resilience.circuit_breaker.state",
            [self._states],
            "1",
            "1 for the state the circuit is in, 0 for the others.",
        )
        meter.create_observable_gauge(
            "resilience.circuit_breaker.failure_rate",
            [self._observer(lambda each: each.failure_rate)],
            "1",
            "Share of failures in the window.",
        )
        meter.create_observable_gauge(
            "resilience.circuit_breaker.slow_call_rate",
            [self._observer(lambda each: each.slow_rate)],
            "1",
            "Share of slow calls in the window.",
        )

        for kind, fields in _sources.GAUGES.items():
            for field in fields:
                meter.create_observable_gauge(
                    f"resilience.{snake_case(kind)}.{field}",
                    [self._gauge(kind, field)],
                    "1",
                    f"{kind}: {field}.",
                )

    def __call__(self, event: Event, /) -> None:
        about: Attributes = {}
        if event.pipeline is not None:
            about[PIPELINE] = self._pipelines(event.pipeline)
        match event:
            case CallFinished() | AttemptFinished():
                about[OUTCOME] = event.outcome
                self._name_error(about, event.error)
                measure = self._calls if isinstance(event, CallFinished) else self._attempts
                measure.record(event.elapsed, about)
                return
            case RetryScheduled():
                self._name_error(about, event.error)
                self._retries.add(1, about)
                self._on_span(event, about, {"resilience.retry.attempt": event.attempt,
                                             "resilience.retry.delay": event.delay})  # fmt: skip
            case RetryStopped():
                about["resilience.retry.reason"] = self._reasons(event.reason)
                self._stopped.add(1, about)
                self._on_span(event, about, {"resilience.retry.attempts": event.attempts})
            case CallRejected():
                about["resilience.rejection.reason"] = self._reasons(event.reason)
                self._rejections.add(1, about)
                after = (
                    {}
                    if event.retry_after is None
                    else {"resilience.retry_after": event.retry_after}
                )
                self._on_span(event, about, after)
            case TimedOut():
                self._timeouts.add(1, about)
                self._on_span(event, about, {"resilience.timeout.seconds": event.seconds})
            case CircuitStateChanged():
                about[BREAKER] = self._circuits(event.policy)
                about["resilience.circuit_breaker.from"] = event.old.lower()
                about["resilience.circuit_breaker.to"] = event.new.lower()
                self._transitions.add(1, about)
                self._on_span(event, about, {})
            case _:
                pass
        counted: Attributes = {"event.name": name_of(event)}
        if PIPELINE in about:
            counted[PIPELINE] = about[PIPELINE]
        self._events.add(1, counted)

    def _name_error(self, about: Attributes, error: str | None) -> None:
        if error is not None:
            about["error.type"] = self._errors(error)

    def _on_span(self, event: Event, about: Attributes, more: Mapping[str, int | float]) -> None:
        if self._spans and (span := trace.get_current_span()).is_recording():
            span.add_event(f"resilience.{name_of(event)}", {**about, **more})

    def _shown(self) -> list[tuple[str, CircuitSnapshot]]:
        if self._closed:
            return []
        label = Labels(self._limit)
        worst_first = sorted(snapshots(self._breakers), key=severity)[: self._limit]
        return [(label(each.name), each) for each in worst_first]

    def _states(self, _: CallbackOptions) -> Iterable[Observation]:
        for name, each in self._shown():
            for state in CircuitState:
                yield Observation(each.state is state, {BREAKER: name, STATE: state.name.lower()})

    def _observer(self, read: Callable[[CircuitSnapshot], float | None]) -> Any:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for name, each in self._shown():
                if (value := read(each)) is not None:
                    yield Observation(value, {BREAKER: name})

        return observe

    def _gauge(self, kind: str, field: str) -> Any:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            if self._closed:
                return
            for each, about, name, value in _sources.gauges(self._given, self._others, self._limit):
                if (each, about) == (kind, field):
                    yield Observation(value, {f"resilience.{snake_case(kind)}.name": name})

        return observe

    def close(self) -> None:
        """Report nothing that is read any more: what was made on a meter cannot be taken off it."""
        self._closed = True


def install(
    meter_provider: MeterProvider | None = None,
    *,
    breakers: Breakers = None,
    others: Iterable[Any] = (),
    per_call: bool = True,
    spans: bool = True,
    limit: int = 200,
) -> Installation:
    """
    Measure all present and future pipelines and breakers.

    Arguments as in `OpenTelemetryListener`. Once per process: a second one would count everything again.
    """
    listener = OpenTelemetryListener(
        meter_provider,
        breakers=breakers,
        others=others,
        per_call=per_call,
        spans=spans,
        limit=limit,
    )
    return Installation(listener, listener.close, limited(listener, breakers))
