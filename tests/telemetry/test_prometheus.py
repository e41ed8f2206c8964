"""
Prometheus: a real scrape over HTTP, read with the parser of the client library.
"""

from __future__ import annotations

import math
import sys
import urllib.request

import attrs
import pytest
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from resilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpenError,
    ConfigurationError,
    ConsecutiveFailures,
    Pipeline,
    RateLimit,
    RetryBudget,
    Throttle,
    Timeout,
)
from resilience.events import CallFinished
from resilience.registry import Registry
from resilience.telemetry._sources import Among
from resilience.telemetry.prometheus import PrometheusListener, install
from resilience.testing import Hang, Script
from resilience.testing.time import follow


def read(registry):
    """The series of a scrape over HTTP: name and labels -> value."""
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    try:
        url = f"http://127.0.0.1:{server.server_port}/metrics"
        with urllib.request.urlopen(url, timeout=30) as answer:
            text = answer.read().decode()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    return {
        (sample.name.removeprefix("resilience_"), *(v for _, v in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }  # fmt: skip


async def test_a_scrape_says_what_happened(backend, unit, shop, gate):
    """
    Calls, attempts, retries, rejections, timeouts and transitions, of a pipeline built before, in one real scrape.
    """
    registry = CollectorRegistry()
    call = shop.wrap(Script("fine", OSError, OSError, "fine", OSError).__call__)
    with install(registry, breakers=[gate]):
        await call()
        with pytest.raises(OSError, match="step 3"):
            await call()
        await call()
        with pytest.raises(OSError, match="step 6"):
            await call()
        with pytest.raises(OSError, match="step 7"):
            await call()
        with pytest.raises(CircuitOpenError):
            await call()
        await Pipeline(Timeout(unit), name="slow").outcome(Script(Hang()))
        found = read(registry)

    assert 2 == found["pipeline_duration_seconds_count", "success", "shop"]
    assert 3 == found["pipeline_duration_seconds_count", "failure", "shop"]
    assert 1 == found["pipeline_duration_seconds_count", "rejected", "shop"]
    assert 5 == found["attempt_duration_seconds_count", "failure", "shop"]
    assert 2 == found["attempt_duration_seconds_count", "success", "shop"]
    assert 2 == found["retries_total", "OSError", "shop"]
    assert 1 == found["retries_stopped_total", "shop", "attempts"] - 1
    assert 1 == found["retries_stopped_total", "shop", "rejected"]
    assert 1 == found["rejections_total", "shop", "circuit_open"]
    assert 1 == found["timeouts_total", "slow"]
    assert 1 == found["circuit_breaker_transitions_total", "closed", "catalogue", "open"]
    assert 2 == found["events_total", "retry_scheduled", "shop"]
    assert 1 == found["events_total", "circuit_state_changed", ""]
    assert 1 == found["circuit_breaker_state", "catalogue", "open"]
    assert 0 == found["circuit_breaker_state", "catalogue", "closed"]
    assert 1 == found["circuit_breakers", "open"]
    assert 2 == found["circuit_breaker_calls_total", "successful", "catalogue"]
    assert 5 == found["circuit_breaker_calls_total", "failed", "catalogue"]
    assert 1 == found["circuit_breaker_not_permitted_calls_total", "catalogue"]
    assert 1 == found["circuit_breaker_openings_total", "catalogue"]
    assert 0 < found["circuit_breaker_retry_after_seconds", "catalogue"] < 30.1
    slow = found["pipeline_duration_seconds_sum", "failure", "slow"]
    assert unit - 0.01 <= slow < 60 * unit


def test_a_closed_breaker_reports_rates_without_a_single_event():
    """
    What a breaker holds is read at the scrape: rates appear with the first call, and nothing else is needed.
    """
    registry = CollectorRegistry()
    gate = CircuitBreaker("scraped", on=OSError)
    with install(registry, per_call=False):
        fresh = read(registry)
        gate.admit().success()
        gate.admit().failure()
        gate.observe()
        for _ in range(10):
            gate.admit().failure()
        used = read(registry)
    assert ("circuit_breaker_failure_rate", "scraped") not in fresh
    assert 1.0 == used["circuit_breaker_failure_rate", "scraped"]
    assert 10 == used["circuit_breaker_buffered_calls", "scraped"]
    assert 1 == used["events_total", "circuit_tripped", ""]


def test_removed_it_leaves_nothing_and_can_come_back():
    """
    ``remove()`` takes the series off the registry; a second install in one registry is refused and changes nothing.
    """
    registry = CollectorRegistry()
    first = install(registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        install(registry)
    assert ("circuit_breakers", "open") in read(registry)
    first.remove()
    first.remove()
    assert {} == read(registry)
    install(registry).remove()


async def test_labels_are_bounded(backend):
    """
    Law 36: whatever names come, a label has at most ``limit`` values and ``other``, and no text of an error.
    """
    registry = CollectorRegistry()
    kinds = [type(f"Made{n}", (OSError,), {}) for n in range(8)]
    with install(registry, limit=3):
        for n, kind in enumerate(kinds):
            guarded = Pipeline(
                CircuitBreaker(f"gate {n}", on=OSError), Timeout(5), name=f"pipe {n}"
            )
            await guarded.outcome(Script(kind("secret")))
        found = read(registry)
    pipelines = {key[-1] for key in found if key[0] == "pipeline_duration_seconds_count"}
    assert {"pipe 0", "pipe 1", "other"} <= pipelines
    assert len(pipelines) <= 4
    assert not [key for key in found if "secret" in str(key)]


def test_the_worst_breakers_are_the_ones_that_are_shown():
    """
    Beyond the limit an open breaker is not the one that is left out; the number by state counts them all.
    """
    registry = CollectorRegistry()
    gates = [CircuitBreaker(f"gate {n}", on=OSError) for n in range(5)]
    with install(registry, limit=2, breakers=gates), gates[4].isolate():
        found = read(registry)
    names = {key[1] for key in found if key[0] == "circuit_breaker_state"}
    assert {"gate 4", "gate 0"} == names
    assert 1 == found["circuit_breakers", "isolated"]
    assert 4 == found["circuit_breakers", "closed"]


def test_two_breakers_of_one_name_are_one_series():
    """
    The scrape stays valid where two live breakers share a name; the worse of them is shown.
    """
    registry = CollectorRegistry()
    one = CircuitBreaker("twin", on=OSError, trip=ConsecutiveFailures(1))
    with pytest.warns(UserWarning, match="two live circuit breakers"):
        other = CircuitBreaker("twin", on=OSError)
    one.admit().failure()
    with install(registry, breakers=lambda: [other, one, other]):
        found = read(registry)
    assert 1 == found["circuit_breaker_state", "twin", "open"]
    assert 1 == sum(v for key, v in found.items() if key[:2] == ("circuit_breaker_state", "twin"))


@pytest.mark.parametrize("breakers", [5, "gate", [1, 2]])
def test_what_has_no_breakers_is_refused(breakers):
    """
    One sentence instead of a failing scrape.
    """
    with pytest.raises(ConfigurationError, match=r"PrometheusListener\.breakers must be None"):
        PrometheusListener(breakers=breakers)
    with pytest.raises(ConfigurationError, match=r"limit must be a whole number"):
        PrometheusListener(limit=0)


def test_hostile_names_stay_one_line():
    """
    A type name with line breaks or half a surrogate pair is escaped and cut, and the scrape stays readable.
    """
    registry = CollectorRegistry()
    with install(registry) as installed:
        for name in ("a\nb", "\ud800", "x" * 500, 'quo"ted\\'):
            installed.listener(
                CallFinished(
                    policy="p", pipeline=name, at=0.0, outcome="success", attempts=1, elapsed=0.1, error=None,
                )
            )  # fmt: skip
        found = read(registry)
    names = {key[-1] for key in found if key[0] == "pipeline_duration_seconds_count"}
    assert {"a\\nb", "\\ud800", "x" * 128, 'quo"ted\\'} == names
    assert math.isclose(
        0.4, sum(v for k, v in found.items() if k[0] == "pipeline_duration_seconds_sum")
    )


@pytest.mark.parametrize("library", ["prometheus_client", "opentelemetry", "structlog"])
def test_a_missing_library_is_named_with_its_extra(library, monkeypatch):
    """
    Importing an adapter without its library says which extra to install.
    """
    module = f"resilience.telemetry.{library.removesuffix('_client')}"
    extra = module.rpartition(".")[2]
    for name in [each for each in sys.modules if each.split(".")[0] == library]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'resilience-anyio\[{extra}\]'"):
        __import__(module)


async def test_a_registry_is_measured_alone(backend, shop):
    """
    Given a registry, it reports its breakers and the events of its pipelines and breakers, also of those to come.
    """
    registered, metrics = Registry(), CollectorRegistry()
    with install(metrics, breakers=registered):
        await shop.outcome(Script(OSError))
        await shop.outcome(Script(OSError))
        gate = registered.breaker("orders", domain="db", on=OSError, trip=ConsecutiveFailures(1))
        orders = registered.pipeline("order reads", gate, Timeout(5), domain="db")
        await orders.outcome(Script(OSError))
        await orders.outcome(Script())
        await shop.outcome(Script())
        found = read(metrics)
    assert {"order reads"} == {
        key[-1] for key in found if key[0] == "pipeline_duration_seconds_count"
    }
    assert 1 == found["pipeline_duration_seconds_count", "failure", "order reads"]
    assert 1 == found["rejections_total", "order reads", "circuit_open"]
    assert {"db:orders"} == {key[1] for key in found if key[0] == "circuit_breaker_state"}
    assert 1 == found["circuit_breaker_transitions_total", "closed", "db:orders", "open"]


def test_strangers_are_looked_up_seldom(clock, monkeypatch):
    """
    What is not in the registry does not have it searched for each event; and the memory of strangers is bounded.
    """
    looks = []
    registered = Registry()
    monkeypatch.setattr(Registry, "entries", lambda self, **_: looks.append(1) or ())
    among = Among(registered)
    with follow(clock):
        for n in range(1500):
            event = CallFinished(
                policy="p", pipeline=f"{n % 900}", at=0.0, outcome="success", attempts=1, elapsed=0.1, error=None,
            )  # fmt: skip
            assert not among(event)
        assert not among(event)
        assert 900 == len(looks)
        clock.advance(1)
        assert not among(event)
        assert 901 == len(looks)
        for n in range(200):
            among(attrs.evolve(event, pipeline=f"more {n}"))
        assert len(among._strangers) <= 1000


async def test_other_policies_are_measured_by_name(backend, unit):
    """
    Places, tokens and budgets of the policies given, and of those that a registry has; each name once.
    """
    registered, metrics = Registry(), CollectorRegistry()
    places = registered.policy(Bulkhead, "db", limit=5)
    registered.policy(RateLimit, "api", rate=10)
    budget = RetryBudget(name="shared")
    throttle = Throttle(name="soft")

    async def look():
        return read(metrics)

    with install(metrics, breakers=registered, others=[budget, throttle, places]):
        found = await places(look)
    assert (5, 1, 0) == tuple(
        found[f"bulkhead_{key}", "db"] for key in ("limit", "in_flight", "waiting")
    )
    assert found["rate_limit_available", "api"] >= 1
    assert 0 == found["throttle_probability", "soft"]
    assert found["retry_budget_available", "shared"] > 0
    assert 0 == found["retry_budget_asleep", "shared"]


def test_they_are_bounded_too():
    """
    Law 36: beyond the limit the next names are left out.
    """
    metrics = CollectorRegistry()
    with install(metrics, others=[Bulkhead(1, name=f"b{n}") for n in range(5)], limit=2):
        found = read(metrics)
    assert {"b0", "b1"} == {key[1] for key in found if key[0] == "bulkhead_limit"}


@pytest.mark.parametrize("other", [Bulkhead(1), Timeout(2), "db", None])
def test_what_cannot_be_measured_is_refused(other):
    """
    A policy without a name has no series, and a value has no state.
    """
    with pytest.raises(ConfigurationError, match=r"others\[0\] must be a named Bulkhead"):
        PrometheusListener(others=[other])
    if other is None or isinstance(other, str):
        with pytest.raises(ConfigurationError, match=r"others\[0\] must be a named Bulkhead"):
            PrometheusListener(others=other)
