"""
Metrics for Prometheus: counters and histograms from events, gauges read off the breakers at the scrape.

What a breaker holds costs nothing until somebody scrapes. Names follow Prometheus's rules (seconds, ``_total``), and
resilience4j's and Polly's where those have one. Every label is bounded; none carries arguments, results or error texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, final

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
from resilience.validation import check, count

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        "resilience.telemetry.prometheus needs prometheus-client: "
        "pip install 'resilience-anyio[prometheus]'"
    ) from _missing

__all__ = ["PrometheusListener", "install"]

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@final
class PrometheusListener(Collector):
    """
    A listener that counts, and the collector of what it counted and of the breakers' own numbers.

    Args:
        breakers: Which breakers to read: None for all of the process, a `Registry`, breakers, or a function that gives
            them. Of a registry ``install`` hears the events of its pipelines and breakers alone.
        others: Named bulkheads, rate limits, throttles and retry budgets whose numbers are reported too, next to those
            of a registry given as ``breakers``.
        per_call: Measure each call and attempt too: histograms of their durations. Default True.
        limit: The most values a label may have, and the most breakers that are reported, the worst first; the rest is
            ``other``. Default 200.
        buckets: Upper bounds of the histograms, in seconds.
    """

    def __init__(
        self,
        *,
        breakers: Breakers = None,
        others: Iterable[Any] = (),
        per_call: bool = True,
        limit: int = 200,
        buckets: Iterable[float] = BUCKETS,
    ) -> None:
        check("PrometheusListener.limit", limit, count())
        self.listens_to: tuple[type[Event], ...] = (Event,) if per_call else seldom()
        self._breakers: Callable[[], Iterable[Readable]] = readable(
            "PrometheusListener.breakers", breakers
        )
        self._given = breakers
        self._others = _sources.others("PrometheusListener.others", others)
        self._limit = limit
        self._pipelines, self._circuits, self._errors, self._reasons = (
            Labels(limit) for _ in range(4)
        )
        edges = tuple(buckets)
        # Registered nowhere by themselves: one collector comes and goes as a whole.
        self._calls = Histogram(
            "resilience_pipeline_duration_seconds", "Calls, from the pipeline's door and back.",
            ["pipeline", "outcome"], registry=None, buckets=edges,
        )  # fmt: skip
        self._attempts = Histogram(
            "resilience_attempt_duration_seconds", "Attempts: the callee, each time it was entered.",
            ["pipeline", "outcome"], registry=None, buckets=edges,
        )  # fmt: skip
        self._events = Counter(
            "resilience_events", "Events, by their name; calls and attempts are counted apart.",
            ["pipeline", "event"], registry=None,
        )  # fmt: skip
        self._retries = Counter(
            "resilience_retries", "Retries scheduled, by what the attempt before raised.",
            ["pipeline", "error"], registry=None,
        )  # fmt: skip
        self._stopped = Counter(
            "resilience_retries_stopped", "Retries given up after at least one failed attempt.",
            ["pipeline", "reason"], registry=None,
        )  # fmt: skip
        self._rejections = Counter(
            "resilience_rejections", "Calls a policy turned away before they ran.",
            ["pipeline", "reason"], registry=None,
        )  # fmt: skip
        self._timeouts = Counter(
            "resilience_timeouts", "Calls or attempts our own deadline cut off.",
            ["pipeline"], registry=None,
        )  # fmt: skip
        self._transitions = Counter(
            "resilience_circuit_breaker_transitions", "Transitions of circuits.",
            ["name", "from_state", "to_state"], registry=None,
        )  # fmt: skip

        self._counted: tuple[Any, ...] = (
            self._calls, self._attempts, self._events, self._retries, self._stopped,
            self._rejections, self._timeouts, self._transitions,
        )  # fmt: skip

    def __call__(self, event: Event, /) -> None:
        pipeline = self._pipelines(event.pipeline)
        match event:
            case CallFinished():
                self._calls.labels(pipeline, event.outcome).observe(event.elapsed)
                return
            case AttemptFinished():
                self._attempts.labels(pipeline, event.outcome).observe(event.elapsed)
                return
            case RetryScheduled():
                self._retries.labels(pipeline, self._errors(event.error)).inc()
            case RetryStopped():
                self._stopped.labels(pipeline, self._reasons(event.reason)).inc()
            case CallRejected():
                self._rejections.labels(pipeline, self._reasons(event.reason)).inc()
            case TimedOut():
                self._timeouts.labels(pipeline).inc()
            case CircuitStateChanged():
                name = self._circuits(event.policy)
                self._transitions.labels(name, event.old.lower(), event.new.lower()).inc()
            case _:
                pass
        self._events.labels(pipeline, name_of(event)).inc()

    def describe(self) -> Iterator[Metric]:
        """The names, for the registry to see that nobody else has them; no breaker is read."""
        for each in self._counted:
            yield from each.describe()
        yield from _circuits([], self._limit)
        yield from _policies([])

    def collect(self) -> Iterator[Metric]:
        """What was counted, then what the breakers hold now."""
        for each in self._counted:
            yield from each.collect()
        yield from _circuits(snapshots(self._breakers), self._limit)
        yield from _policies(_sources.gauges(self._given, self._others, self._limit))


def _circuits(found: list[CircuitSnapshot], limit: int) -> Iterator[Metric]:
    number = GaugeMetricFamily(
        "resilience_circuit_breakers", "Circuit breakers, by state.", labels=["state"]
    )
    for state in CircuitState:
        number.add_metric([state.name.lower()], sum(each.state is state for each in found))
    yield number
    label = Labels(limit)
    # The worst first, so that an open one is never the one that is left out.
    shown = [(label(each.name), each) for each in sorted(found, key=severity)[:limit]]
    prefix = "resilience_circuit_breaker"
    states = GaugeMetricFamily(
        f"{prefix}_state", "1 for the state the circuit is in.", labels=["name", "state"]
    )
    for name, each in shown:
        for state in CircuitState:
            states.add_metric([name, state.name.lower()], each.state is state)
    yield states
    gauges: tuple[tuple[str, str, Callable[[CircuitSnapshot], float | None]], ...] = (
        ("failure_rate", "Share of failures in the window, 0 to 1.", lambda s: s.failure_rate),
        ("slow_call_rate", "Share of slow calls in the window, 0 to 1.", lambda s: s.slow_rate),
        ("buffered_calls", "Calls in the window.", lambda s: s.calls),
        ("retry_after_seconds", "Seconds an open circuit stays open.", lambda s: s.retry_after),
    )
    for suffix, text, read in gauges:
        gauge = GaugeMetricFamily(f"{prefix}_{suffix}", text, labels=["name"])
        for name, each in shown:
            if (value := read(each)) is not None:
                gauge.add_metric([name], value)
        yield gauge
    calls = CounterMetricFamily(f"{prefix}_calls", "Calls by verdict.", labels=["name", "kind"])
    for name, each in shown:
        calls.add_metric([name, "successful"], each.totals.successes)
        calls.add_metric([name, "failed"], each.totals.failures)
        calls.add_metric([name, "ignored"], each.totals.ignored)
    yield calls
    totals: tuple[tuple[str, str, Callable[[CircuitSnapshot], float]], ...] = (
        ("slow_calls", "Calls that were slow.", lambda s: s.totals.slow),
        ("not_permitted_calls", "Calls turned away.", lambda s: s.totals.rejected),
        ("openings", "Times the circuit opened.", lambda s: s.totals.openings),
    )
    for suffix, text, total in totals:
        counter = CounterMetricFamily(f"{prefix}_{suffix}", text, labels=["name"])
        for name, each in shown:
            counter.add_metric([name], total(each))
        yield counter


def _policies(measured: Iterable[tuple[str, str, str, float]]) -> Iterator[Metric]:
    families = {
        (kind, field): GaugeMetricFamily(
            f"resilience_{snake_case(kind)}_{field}", f"{kind}: {field}.", labels=["name"]
        )
        for kind, fields in _sources.GAUGES.items()
        for field in fields
    }
    for kind, field, name, value in measured:
        families[kind, field].add_metric([name], value)
    yield from families.values()


def install(
    registry: CollectorRegistry = REGISTRY,
    *,
    breakers: Breakers = None,
    others: Iterable[Any] = (),
    per_call: bool = True,
    limit: int = 200,
    buckets: Iterable[float] = BUCKETS,
) -> Installation:
    """
    Measure all present and future pipelines and breakers, and offer the numbers in *registry*.

    Other arguments as in `PrometheusListener`.

    Raises:
        ValueError: *registry* has these series already; nothing was changed.
    """
    listener = PrometheusListener(
        breakers=breakers, others=others, per_call=per_call, limit=limit, buckets=buckets
    )
    registry.register(listener)
    return Installation(
        listener, lambda: registry.unregister(listener), limited(listener, breakers)
    )
