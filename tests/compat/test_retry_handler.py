"""
The old retry handler: what it promised, and no sleep past its deadline.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from typing import Any

import anyio
import attrs
import pytest

from resilience import ConfigurationError, TimeoutExceededError
from resilience.compat import unified
from resilience.compat.unified import RetryConfig, RetryStrategy, UnifiedRetryHandler
from resilience.testing import Script, Wait, instant

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def handler(**given: Any) -> UnifiedRetryHandler:
    return UnifiedRetryHandler("service", RetryConfig(**given), environ={})


async def test_it_says_what_came_of_it(backend, unit):
    """
    Section 1.5: the result with its attempts, each with the wait before it, its error and its time.
    """
    script = Script(OSError("one"), Wait(unit, then=KeyError("two")), "three")
    result = await handler(base_delay=unit, max_delay=60).execute_with_retry_async(script, 1, key=2)
    assert (True, "three", 3, None) == (
        result.success,
        result.result,
        result.total_attempts,
        result.final_exception,
    )
    assert [1, 2, 3] == [each.attempt_number for each in result.attempts]
    assert ["OSError", "KeyError", "NoneType"] == [
        type(each.exception).__name__ for each in result.attempts
    ]
    assert [((1,), {"key": 2})] * 3 == [(each.args, each.kwargs) for each in script.history]
    if backend != "uvloop":
        assert [0.0, unit, 2 * unit] == pytest.approx(
            [each.delay_before for each in result.attempts]
        )
        assert [0.0, unit, 0.0] == pytest.approx([each.elapsed_time for each in result.attempts])
        assert 4 * unit == pytest.approx(result.total_time)
    assert "three" == result.unwrap()
    assert result.attempts[0].timestamp <= result.attempts[1].timestamp


async def test_the_last_error_is_raised_itself(backend):
    """
    Law 23: as a decorator it raises the last error by identity; non-retryable wins over retryable.
    """
    errors = [OSError("one"), OSError("two"), OSError("three")]
    retried = handler(base_delay=0)(Script(*errors))
    with pytest.raises(OSError, match="three") as caught:
        await retried()
    assert errors[-1] is caught.value
    script = Script(ValueError)
    result = await handler(non_retryable_exceptions=(ValueError,)).execute_with_retry_async(script)
    assert (1, False) == (script.calls, result.success)
    with pytest.raises(ValueError, match="step"):
        result.unwrap()


async def test_a_deadline_cuts_attempts_and_waits(backend, unit):
    """
    Acceptance: an overall deadline of 0.15 s with 4 tries ends by about 0.15 s; it took 0.45 s, asleep.
    """
    began = anyio.current_time()
    script = Script(OSError, OSError, Wait(9 * unit), 4)
    result = await handler(
        max_attempts=4,
        base_delay=0.05 * unit,
        strategy=RetryStrategy.FIXED,
        timeout_seconds=0.15 * unit,
    ).execute_with_retry_async(script)
    took = anyio.current_time() - began
    assert not result.success
    # In the milliseconds of uvloop any of the attempts may be the one that the deadline falls on.
    if backend != "uvloop":
        assert isinstance(result.final_exception, TimeoutError)
        assert isinstance(result.attempts[-1].exception, TimeoutExceededError)
        assert 0.15 * unit == pytest.approx(took)
        assert 3 == script.calls


async def test_no_wait_is_begun_that_does_not_fit(backend, unit):
    """
    Law 24: it fails now, with the last error.
    """
    began = anyio.current_time()
    result = await handler(base_delay=10 * unit, timeout_seconds=5 * unit).execute_with_retry_async(
        Script(OSError)
    )
    assert isinstance(result.final_exception, OSError)
    assert not isinstance(result.final_exception, TimeoutError)
    assert 1 == result.total_attempts
    if backend != "uvloop":
        assert began == anyio.current_time()


async def test_its_breaker_is_asked_at_each_attempt(backend, named):
    """
    Acceptance: it stops when the breaker opens and does not retry an open circuit; there ten tries ran, opened at 2.
    """
    config = RetryConfig(
        max_attempts=10,
        base_delay=0,
        circuit_breaker_enabled=True,
        circuit_breaker_failure_threshold=2,
    )
    retrying, script = UnifiedRetryHandler(named, config, environ={}), Script(OSError)
    result = await retrying.execute_with_retry_async(script)
    assert (2, "OSError") == (script.calls, type(result.final_exception).__name__)
    again = await retrying.execute_with_retry_async(script)
    assert (2, 0) == (script.calls, again.total_attempts)
    assert isinstance(again.final_exception, unified.CircuitBreakerOpenError)
    status = retrying.get_circuit_breaker_status()
    assert ("open", 2) == (status["state"], status["metrics"]["failed_calls"])
    assert handler().get_circuit_breaker_status() is None


async def test_a_hang_opens_its_breaker(backend, named, unit):
    """
    Law 3: the total deadline that cuts a call off is a failure for the breaker inside.
    """
    config = RetryConfig(
        timeout_seconds=unit, circuit_breaker_enabled=True, circuit_breaker_failure_threshold=1
    )
    retrying = UnifiedRetryHandler(named, config, environ={})
    result = await retrying.execute_with_retry_async(anyio.sleep_forever)
    assert isinstance(result.final_exception, TimeoutExceededError)
    assert "open" == retrying.get_circuit_breaker_status()["state"]


async def test_a_deadline_of_the_callees_own_is_its_error(backend):
    """
    Law 29: it passes as it is, and the attempt has it.
    """
    error = TimeoutExceededError(1.0)
    result = await handler(max_attempts=1).execute_with_retry_async(Script(error))
    assert error is result.final_exception is result.attempts[-1].exception


async def test_a_cancellation_is_no_result(backend):
    """
    Law 2.
    """
    with anyio.CancelScope() as scope:
        scope.cancel()
        await handler().execute_with_retry_async(anyio.sleep_forever)
    assert scope.cancelled_caught


def test_without_a_loop():
    """
    Section 1.5: the same for functions that are not async, in this thread and context.
    """
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("seen")
    seen: list[Any] = []

    def function(number: int) -> int:
        seen.append((threading.get_ident(), variable.get()))
        if len(seen) < 3:
            raise OSError
        return number

    with instant():
        assert 5 == handler()(function)(5)
    assert [(threading.get_ident(), "seen")] * 3 == seen


async def test_without_a_loop_inside_of_one(backend):
    """
    It holds the loop up, as it did, and works on trio as well.
    """
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("seen")
    result = handler(base_delay=0).execute_with_retry(variable.get)
    assert (True, "seen") == (result.success, result.result)


def test_a_deadline_without_a_loop():
    """
    Law 24: an attempt that cannot be cut off is the last when the time is over.
    """
    calls = []

    def slow() -> None:
        calls.append(True)
        time.sleep(0.02)  # real: there is no loop whose time could be virtual
        raise OSError

    result = handler(timeout_seconds=0.01, base_delay=0).execute_with_retry(slow)
    assert 1 == len(calls)
    assert not result.success


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("fixed", [1, 1, 1, 1, 1]),
        ("custom", [1, 1, 1, 1, 1]),
        ("linear", [1, 2, 3, 4, 5]),
        ("exponential", [1, 2, 4, 8, 10]),
        ("adaptive", [1, 2, 4, 8, 10]),
        ("fibonacci", [1, 1, 2, 3, 5]),
    ],
)
def test_waits(strategy, expected):
    """
    Acceptance: waits equal the formula, capped.
    """
    config = RetryConfig(max_delay=10, strategy=RetryStrategy(strategy))
    assert expected == [config.delay(attempt) for attempt in range(1, 6)]
    assert 10 >= config.delay(10**6)


def test_jitter_comes_after_the_cap():
    """
    Section 1.5: capped waits lost their jitter.
    """
    config = RetryConfig(max_delay=10, strategy=RetryStrategy.EXPONENTIAL_JITTER, jitter_range=0.2)
    assert [8.0, 10.0, pytest.approx(12.0)] == [config.delay(9, lambda c=c: c) for c in (0, 0.5, 1)]


def test_the_environment_goes_before(named):
    """
    Section 1.5: it changed the shared policy object; here nobody else's.
    """
    environ = {
        "RETRY_MAX_ATTEMPTS": "7",
        "RETRY_BASE_DELAY": "0.25",
        "RETRY_MAX_DELAY": "9",
        "RETRY_BACKOFF_MULTIPLIER": "3",
        "RETRY_JITTER_RANGE": "0.05",
        "RETRY_TIMEOUT_SECONDS": "12",
        "RETRY_STRATEGY": "LINEAR",
        "RETRY_METRICS": "",
    }
    config = UnifiedRetryHandler(named, unified.API_RETRY_POLICY, environ=environ).config
    assert (7, 0.25, 9.0, 3.0, 0.05, 12.0, RetryStrategy.LINEAR) == (
        config.max_attempts,
        config.base_delay,
        config.max_delay,
        config.backoff_multiplier,
        config.jitter_range,
        config.timeout_seconds,
        config.strategy,
    )
    assert 3 == unified.API_RETRY_POLICY.max_attempts


@pytest.mark.parametrize(
    ("variable", "text", "allowed"),
    [
        ("RETRY_MAX_ATTEMPTS", "many", "a number"),
        ("RETRY_MAX_ATTEMPTS", "0", "a whole number >= 1"),
        ("RETRY_JITTER_RANGE", "2", "a share"),
        ("RETRY_STRATEGY", "random", "one of .*fibonacci"),
    ],
)
def test_a_variable_that_cannot_be(variable, text, allowed):
    """
    Bad input: the variable, what it has, what is allowed; it fell back in silence.
    """
    with pytest.raises(ConfigurationError, match=f"{variable} must be {allowed}.*{text}"):
        UnifiedRetryHandler(environ={variable: text})


def test_copies(named):
    """
    Section 1.5: with_timeout, with_max_attempts, with_circuit_breaker leave the original alone.
    """
    first = UnifiedRetryHandler(named, environ={"RETRY_MAX_ATTEMPTS": "9"})
    second = first.with_timeout(5).with_max_attempts(4).with_circuit_breaker(failure_threshold=2)
    assert (None, 9) == (first.config.timeout_seconds, first.config.max_attempts)
    assert (5.0, 4, True, 2) == (
        second.config.timeout_seconds,
        second.config.max_attempts,
        second.config.circuit_breaker_enabled,
        second.config.circuit_breaker_failure_threshold,
    )
    assert 6 == RetryConfig(**(vars(second.config) | {"max_attempts": 6})).max_attempts


@pytest.mark.parametrize(
    ("policy", "numbers"),
    [
        ("DATABASE", (5, 0.5, 30.0, "exponential_jitter", 60.0, True, 5, 60.0)),
        ("LLM", (4, 2.0, 120.0, "exponential_jitter", 300.0, True, 3, 180.0)),
        ("AGENT", (3, 1.0, 60.0, "exponential", 120.0, False, 5, 30.0)),
        ("API", (3, 1.0, 30.0, "exponential_jitter", 30.0, True, 3, 30.0)),
        ("WEBSOCKET", (2, 0.5, 5.0, "exponential", 10.0, False, 5, 30.0)),
        ("FILE", (3, 0.2, 2.0, "exponential", 30.0, False, 5, 30.0)),
    ],
)
def test_presets(policy, numbers):
    """
    Section 1.5: the six policies by their numbers.
    """
    config = getattr(unified, f"{policy}_RETRY_POLICY")
    assert numbers == (
        config.max_attempts,
        config.base_delay,
        config.max_delay,
        config.strategy.value,
        config.timeout_seconds,
        config.circuit_breaker_enabled,
        config.circuit_breaker_failure_threshold,
        config.circuit_breaker_recovery_timeout,
    )
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        config.max_attempts = 1
    assert not asyncio.run(_fails_at_once(config)).success


async def _fails_at_once(config: RetryConfig) -> unified.RetryResult:
    return await UnifiedRetryHandler(
        "preset", attrs.evolve(config, circuit_breaker_enabled=False), environ={}
    ).execute_with_retry_async(Script(ValueError))
