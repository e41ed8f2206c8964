"""
The old report's regression suite (14 tests), anew: each says something that could be false.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from functools import partial

import anyio
import attrs
import pytest

from resilience.compat import unified
from resilience.compat.unified import UnifiedCircuitBreaker, UnifiedCircuitConfig

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_basic_circuit_breaker_functionality(named):
    """
    Regression 1: a fresh breaker lets calls pass; a success and a failure are counted as such.
    """
    breaker = UnifiedCircuitBreaker(named)
    assert breaker.can_execute()
    assert (0, 0) == (breaker.metrics.failed_calls, breaker.metrics.successful_calls)
    breaker.record_success()
    assert (1, 0) == (breaker.metrics.successful_calls, breaker.metrics.consecutive_failures)
    breaker.record_failure()
    assert (1, 1) == (breaker.metrics.failed_calls, breaker.metrics.consecutive_failures)
    status = breaker.get_status()
    assert {"state", "status", "name", "is_healthy", "can_execute", "metrics", "domain"} <= {
        *status
    }
    assert {
        "failure_count", "success_count", "total_calls", "failure_threshold", "success_rate", "error_rate",
        "last_failure_time", "last_success_time", "opened_at", "time_since_opened", "recovery_timeout",
    } <= {*status["metrics"]}  # fmt: skip


def test_state_transitions(named, clock):
    """
    Regression 2: the fifth failure opens, a sixth is refused; a success that nobody was allowed does not close it.
    """
    breaker = UnifiedCircuitBreaker(named, clock=clock)
    states = []
    for _ in range(6):
        states.append((breaker.state.value, breaker.can_execute()))
        breaker.record_failure()
    assert [("closed", True)] * 5 + [("open", False)] == states
    breaker.record_success()
    assert breaker.is_open
    assert 7 == breaker.total_calls


def test_legacy_import_patterns():
    """
    Regression 3, 6: the seven old imports are there, and aliases are the same objects.
    """
    from resilience.compat.unified import (  # noqa: PLC0415 - the imports are the test
        CircuitBreaker,
        CircuitBreakerOpenError,
        CircuitBreakerRegistry,
        CircuitState,
        circuit_breaker,
        circuit_registry,
        get_circuit_breaker,
    )

    assert CircuitBreaker is UnifiedCircuitBreaker
    assert circuit_registry is unified.get_unified_circuit_breaker_manager()
    assert isinstance(circuit_registry, CircuitBreakerRegistry)
    assert circuit_breaker is unified.unified_circuit_breaker
    assert CircuitState.OPEN is unified.UnifiedCircuitBreakerState.OPEN
    assert issubclass(CircuitBreakerOpenError, Exception)
    assert callable(get_circuit_breaker)
    assert all(hasattr(unified, name) for name in unified.__all__)


def test_circuit_breaker_decorator(named):
    """
    Regression 4: a function runs as often as it is called, its error passes by identity, and all three are counted.
    """
    error, runs = ValueError("third"), []

    @unified.circuit_breaker(named)
    def function(number: int) -> int:
        runs.append(number)
        if number == 3:
            raise error
        return number

    assert [1, 2] == [function(1), function(2)]
    with pytest.raises(ValueError, match="third") as caught:
        function(3)
    assert error is caught.value
    assert [1, 2, 3] == runs
    metrics = unified.get_circuit_breaker(named).metrics
    assert (2, 1) == (metrics.successful_calls, metrics.failed_calls)


async def test_async_circuit_breaker_decorator(backend, named):
    """
    Regression 5: the same for a coroutine function; opened, it is not called any more.
    """
    error, runs = RuntimeError("third"), []

    @unified.circuit_breaker(named, UnifiedCircuitConfig(failure_threshold=1))
    async def function(number: int) -> int:
        runs.append(number)
        await anyio.lowlevel.checkpoint()
        if number == 3:
            raise error
        return number

    assert [1, 2] == [await function(1), await function(2)]
    with pytest.raises(RuntimeError, match="third") as caught:
        await function(3)
    assert error is caught.value
    with pytest.raises(unified.CircuitBreakerOpenError):
        await function(4)
    assert [1, 2, 3] == runs


def test_config_conversion(named):
    """
    Regression 7: settings of any class are carried over, all of those that are known.
    """

    @attrs.define
    class Foreign:
        failure_threshold: int = 8
        recovery_timeout: float = 90.0
        timeout_seconds: float = 25.0
        slow_call_threshold: float = 2.0
        colour: str = "red"

    config = unified.get_circuit_breaker(named, Foreign()).config
    assert (named, 8, 90.0, 25.0, 2.0) == (
        config.name,
        config.failure_threshold,
        config.recovery_timeout,
        config.timeout_seconds,
        config.slow_call_threshold,
    )


def test_resilience_framework_is_here(named):
    """
    Regression 8: nothing has to be degraded to: a breaker has a policy that goes into any pipeline.
    """
    from resilience import Pipeline, Timeout  # noqa: PLC0415 - the new world

    breaker = unified.get_circuit_breaker(named)
    guarded = Pipeline(Timeout(10), breaker.policy, Timeout(2))
    assert breaker.policy in guarded.policies


def test_creation_performance(named):
    """
    Regression 9: 100 breakers in less than a second, all of which let calls pass.
    """
    began = time.perf_counter()
    breakers = [UnifiedCircuitBreaker(f"{named}-{number}") for number in range(100)]
    assert time.perf_counter() - began < 1.0
    assert all(each.can_execute() for each in breakers)


def test_operation_performance(named):
    """
    Regression 10: 1,000 alternating records in less than half a second, counted exactly.
    """
    breaker = UnifiedCircuitBreaker(named)
    began = time.perf_counter()
    for _ in range(500):
        breaker.record_success()
        breaker.record_failure()
    assert time.perf_counter() - began < 0.5
    assert (500, 500) == (breaker.metrics.successful_calls, breaker.metrics.failed_calls)


def test_concurrent_access(named):
    """
    Regression 11, acceptance: 10 threads x 50 records on one breaker count exactly 500, with a consistent status.
    """
    breaker = UnifiedCircuitBreaker(named)
    start, errors = threading.Barrier(10), []

    def work() -> None:
        try:
            start.wait()
            for number in range(50):
                if number % 10 == 0:
                    breaker.can_execute()
                    assert isinstance(breaker.get_status(), dict)
                breaker.record_failure() if number % 2 else breaker.record_success()
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work) for _ in range(10)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [] == errors
    metrics = breaker.metrics
    assert (500, 250, 250) == (
        metrics.total_calls,
        metrics.successful_calls,
        metrics.failed_calls,
    )


async def test_ten_thousand_tasks_count_exactly(backend, named):
    """
    Acceptance: 10,000 tasks, a third of them by each way in, count exactly 10,000.
    """
    breaker = UnifiedCircuitBreaker(UnifiedCircuitConfig(name=named, failure_threshold=10**6))

    async def work(number: int) -> None:
        async def operation() -> None:
            await anyio.lowlevel.checkpoint()
            if number % 2:
                raise OSError

        match number % 3:
            case 0:
                with contextlib.suppress(OSError):
                    await breaker.call(operation)
            case 1:
                assert breaker.can_execute()
                await anyio.lowlevel.checkpoint()
                breaker.record_failure() if number % 2 else breaker.record_success()
            case _:
                with contextlib.suppress(OSError):
                    async with breaker:
                        await operation()

    async with anyio.create_task_group() as group:
        for number in range(10_000):
            group.start_soon(partial(work, number))
    metrics = breaker.metrics
    assert (10_000, 5000, 5000) == (
        metrics.total_calls,
        metrics.successful_calls,
        metrics.failed_calls,
    )


def test_none_config(named):
    """
    Regression 12: None is the defaults.
    """
    config = UnifiedCircuitBreaker(None).config
    assert UnifiedCircuitConfig() == config
    assert (5, 2, 60.0, 30.0) == (
        config.failure_threshold,
        config.success_threshold,
        config.recovery_timeout,
        config.timeout_seconds,
    )
    assert UnifiedCircuitConfig(name=named) == unified.get_circuit_breaker(named).config


def test_duplicate_name(named):
    """
    Regression 13: the same name is the same object with its state; other settings are an error that shows both.
    """
    first = unified.get_circuit_breaker(named)
    first.record_failure()
    assert first is unified.get_circuit_breaker(named)
    assert first is unified.get_circuit_breaker(named, UnifiedCircuitConfig())
    assert 1 == unified.get_circuit_breaker(named).metrics.failed_calls
    with pytest.raises(
        ValueError,
        match=r"has: UnifiedCircuitConfig.*, got .*failure_threshold=9",
    ):
        unified.get_circuit_breaker(named, UnifiedCircuitConfig(failure_threshold=9))


def test_error_message(named, clock):
    """
    Regression 14: the error a refused caller gets, not one made for the test.
    """
    breaker = UnifiedCircuitBreaker(named, clock=clock)
    for _ in range(6):
        breaker.record_failure("ConnectionError")
    with pytest.raises(unified.CircuitBreakerOpenError) as caught:
        asyncio.run(breaker.call(lambda: None))
    assert f"circuit {named!r} is OPEN; retry in 60 s; last failure: ConnectionError" == str(
        caught.value
    )
