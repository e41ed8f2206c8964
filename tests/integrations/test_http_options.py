"""Bad settings of an HTTP client's guard: one clear error each; and the numbers that stand for what nobody set."""

from __future__ import annotations

import itertools
import math

import attrs
import httpx
import pytest

from resilience import (
    CircuitOpenError,
    CircuitState,
    ConfigurationError,
    LastGood,
    Pipeline,
    SingleFlight,
    Timeout,
)
from resilience.config import load
from resilience.integrations._http.guard import FIELDS_OF_ADAPTERS
from resilience.integrations.httpx import GuardedTransport, HttpOptions
from resilience.registry import Registry
from resilience.testing import Script
from resilience.validation import Allowed

PAIRS = [
    pytest.param(field.name, value, field.validator.text, id=f"{field.name}-{rule}")
    for field in attrs.fields(HttpOptions)
    for rule, value in field.validator.breaches.items()
]
SETTINGS = [
    pytest.param(name, value, allowed.text, id=f"{name}-{rule}")
    for name, allowed in FIELDS_OF_ADAPTERS.items()
    for rule, value in allowed.breaches.items()
    if not (name == "options" and value is None)  # left out: the default
]


@pytest.mark.parametrize(("field", "value", "allowed"), PAIRS)
def test_a_broken_rule_is_one_clear_error(field, value, allowed):
    """Law 21, issue 4: the field's path and what is allowed."""
    with pytest.raises(ConfigurationError) as caught:
        HttpOptions(**{field: value})

    assert (f"HttpOptions.{field}", allowed) == (caught.value.field, caught.value.allowed)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(("field", "value", "allowed"), SETTINGS)
def test_so_is_a_broken_rule_of_the_transport(field, value, allowed):
    """Law 21: as above, for what is no option."""
    given = [value] if field == "listeners" else value
    with pytest.raises(ConfigurationError) as caught:
        GuardedTransport(httpx.MockTransport(lambda _: httpx.Response(200)), **{field: given})

    place = "[0]" if field == "listeners" else ""
    assert (f"GuardedTransport.{field}{place}", allowed) == (
        caught.value.field,
        caught.value.allowed,
    )


def test_every_field_has_rules():
    """Instrument: a field that is added comes with a validator, and that with values that break it."""
    for field in attrs.fields(HttpOptions):
        assert isinstance(field.validator, Allowed)
        assert len(field.validator.breaches) >= 2
    assert len(PAIRS) >= 75


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"attempt_timeout": 30}, "attempt_timeout"),
        ({"attempt_timeout": 5, "total_timeout": 4}, "attempt_timeout"),
        ({"window": 19}, "window"),
        ({"attempt_timeout": 20}, "window"),
    ],
)
def test_settings_that_contradict_each_other(settings, field):
    """CP-007: what Microsoft's validator refuses at start-up."""
    with pytest.raises(ConfigurationError) as caught:
        HttpOptions(**settings)

    assert f"HttpOptions.{field}" == caught.value.field


@pytest.mark.parametrize(
    "settings",
    [
        {"total_timeout": None},
        {"attempt_timeout": None, "window": 1},
        {"limit": None},
        {"retry_statuses": [503]},
        {"failure_statuses": ()},
        {"methods": ()},
        {"backoff": 0},
        {"attempts": 1},
    ],
)
def test_what_may_be_left_out(settings):
    """None is no limit; an iterable will do for a set."""
    assert HttpOptions(**settings) != HttpOptions()


def test_the_numbers_are_microsofts():
    """Issue 4: ``AddStandardResilienceHandler``; its three retries are four attempts."""
    options = HttpOptions()

    assert (1000, 30.0, 4, 2.0) == (
        options.limit,
        options.total_timeout,
        options.attempts,
        options.backoff,
    )
    assert (0.1, 100, 30.0, 5.0) == (
        options.failure_ratio,
        options.minimum_calls,
        options.window,
        options.break_duration,
    )
    assert 10.0 == options.attempt_timeout
    assert {408, 429, *range(500, 600)} == options.retry_statuses == options.failure_statuses
    assert 0.5 == options.replace(failure_ratio=0.5).failure_ratio


def test_a_mode_of_a_client_is_no_mistake_of_the_configuration(monkeypatch):
    """Issue 4: one process may have both; a variable for nobody is a mistake as before."""
    monkeypatch.setenv("RESILIENCE_PARCELS_MODE", "observe")
    with pytest.raises(ConfigurationError, match="RESILIENCE_PARCELS_MODE"):
        load({})

    transport = GuardedTransport(name="parcels")

    assert ("parcels", 0) == (transport.hosts.name, len(load({}).pipelines))


async def _one(transport, url="http://one.example/"):
    async with httpx.AsyncClient(transport=transport) as client:
        return await client.get(url)


async def test_two_clients_of_one_registry_share_their_circuits(backend):
    """What one has learned the other knows: same registry, name and settings."""
    registry, name = Registry(), f"shared {backend}"
    down = httpx.MockTransport(lambda _: httpx.Response(500))
    options = HttpOptions(attempts=1, minimum_calls=1)
    await _one(GuardedTransport(down, options=options, name=name, registry=registry))
    other = GuardedTransport(down, options=options, name=name, registry=registry)

    assert [f"{name}[one.example]"] == [each.name for each in registry.breakers()]
    assert [CircuitState.OPEN] == [each.state for each in other.breakers]
    with pytest.raises(ConfigurationError, match=r"failure_ratio=0\.5"):
        GuardedTransport(
            down, options=options.replace(failure_ratio=0.5), name=name, registry=registry
        )


async def test_a_function_that_makes_no_pipeline(backend):
    """Found at the first request to a host, and named."""
    transport = GuardedTransport(pipeline=lambda _: Timeout(1))

    with pytest.raises(ConfigurationError) as caught:
        await _one(transport)

    assert "GuardedTransport.pipeline" == caught.value.field


@pytest.mark.parametrize("keeper", [SingleFlight(), LastGood(ttl=60)], ids=["flight", "good"])
async def test_a_response_belongs_to_one_caller(backend, keeper):
    """Its body can be read once: what gives one answer to several is refused."""
    transport = GuardedTransport(pipeline=lambda _: Pipeline(keeper, Timeout(9)))

    with pytest.raises(ConfigurationError, match="one response to several callers") as caught:
        await _one(transport)

    assert "GuardedTransport.pipeline" == caught.value.field


async def test_a_hosts_pipeline_guards_other_calls_too(backend):
    """`hosts` gives the pipeline, and what is called through it is no request: nothing is asked about repeating it."""
    down = httpx.MockTransport(lambda _: httpx.Response(500))
    options = HttpOptions(attempts=2, minimum_calls=1, backoff=0)
    transport = GuardedTransport(down, options=options, name=f"by hand {backend}")

    with pytest.raises(OSError, match="first"):
        await transport.hosts["two.example"](Script(OSError("first"), 7))
    with pytest.raises(CircuitOpenError):
        await _one(transport, "http://two.example/")


async def test_one_listener_is_one(backend):
    """A listener that can be iterated over, or stands alone, is a listener all the same."""
    heard = []
    inner = httpx.MockTransport(lambda _: httpx.Response(200))
    await _one(GuardedTransport(inner, listeners=heard.append, pipeline=lambda _: Pipeline()))

    assert ["CallFinished"] == [
        type(each).__name__ for each in heard if type(each).__name__ == "CallFinished"
    ]


def test_a_limit_is_a_bulkheads():
    """Issue 4: a thousand at once, and nobody waits."""
    transport = GuardedTransport(options=HttpOptions(limit=7), name=f"limit {next(_names)}")

    assert "Bulkhead(7, name='" in repr(transport.hosts["a"])
    bare = HttpOptions(
        limit=None, total_timeout=None, attempts=1, attempt_timeout=None, window=math.pi
    )
    (only, *others) = GuardedTransport(options=bare).hosts["b"].policies
    assert "CircuitBreaker" == type(only).__name__
    assert ["Repeat"] == [type(each).__name__ for each in others]


_names = itertools.count(1)
