"""
Domains: a thin layer over the registry, with defaults that recover.
"""

from __future__ import annotations

from typing import Any

import anyio
import attrs
import pytest

from resilience import CircuitState, ConfigurationError, ConsecutiveFailures
from resilience.config import preset
from resilience.domains import Domain, DomainCircuitBreakerManager, default_manager
from resilience.registry import Registry, default_registry

NAMES = [
    "database", "external_api", "llm", "cache", "file_system", "network", "auth", "agent", "websocket",
]  # fmt: skip


@pytest.fixture
def manager() -> DomainCircuitBreakerManager:
    return DomainCircuitBreakerManager(Registry())


def test_the_nine_domains(manager):
    """
    Issue 6.1: database, external_api, llm, cache, file_system, network, auth, agent, websocket.
    """
    assert NAMES == [each.name for each in manager]
    assert "<DomainCircuitBreakerManager of 9 domains>" == repr(manager)


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_are_those_of_the_one_table(manager, name):
    """
    Issue 6.1: over the preset table.
    """
    breaker, numbers = manager.get_circuit_breaker(name, "x"), preset("domain", name)
    assert (
        ConsecutiveFailures(numbers["trip"]["n"]),
        float(numbers["break_duration"]),
        numbers["probes"],
        numbers["successes_to_close"],
    ) == (breaker.trip, breaker.break_duration, breaker.probes, breaker.successes_to_close)
    assert f"{name}:x" == breaker.name


@pytest.mark.parametrize("name", NAMES)
def test_each_default_can_recover(name, clock):
    """
    Issue 6.1, section 1.4: the old default for language models stayed half-open for ever.
    """
    manager = DomainCircuitBreakerManager(Registry())
    breaker = manager.get_circuit_breaker(name, "x", clock=clock)
    for _ in range(breaker.trip.n):
        breaker.admit().failure()
    assert CircuitState.OPEN is breaker.state
    clock.advance(breaker.break_duration)
    for _ in range(breaker.successes_to_close):
        breaker.admit().success()
    assert CircuitState.CLOSED is breaker.state


@pytest.mark.parametrize(
    ("domain", "failures", "answers"),
    [
        (Domain.DATABASE, [ConnectionError, TimeoutError, OSError], [ValueError]),
        (Domain.FILE_SYSTEM, [OSError], [FileNotFoundError, PermissionError, ValueError]),
        (Domain.AUTH, [ConnectionError], [PermissionError, ValueError]),
        (Domain.AGENT, [RuntimeError], [ValueError, TypeError]),
    ],
    ids=lambda value: value.name if isinstance(value, Domain) else "",
)
def test_what_counts_as_a_failure(manager, domain, failures, answers):
    """
    Law 5: a bad token or a missing file is an answer, and opens nothing.
    """
    breaker = manager.get_circuit_breaker(domain, "x")
    for error in answers * 100:
        with pytest.raises(error), breaker.admit():
            raise error
    assert (0, CircuitState.CLOSED) == (breaker.snapshot().failures, breaker.state)
    for error in failures:
        before = breaker.snapshot().totals.failures
        with pytest.raises(error), breaker.admit():
            raise error
        assert before + 1 == breaker.snapshot().totals.failures
        breaker.reset()


def test_the_same_name_is_the_same_breaker(manager):
    """
    Issue 6.1: get-or-create; other options are an error that shows both.
    """
    made = manager.get_circuit_breaker(Domain.CACHE, "sessions", break_duration=7)
    assert made is manager.get_circuit_breaker("cache", "sessions")
    assert made is manager.get_circuit_breaker(Domain.CACHE, "sessions", break_duration=7)
    assert made is not manager.get_circuit_breaker(Domain.NETWORK, "sessions")
    with pytest.raises(ConfigurationError, match="break_duration"):
        manager.get_circuit_breaker(Domain.CACHE, "sessions", break_duration=8)


def test_domains_of_ones_own(manager):
    """
    Issue 6.1: users add theirs; a name stands for one set of numbers.
    """
    payments = Domain("payments", on=OSError, failures=2, break_duration=120)
    breaker = manager.get_circuit_breaker(payments, "charge")
    assert (ConsecutiveFailures(2), 120.0) == (breaker.trip, breaker.break_duration)
    assert breaker is manager.get_circuit_breaker("payments", "charge")
    assert payments in {*manager}
    manager.add(payments)
    with pytest.raises(ConfigurationError, match="failures=2"):
        manager.add(Domain("payments", on=OSError))
    assert payments in {*DomainCircuitBreakerManager(Registry(), domains=(payments,))}


@pytest.mark.parametrize("wrong", ["data-base", "", None, 5])
def test_a_domain_that_is_none(manager, wrong):
    """
    Bad input: one error that names those there are.
    """
    with pytest.raises(ConfigurationError, match=r"one of database, external_api"):
        manager.get_circuit_breaker(wrong, "x")
    with pytest.raises(ConfigurationError, match="a Domain"):
        manager.add("database")  # type: ignore[arg-type]


def _breaches() -> list[Any]:
    return [
        pytest.param(field.name, value, id=f"{field.name}-{rule}")
        for field in attrs.fields(Domain)
        for rule, value in field.validator.breaches.items()
    ]


@pytest.mark.parametrize(("field", "value"), _breaches())
def test_each_rule_of_each_field(field, value):
    """
    Bad input: the field's path, what it got, what is allowed.
    """
    with pytest.raises(ConfigurationError) as caught:
        Domain(**({"name": "x"} | {field: value}))
    assert f"Domain.{field}" == caught.value.field


async def test_status_and_reset(backend, manager):
    """
    Issue 6.1: status per domain and in all; reset of one, of a domain, of all; removal.
    """
    for name in ("a", "b"):
        manager.get_circuit_breaker(Domain.DATABASE, name)
    manager.get_circuit_breaker(Domain.LLM, "a")
    for _ in range(3):
        manager.get_circuit_breaker("database", "a").admit().failure()
    for _ in range(2):
        manager.get_circuit_breaker("llm", "a").admit().failure()

    status = manager.get_domain_status("database")
    assert ("database", 2, 1, 1, 50.0) == (
        status.domain,
        status.summary.total,
        status.summary.open,
        status.summary.closed,
        status.summary.health,
    )
    assert {"a": "OPEN", "b": "CLOSED"} == {
        name: each.state.name for name, each in status.breakers.items()
    }
    every = manager.get_all_status()
    assert (None, 3, 2) == (every.domain, every.summary.total, every.summary.open)
    assert ["database:a", "database:b", "llm:a"] == sorted(every.breakers)

    assert (True, False) == (
        manager.reset_circuit_breaker("database", "a"),
        manager.reset_circuit_breaker("database", "nobody"),
    )
    assert 0 == manager.get_domain_status("database").summary.open
    assert 1 == manager.reset_all_domain_breakers("llm")
    assert 3 == manager.reset_all()
    assert await manager.remove("llm", "a")
    assert 0 == manager.get_domain_status("llm").summary.total
    with pytest.raises(KeyError):
        await manager.remove("llm", "a")
    await anyio.lowlevel.checkpoint()


def test_the_manager_of_the_process():
    """
    One, over the registry that the operations page shows.
    """
    assert default_manager() is default_manager()
    assert default_registry() is default_manager().registry
