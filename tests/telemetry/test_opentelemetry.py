"""
OpenTelemetry: the real SDK with a reader and an exporter in memory.
"""

from __future__ import annotations

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from resilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpenError,
    ConfigurationError,
    Pipeline,
    SlowRate,
    Timeout,
)
from resilience.events import CircuitTripped, RetryScheduled
from resilience.telemetry.opentelemetry import OpenTelemetryListener, install
from resilience.testing import Hang, Script


@pytest.fixture
def metrics():
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    yield provider, reader
    provider.shutdown()


def read(reader):
    """Name -> (unit, attributes as a frozenset -> value or (count, sum))."""
    data = reader.get_metrics_data()
    found = {}
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            assert "resilience" == scope.scope.name
            for metric in scope.metrics:
                points = {}
                for point in metric.data.data_points:
                    value = (point.count, point.sum) if hasattr(point, "count") else point.value
                    points[frozenset(point.attributes.items())] = value
                found[metric.name] = metric.unit, points
    return found


def key(**attributes):
    """Attributes with a dot for each ``__`` and the prefix left out."""
    return frozenset(
        (name.replace("__", ".") if name == "error__type" else f"resilience.{name.replace('__', '.')}", value)
        for name, value in attributes.items()
    )  # fmt: skip


async def test_metrics_of_the_real_sdk(backend, unit, shop, gate, metrics):
    """
    Every instrument has its unit, its attributes and the right numbers, for a pipeline built before.
    """
    provider, reader = metrics
    call = shop.wrap(Script("fine", OSError).__call__)
    with install(provider):
        await call()
        for _ in range(2):
            with pytest.raises(OSError, match="step"):
                await call()
        with pytest.raises(CircuitOpenError):
            await call()
        await Pipeline(Timeout(unit), name="slow").outcome(Script(Hang()))
        found = read(reader)

    unit_of, calls = found["resilience.pipeline.duration"]
    assert "s" == unit_of
    assert 1 == calls[key(pipeline__name="shop", outcome="success")][0]
    assert 2 == calls[key(pipeline__name="shop", outcome="failure", error__type="OSError")][0]
    assert 1 == calls[key(pipeline__name="shop", outcome="rejected", error__type="CircuitOpenError")][0]  # fmt: skip
    slow = calls[key(pipeline__name="slow", outcome="failure", error__type="TimeoutExceededError")]
    assert slow[1] >= unit - 0.01
    assert 3 == found["resilience.attempt.duration"][1][
        key(pipeline__name="shop", outcome="failure", error__type="OSError")
    ][0]  # fmt: skip
    assert ("{retry}", {key(pipeline__name="shop", error__type="OSError"): 1}) == found[
        "resilience.retries"
    ]
    rejected = {key(pipeline__name="shop", rejection__reason="circuit_open"): 1}
    assert ("{call}", rejected) == found["resilience.rejections"]
    assert {key(pipeline__name="slow"): 1} == found["resilience.timeouts"][1]
    moved = key(
        circuit_breaker__name="catalogue",
        circuit_breaker__from="closed",
        circuit_breaker__to="open",
    )
    assert {moved: 1} == found["resilience.circuit_breaker.transitions"][1]
    states = found["resilience.circuit_breaker.state"][1]
    mine = {dict(k)["resilience.circuit_breaker.state"]: v for k, v in states.items()
            if dict(k)["resilience.circuit_breaker.name"] == "catalogue"}  # fmt: skip
    assert {"open"} == {state for state, value in mine.items() if value == 1}
    assert 6 == len(mine)
    counted = {dict(k)["event.name"]: v for k, v in found["resilience.events"][1].items()}
    assert {
        "circuit_state_changed": 1, "retry_scheduled": 1, "retry_stopped": 2,
        "call_rejected": 1, "timed_out": 1,
    } == counted  # fmt: skip


def test_rates_are_read_when_they_are_collected(metrics):
    """
    Rates of the breakers given, without any event; after ``remove()`` none is reported.
    """
    provider, reader = metrics
    gate = CircuitBreaker("rates", on=OSError, trip=SlowRate(0.5, 60))
    CircuitBreaker("another", on=OSError)
    mine = key(circuit_breaker__name="rates")
    with install(provider, breakers=[gate], per_call=False):
        gate.admit().success()
        gate.admit().failure()
        found = read(reader)
        assert {mine: 0.5} == found["resilience.circuit_breaker.failure_rate"][1]
        assert {mine: 0.0} == found["resilience.circuit_breaker.slow_call_rate"][1]
        gate.observe()
    assert "resilience.circuit_breaker.failure_rate" not in read(reader)


def test_events_to_come_are_counted(metrics):
    """
    A class of events that has no instrument of its own is counted by its name.
    """
    provider, reader = metrics
    with install(provider) as installed:
        installed.listener(CircuitTripped(policy="g", at=0.0, calls=1, failures=1, slow=0))
        _, points = read(reader)["resilience.events"]
    assert {frozenset({("event.name", "circuit_tripped")}): 1} == points


@pytest.mark.parametrize("spans", [True, False])
async def test_events_on_the_current_span(backend, unit, shop, metrics, spans):
    """
    Retries, rejections, timeouts and transitions are events of the span around the call; no span is made.
    """
    exporter = InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = tracers.get_tracer("test")
    with install(metrics[0], spans=spans):
        with tracer.start_as_current_span("request"):
            await shop.outcome(Script(OSError))
            await shop.outcome(Script(OSError))
            await shop.outcome(Script())
            await Pipeline(Timeout(unit)).outcome(Script(Hang()))
        await shop.outcome(Script())
    (span,) = exporter.get_finished_spans()
    told = [
        "retry_scheduled", "retry_stopped", "circuit_state_changed", "retry_stopped",
        "call_rejected", "timed_out",
    ]  # fmt: skip
    assert [f"resilience.{name}" for name in told if spans] == [event.name for event in span.events]
    if spans:
        retry, *_, rejected, timed_out = span.events
        assert 1 == retry.attributes["resilience.retry.attempt"]
        assert "OSError" == retry.attributes["error.type"]
        assert 0 < rejected.attributes["resilience.retry_after"] < 30.1
        assert unit == timed_out.attributes["resilience.timeout.seconds"]


def test_attributes_are_bounded(metrics):
    """
    Law 36: beyond the limit every value is ``other``.
    """
    provider, reader = metrics
    with install(provider, limit=2) as installed:
        for n in range(5):
            installed.listener(
                RetryScheduled(policy="p", pipeline=f"p{n}", at=0.0, attempt=1, delay=0.0, elapsed=0.0, error=None)
            )  # fmt: skip
        _, points = read(reader)["resilience.retries"]
    assert {"p0": 1, "p1": 1, "other": 3} == {
        dict(k)["resilience.pipeline.name"]: v for k, v in points.items()
    }


@pytest.mark.parametrize("options", [{"limit": 0}, {"spans": "yes"}, {"breakers": 3}])
def test_bad_options_are_refused(options):
    """
    One error that names the field.
    """
    (field,) = options
    with pytest.raises(ConfigurationError, match=rf"OpenTelemetryListener\.{field} must be"):
        OpenTelemetryListener(**options)


def test_other_policies_are_measured_by_name(metrics):
    """
    Places of a bulkhead by its name; after ``remove()`` nothing is read.
    """
    provider, reader = metrics
    with install(provider, others=[Bulkhead(5, name="db"), Bulkhead(7, name="api")]):
        found = read(reader)
    limits = {
        dict(k)["resilience.bulkhead.name"]: v
        for k, v in found["resilience.bulkhead.limit"][1].items()
    }
    assert {"db": 5, "api": 7} == limits
    assert "resilience.bulkhead.limit" not in read(reader)
