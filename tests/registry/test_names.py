"""
Issue 4.1: one object for one name, and an error that shows both configurations where they differ.
"""

from __future__ import annotations

import copy
import itertools
import pickle
import threading
from contextlib import asynccontextmanager

import pytest
from tenacity import retry_if_exception_type, wait_exponential, wait_fixed

from resilience import (
    CircuitBreaker,
    CircuitState,
    ConfigurationError,
    ConsecutiveFailures,
    Pipeline,
    Retry,
    Timeout,
)
from resilience.events import CallFinished, listen
from resilience.registry import Registry, default_registry
from resilience.registry.registry import FIELDS
from resilience.testing import Recorder, Script
from tests.laws.breaker.kit import open_up

_numbers = itertools.count(1)


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"named-{next(_numbers)}"


@pytest.fixture
def registry() -> Registry:
    return Registry()


def test_the_same_name_is_the_same_object(registry, name):
    """
    Issue 4.1, defect U8 of a system where it was not: asked for again, with or without its options, it is the same.
    """
    made = registry.breaker(name, on=OSError, probes=2)

    assert made is registry.breaker(name, on=OSError, probes=2)
    assert made is registry.breaker(name)
    assert made is registry.get(name)
    assert name == made.name
    assert name in registry
    assert [(None, name)] == list(registry)
    assert 1 == len(registry)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"on": OSError}, {"on": (OSError,)}),
        ({"on": (OSError, ValueError)}, {"on": (ValueError, OSError)}),
        ({"on": OSError, "break_duration": 30}, {"on": OSError}),
        ({"on": OSError, "trip": ConsecutiveFailures(5)}, {"on": OSError, "trip": ConsecutiveFailures()}),
        (
            {"on": OSError, "break_duration": wait_exponential(max=9)},
            {"on": OSError, "break_duration": wait_exponential(max=9)},
        ),
        (
            {"on": OSError, "break_duration": wait_fixed(1) + wait_fixed(2)},
            {"on": OSError, "break_duration": wait_fixed(1) + wait_fixed(2)},
        ),
    ],
    ids=["one class", "order", "default", "default trip", "tenacity", "tenacity joined"],
)  # fmt: skip
def test_the_same_configuration_in_another_spelling(registry, name, first, second):
    """
    What means the same is the same: classes as a set, defaults left out, tenacity's objects by what they hold.
    """
    assert registry.breaker(name, **first) is registry.breaker(name, **second)


@pytest.mark.parametrize(
    "other",
    [
        {"on": ValueError},
        {"on": OSError, "probes": 3},
        {"on": OSError, "break_duration": wait_fixed(2)},
        {"on": retry_if_exception_type(OSError)},
        {"on": lambda error: True},
        {"probes": 3},
    ],
    ids=["on", "probes", "break", "strategy", "predicate", "without on"],
)
def test_another_configuration_is_an_error_that_shows_both(registry, name, other):
    """
    Issue 4.1: neither wins in silence.
    """
    registry.breaker(name, on=OSError, probes=2)

    with pytest.raises(ConfigurationError) as caught:
        registry.breaker(name, **other)

    assert f"Registry[{name!r}]" == caught.value.field
    assert f"CircuitBreaker({name!r}, on=OSError, probes=2)" in caught.value.allowed
    assert caught.value.got.startswith(f"CircuitBreaker({name!r}, ")
    assert caught.value.got not in caught.value.allowed


def test_a_name_in_two_domains_is_two_objects(registry, name):
    """
    Issue 4.1: the key is (domain, name); the breaker's own name tells them apart in logs.
    """
    one = registry.breaker(name, domain="database", on=OSError)
    other = registry.breaker(name, domain="cache", on=OSError)
    bare = registry.breaker(name, on=ValueError)

    assert [f"database:{name}", f"cache:{name}", name] == [each.name for each in (one, other, bare)]
    assert one is registry.get(name, domain="database")
    assert ("cache", name) in registry
    assert ("other", name) not in registry
    assert ("cache", "database") == registry.domains()
    assert (one,) == registry.breakers(domain="database")


def test_what_is_not_there(registry, name):
    """
    RG-002: a KeyError where one looks up, a ConfigurationError that says what is missing where one makes.
    """
    with pytest.raises(KeyError, match=name):
        registry.get(name)
    with pytest.raises(KeyError, match="domain"):
        registry.get(name, domain="domain")
    with pytest.raises(ConfigurationError, match=r"no such name.*needs on="):
        registry.breaker(name)
    with pytest.raises(ConfigurationError, match="no policies"):
        registry.pipeline(name)
    with pytest.raises(KeyError):
        registry.find(name)
    assert name not in registry


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(field, value, id=f"{field}-{rule}")
        for field, allowed in FIELDS.items()
        for rule, value in allowed.breaches.items()
    ],
)
def test_bad_addresses_are_clear_errors(registry, field, value):
    """
    Issue 2 and law 21, for the registry's own arguments.
    """
    given = {"name": "x", "max_keys": 5} | {field: value}
    with pytest.raises(ConfigurationError) as caught:
        registry.family(given.pop("name"), on=OSError, **given)

    assert field in caught.value.field
    assert FIELDS[field].text == caught.value.allowed


def test_an_option_that_is_wrong_is_refused_as_ever(registry, name):
    """
    The breaker's own error; nothing is registered then, and the next one who asks may do better.
    """
    with pytest.raises(ConfigurationError, match=r"CircuitBreaker\.probes"):
        registry.breaker(name, on=OSError, probes=0)
    with pytest.raises(ConfigurationError, match="no option 'tries'"):
        registry.breaker(name, on=OSError, tries=3)

    assert name not in registry
    assert name == registry.breaker(name, on=OSError).name


def test_a_pipeline_by_name(registry, name):
    """
    The same policies are the same pipeline; others are an error that shows both.
    """
    gate = registry.breaker(name, on=OSError)
    live = registry.pipeline("of " + name, Timeout(10), gate, Timeout(2))

    assert live is registry.pipeline("of " + name, Timeout(10), gate, Timeout(2))
    assert live is registry.pipeline("of " + name, Pipeline(Timeout(10)), gate, Timeout(2))
    assert live is registry.pipeline("of " + name)
    assert (Timeout(10), gate, Timeout(2)) == live.policies
    assert "of " + name == live.name
    with pytest.raises(ConfigurationError) as caught:
        registry.pipeline("of " + name, Timeout(11), gate, Timeout(2))
    assert "Timeout(11.0)" in caught.value.got
    assert "Timeout(10.0)" in caught.value.allowed
    with pytest.raises(ConfigurationError):
        registry.pipeline("of " + name, Timeout(10), gate, Timeout(2), enabled=False)
    with pytest.raises(ConfigurationError):
        registry.pipeline("of " + name, Retry(on=OSError), gate, Timeout(2))


def test_equal_policies_are_the_same_and_breakers_are_not(registry, name):
    """
    A policy without state is a value, also with tenacity's objects in it; a breaker is equal to itself alone.
    """

    def retry() -> Retry:
        return Retry(3, on=(OSError, ValueError), wait=wait_fixed(1))

    assert registry.pipeline(name, retry(), Timeout(1)) is registry.pipeline(
        name, retry(), Timeout(1)
    )
    with pytest.raises(ConfigurationError):
        registry.pipeline(name, Retry(3, on=(OSError, ValueError), wait=wait_fixed(2)), Timeout(1))
    one, other = (CircuitBreaker(f"{name} {each}", on=OSError) for each in (1, 2))
    registry.pipeline(name + "b", one, Timeout(1))
    with pytest.raises(ConfigurationError):
        registry.pipeline(name + "b", other, Timeout(1))


def test_a_pipeline_and_its_breaker_may_have_one_name(registry, name):
    """
    RG-002: the same name for another kind of thing is another thing.
    """
    gate = registry.breaker(name, on=OSError)
    live = registry.pipeline(name, gate, Timeout(1))

    assert gate is registry.breaker(name)
    assert live is registry.pipeline(name)
    assert gate is registry.get(name)
    assert (gate, live) == (
        registry.find(name).guard, registry.find(name, kind="pipeline").guard,
    )  # fmt: skip
    assert [(None, name)] == list(registry)
    assert 2 == len(registry)
    open_up(gate)
    assert 1 == registry.reset(name)
    assert (live,) == registry.forget(name, only="pipeline")
    assert gate is registry.get(name)


def test_a_policy_and_a_family_may_not(registry, name):
    """
    Nor two policies of different classes.
    """
    registry.breaker(name, on=OSError)
    registry.family("f" + name, on=OSError)

    with pytest.raises(ConfigurationError, match="as it is registered, CircuitBreaker"):
        registry.family(name, on=OSError)
    with pytest.raises(ConfigurationError, match="as it is registered, <Family"):
        registry.breaker("f" + name, on=OSError)
    with pytest.raises(ConfigurationError, match="max_keys=5"):
        registry.family("f" + name, on=OSError, max_keys=5)


def test_one_build_under_concurrency(registry, name):
    """
    RG-001: of many threads that ask at once, all get one object.
    """
    got: list[CircuitBreaker] = []
    gate = threading.Barrier(8)

    def ask() -> None:
        gate.wait(30)
        got.extend(registry.breaker(f"{name}-{number}", on=OSError) for number in range(50))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert 400 == len(got)
    assert 50 == len(set(map(id, got)))
    assert 50 == len(registry)


def test_one_registry_for_the_process():
    """
    Made once; others may be made beside it.
    """
    assert default_registry() is default_registry()
    assert Registry() is not default_registry()


async def test_a_live_pipeline_has_all_doors(backend, registry, name):
    """
    `wrap`, `outcome`, a place in another pipeline: it is a policy like any other, and says what it is.
    """
    live = registry.pipeline(name, Retry(3, on=OSError, wait=wait_fixed(0)), Timeout(5))
    script = Script(OSError, 42)

    assert 42 == await live.wrap(script)()
    assert 2 == script.calls
    outcome = await live.outcome(Script(OSError))
    assert (3, False) == (outcome.attempts, outcome.ok)
    outer = Pipeline(Timeout(60), live)
    assert 42 == await outer(Script(OSError, 42))
    assert live.explain().attempts == outer.explain().attempts == 3
    assert f"<LivePipeline {name!r} Pipeline(" in repr(live)
    assert "<Registry of 1>" == repr(registry)
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="belongs to its registry"):
            attempt(live)


async def test_other_doors_of_a_live_pipeline(backend, registry, name):
    """
    Connections and streams are guarded as by any pipeline, and who listens to the process hears of its calls.
    """
    live = registry.pipeline(name, Retry(2, on=OSError, wait=wait_fixed(0)), Timeout(50))
    tries = Script(OSError, 1)

    @asynccontextmanager
    async def connect():
        yield await tries()

    async def rows():
        yield 1
        yield 2

    async with live.opening(connect)() as connection:
        assert 1 == connection
    async with live.stream(rows)() as items:
        assert [1, 2] == [item async for item in items]
    recorder = Recorder(CallFinished)
    with listen(recorder):
        assert 5 == await live(Script(5))
    assert [name] == [event.pipeline for event in recorder]


async def test_what_is_inside_still_turns_a_retry_away(backend, registry, name):
    """
    Law 25: a retry around a live pipeline sees the open circuit in it, and does not sleep in front of it.
    """
    gate = CircuitBreaker(name, on=OSError, trip=ConsecutiveFailures(1), break_duration=1000)
    live = registry.pipeline("of " + name, gate, Timeout(50))
    script = Script(OSError)
    outer = Pipeline(Retry(5, on=OSError, wait=wait_fixed(1)), live)

    outcome = await outer.outcome(script)

    assert 1 == script.calls
    assert isinstance(outcome.error, OSError)
    assert CircuitState.OPEN is gate.state


def test_summary_and_snapshot(registry, name):
    """
    Issue 4.1: total, closed, open, half-open and health in per cent, of all, of a domain; entries with their address.
    """
    closed = registry.breaker(name, domain="database", on=OSError)
    broken = registry.breaker(name, domain="cache", on=OSError, trip=ConsecutiveFailures(1))
    inner = CircuitBreaker("inside " + name, on=OSError)
    registry.pipeline("of " + name, inner, Timeout(1), domain="cache")
    hosts = registry.family("hosts " + name, on=OSError)
    hosts["a"].isolate()
    open_up(broken)

    summary = registry.summary()
    assert (4, 2, 1, 0, 1) == (
        summary.total, summary.closed, summary.open, summary.half_open, summary.isolated,
    )  # fmt: skip
    assert 50.0 == summary.health
    assert (2, 1, 50.0) == (
        (cache := registry.summary(domain="cache")).total, cache.open, cache.health,
    )  # fmt: skip
    assert (0, 100.0) == ((none := registry.summary(domain="none")).total, none.health)

    snapshot = registry.snapshot()
    assert summary == snapshot.summary
    by_address = {entry.address: entry for entry in snapshot.entries}
    assert {
        f"database:{name}",
        f"cache:{name}",
        f"cache:of {name}",
        f"cache:inside {name}",
        f"hosts {name}[a]",
    } == set(by_address)
    assert "OPEN" == by_address[f"cache:{name}"].circuit.state.name
    assert f"cache:of {name}" == by_address[f"cache:inside {name}"].inside
    assert ("pipeline", 0, None) == (
        (pipeline := by_address[f"cache:of {name}"]).kind, pipeline.in_flight, pipeline.circuit,
    )  # fmt: skip
    assert closed is registry.find(f"database:{name}").guard
    assert hosts["a"] is registry.find(f"hosts {name}[a]").guard


def test_reset_one_a_domain_or_all(registry, name):
    """
    Issue 4.1: each says how many it closed.
    """

    def broken(domain: str) -> CircuitBreaker:
        return open_up(
            registry.breaker(name, domain=domain, on=OSError, trip=ConsecutiveFailures(1))
        )

    one, other = broken("database"), broken("cache")
    third = open_up(registry.family("f" + name, on=OSError, trip=ConsecutiveFailures(1))["k"])

    assert 1 == registry.reset(name, domain="database")
    assert (CircuitState.CLOSED, CircuitState.OPEN) == (one.state, other.state)
    assert 1 == registry.reset_all(domain="cache")
    assert CircuitState.CLOSED is other.state
    open_up(one)
    assert 3 == registry.reset_all()
    assert {CircuitState.CLOSED} == {each.state for each in registry.breakers()}
    open_up(third)
    assert 1 == registry.reset("f" + name)
    assert CircuitState.CLOSED is third.state
    with pytest.raises(KeyError):
        registry.reset("nobody")


def test_values_that_cannot_be_compared(registry, name):
    """
    Law 6: equality of the user's that raises is no equality.
    """

    class Awkward:
        def __call__(self, error: Exception) -> bool:
            return True

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("no")

        __hash__ = object.__hash__

    registry.breaker(name, on=Awkward())
    with pytest.raises(ConfigurationError, match="as it is registered"):
        registry.breaker(name, on=Awkward())


def test_pipelines_inside_are_compared_as_well(registry, name):
    """
    By their policies and their name.
    """

    def inner(seconds: float, inner_name: str = "inner") -> Pipeline:
        return Pipeline(Retry(3, on=OSError, wait=wait_fixed(seconds)), name=inner_name)

    live = registry.pipeline(name, Timeout(60), inner(1), domain="d")
    assert live is registry.pipeline(name, Timeout(60), inner(1), domain="d")
    assert "d" == live.domain
    for other in (inner(2), inner(1, "other")):
        with pytest.raises(ConfigurationError):
            registry.pipeline(name, Timeout(60), other, domain="d")


def test_breakers_inside_pipelines_inside_are_found(registry, name):
    """
    Issue 4.1: however deep they stand, each once.
    """
    gate = CircuitBreaker(name, on=OSError)
    live = registry.pipeline("inner " + name, gate, Timeout(1))
    registry.pipeline("outer " + name, Timeout(5), live)

    assert (gate,) == registry.breakers()
    assert 1 == registry.reset("outer " + name)


def test_an_empty_registry_is_one():
    """
    RG: ``registry or Registry()`` must not put another one in its place.
    """
    registry = Registry()
    assert 0 == len(registry)
    assert registry
