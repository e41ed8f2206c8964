"""
The old retry handler over this library's `Retry`: a result object, the attempts in it, presets by domain.

It slept past its deadline, looked at its breaker once and repeated what an open circuit had refused. Here the deadline
cuts attempts and waits, and the breaker is asked at each attempt.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import functools
import os
import threading
from asyncio.events import _get_running_loop as running_loop
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from resilience.call import Step, invoke
from resilience.clock import PROCESS_CLOCK, RNG
from resilience.compat._circuits import UnifiedCircuitBreaker
from resilience.compat._errors import CircuitBreakerOpenError
from resilience.compat._named import get_circuit_breaker
from resilience.compat._settings import Settings, UnifiedCircuitConfig
from resilience.doors import Guard, Policy, Success
from resilience.errors import CircuitOpenError, ConfigurationError, TimeoutExceededError
from resilience.events import Hub
from resilience.loaded import loaded
from resilience.policies.retry import Retry
from resilience.policies.timeout import Timeout
from resilience.strategies import is_asynchronous
from resilience.validation import (
    as_optional_seconds,
    as_seconds,
    count,
    duration,
    flag,
    instance,
    one_of,
    refuse,
)
from resilience.verdicts import is_types

__all__ = [
    "AGENT_RETRY_POLICY",
    "API_RETRY_POLICY",
    "DATABASE_RETRY_POLICY",
    "FILE_RETRY_POLICY",
    "LLM_RETRY_POLICY",
    "WEBSOCKET_RETRY_POLICY",
    "RetryAttempt",
    "RetryConfig",
    "RetryResult",
    "RetryStrategy",
    "UnifiedRetryHandler",
]


class RetryStrategy(enum.Enum):
    """How waits grow. ``adaptive`` is ``exponential``, ``custom`` is ``fixed``: so they were."""

    FIXED = "fixed"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"
    EXPONENTIAL_JITTER = "exponential_jitter"
    FIBONACCI = "fibonacci"
    ADAPTIVE = "adaptive"
    CUSTOM = "custom"


_TYPES = one_of(
    "a tuple of exception classes",
    lambda value: isinstance(value, tuple) and is_types(value),
    {"none": None, "class": OSError, "text": ("OSError",), "cancellation": (KeyboardInterrupt,)},
)
_FACTOR = one_of(
    "a number >= 1",
    lambda value: isinstance(value, int | float) and not isinstance(value, bool) and value >= 1,
    {"text": "2", "boolean": True, "below": 0.5, "not a number": float("nan")},
)
_SHARE = one_of(
    "a share in [0, 1)",
    lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1,
    {"text": "0.1", "boolean": True, "negative": -0.1, "above": 1.0, "not a number": float("nan")},
)


@attrs.frozen(kw_only=True, slots=False, repr=False)
class RetryConfig(Settings):
    """
    The settings of a `UnifiedRetryHandler`. A value: nobody else's handler sees a change.

    Args:
        max_attempts: Attempts, the first included. Default 3.
        base_delay: Seconds of the first wait. Default 1.
        max_delay: Seconds no wait exceeds, before jitter. Default 60.
        strategy: How waits grow. Default exponential.
        backoff_multiplier: By what they grow. Default 2.
        jitter_range: The share by which ``exponential_jitter`` moves a wait up or down. Default 0.1.
        timeout_seconds: Seconds for everything, attempts and waits. Default: no limit.
        retryable_exceptions: What is worth another attempt. Default `Exception`.
        non_retryable_exceptions: What is not; stronger. Default nothing.
        circuit_breaker_enabled: Ask a breaker at each attempt. Default False.
        circuit_breaker_failure_threshold, circuit_breaker_recovery_timeout: Its settings. Default 5 and 30 s.
        metrics_enabled: Events and logs tell of the retries; they are there whatever this says. Default True.
    """

    max_attempts: int = attrs.field(default=3, validator=count())
    base_delay: float = attrs.field(
        default=1.0, converter=as_seconds, validator=duration(zero=True)
    )
    max_delay: float = attrs.field(default=60.0, converter=as_seconds, validator=duration())
    strategy: RetryStrategy = attrs.field(
        default=RetryStrategy.EXPONENTIAL, validator=instance(RetryStrategy, "a RetryStrategy")
    )
    backoff_multiplier: float = attrs.field(default=2.0, validator=_FACTOR)
    jitter_range: float = attrs.field(default=0.1, validator=_SHARE)
    timeout_seconds: float | None = attrs.field(
        default=None, converter=as_optional_seconds, validator=duration(none=True)
    )
    retryable_exceptions: tuple[type[Exception], ...] = attrs.field(
        default=(Exception,), validator=_TYPES
    )
    non_retryable_exceptions: tuple[type[Exception], ...] = attrs.field(
        default=(), validator=_TYPES
    )
    circuit_breaker_enabled: bool = attrs.field(default=False, validator=flag())
    circuit_breaker_failure_threshold: int = attrs.field(default=5, validator=count())
    circuit_breaker_recovery_timeout: float = attrs.field(
        default=30.0, converter=as_seconds, validator=duration()
    )
    metrics_enabled: bool = attrs.field(default=True, validator=flag())

    def delay(self, attempt: int, chance: Callable[[], float] = RNG.random) -> float:
        """Seconds to wait after *attempt* failures; jittered after the cap, so that capped waits are spread too."""
        match self.strategy:
            case RetryStrategy.FIXED | RetryStrategy.CUSTOM:
                factor = 1.0
            case RetryStrategy.LINEAR:
                factor = float(attempt)
            case RetryStrategy.FIBONACCI:
                factor = float(_fibonacci(attempt))
            case _:
                # Past this every cap is reached, and a float still holds it.
                factor = float(self.backoff_multiplier) ** min(attempt - 1, 100)
        delay = min(self.base_delay * factor, self.max_delay)
        if self.strategy is RetryStrategy.EXPONENTIAL_JITTER:
            delay *= 1 + self.jitter_range * (2 * chance() - 1)
        return delay

    def worth_it(self, error: Exception) -> bool:
        """Whether *error* is worth another attempt."""
        return isinstance(error, self.retryable_exceptions) and not isinstance(
            error, self.non_retryable_exceptions
        )


def _fibonacci(n: int) -> int:
    low, high = 1, 1
    for _ in range(min(n, 90) - 1):
        low, high = high, low + high
    return low


@attrs.frozen(kw_only=True)
class RetryAttempt:
    """
    One attempt that ran.

    Attributes:
        attempt_number: From 1.
        delay_before: Seconds waited since the one before ended; 0.0 for the first.
        exception: What it raised, or None.
        timestamp: When it began.
        elapsed_time: Seconds it took.
    """

    attempt_number: int
    delay_before: float
    exception: BaseException | None
    timestamp: datetime
    elapsed_time: float


@attrs.frozen(kw_only=True)
class RetryResult:
    """
    What came of it.

    Attributes:
        success: Whether the last attempt returned.
        result: What it returned.
        attempts: The attempts that ran; none where the circuit was open.
        final_exception: The last error, a `CircuitBreakerOpenError`, or a `TimeoutError` of the deadline.
        total_time: Seconds from the first attempt to the end, waits included.
    """

    success: bool
    result: Any = None
    attempts: list[RetryAttempt] = attrs.field(factory=list)
    final_exception: Exception | None = None
    total_time: float = 0.0

    @property
    def total_attempts(self) -> int:
        """How many ran."""
        return len(self.attempts)

    def unwrap(self) -> Any:
        """The result, or its error raised."""
        if self.final_exception is not None:
            raise self.final_exception
        return self.result


class _History:
    """The attempts of one call, as they run."""

    def __init__(self, breaker: UnifiedCircuitBreaker | None) -> None:
        self._breaker = breaker
        self._attempts: list[RetryAttempt] = []
        self._began = self._ended = PROCESS_CLOCK.now()

    async def attempt(self, operation: Callable[[], Awaitable[Any]]) -> Any:
        at, started = datetime.now(UTC), PROCESS_CLOCK.now()
        waited = started - self._ended if self._attempts else 0.0
        failure: BaseException | None = None
        try:
            return await operation()
        except BaseException as error:
            failure = error
            raise
        finally:
            self._ended = PROCESS_CLOCK.now()
            self._attempts.append(
                RetryAttempt(
                    attempt_number=len(self._attempts) + 1,
                    delay_before=waited,
                    exception=failure,
                    timestamp=at,
                    elapsed_time=self._ended - started,
                )
            )
            if self._breaker is not None:
                self._breaker.observe(failure, self._ended - started)
            failure = None  # this frame is in its traceback

    def result(self, *, result: Any = None, error: Exception | None = None) -> RetryResult:
        if isinstance(error, TimeoutExceededError) and self._attempts:
            # The deadline cut the last attempt off, or came before another could begin.
            last = self._attempts[-1]
            if last.exception is not None and not isinstance(last.exception, Exception):
                self._attempts[-1] = attrs.evolve(last, exception=error)
        return RetryResult(
            success=error is None,
            result=result,
            attempts=self._attempts,
            final_exception=error,
            total_time=PROCESS_CLOCK.now() - self._began,
        )


class _Chain(Guard):
    """Policies without the checks of a `Pipeline`, whose findings the old settings have no words for."""

    __slots__ = ("_policies",)

    def __init__(self, policies: list[Policy]) -> None:
        self._policies = policies

    def _link(self) -> Step:
        hub = Hub(None)
        step: Step = invoke
        for policy in reversed(self._policies):
            step = policy.link(step, hub)
        return step


_VARIABLES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "RETRY_MAX_ATTEMPTS": ("max_attempts", int),
    "RETRY_BASE_DELAY": ("base_delay", float),
    "RETRY_MAX_DELAY": ("max_delay", float),
    "RETRY_BACKOFF_MULTIPLIER": ("backoff_multiplier", float),
    "RETRY_JITTER_RANGE": ("jitter_range", float),
    "RETRY_TIMEOUT_SECONDS": ("timeout_seconds", float),
    "RETRY_STRATEGY": ("strategy", lambda text: RetryStrategy(text.lower())),
}


def _with_environment(config: RetryConfig, environ: Mapping[str, str]) -> RetryConfig:
    found: dict[str, Any] = {}
    for variable, (field, read) in _VARIABLES.items():
        text = environ.get(variable, "")
        if not text:
            continue
        try:
            found[field] = read(text)
            attrs.evolve(config, **{field: found[field]})
        except ConfigurationError as error:
            raise ConfigurationError(variable, got=repr(text), allowed=error.allowed) from None
        except ValueError:
            kinds = [each.value for each in RetryStrategy]
            allowed = f"one of {kinds}" if field == "strategy" else "a number"
            raise refuse(variable, text, allowed) from None
    return attrs.evolve(config, **found)


class UnifiedRetryHandler:
    """
    The old retry handler; a decorator as well.

    Args:
        service_name: For logs, and for the breaker ``{service_name}_retry_circuit``. Default ``unknown``.
        config: The settings. ``RETRY_MAX_ATTEMPTS`` and the other variables of the environment go before them.
        environ: The environment. Default: that of the process, as it is now.
    """

    def __init__(
        self,
        service_name: str = "unknown",
        config: RetryConfig | None = None,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.service_name: str = service_name
        self._environ = os.environ if environ is None else environ
        self.config: RetryConfig = _with_environment(config or RetryConfig(), self._environ)
        self._breaker = self._own_breaker()
        self._guard = self._built()

    def _own_breaker(self) -> UnifiedCircuitBreaker | None:
        config = self.config
        if not config.circuit_breaker_enabled:
            return None
        return get_circuit_breaker(
            f"{self.service_name}_retry_circuit",
            UnifiedCircuitConfig(
                failure_threshold=config.circuit_breaker_failure_threshold,
                recovery_timeout=config.circuit_breaker_recovery_timeout,
                timeout_seconds=config.timeout_seconds or 30.0,
            ),
        )

    def _built(self) -> _Chain:
        config = self.config
        policies: list[Policy] = [
            Retry(
                config.max_attempts,
                on=config.worth_it,
                wait=lambda state: config.delay(state.attempt_number),
                max_delay=config.max_delay * (1 + config.jitter_range),
            )
        ]
        if config.timeout_seconds is not None:
            policies.insert(0, Timeout(config.timeout_seconds))
        if self._breaker is not None:
            policies.append(self._breaker.policy)
        return _Chain(policies)

    async def execute_with_retry_async(
        self, func: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any
    ) -> RetryResult:
        """Run ``func(*args, **kwargs)``, again where it is worth it, and say what came of it; raises no `Exception`."""
        return await self._execute(functools.partial(func, *args, **kwargs))

    def execute_with_retry(
        self, func: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> RetryResult:
        """
        The same for a function that is not async: it waits in this thread.

        An attempt cannot be cut off; the deadline keeps further ones from beginning. Called inside a running loop, it
        holds that loop up, as it always did; there the function runs in a thread of its own.
        """

        async def attempt() -> Any:
            return func(*args, **kwargs)

        def run() -> RetryResult:
            return asyncio.run(self._execute(attempt))

        trio = loaded("trio")
        if running_loop() is None and (trio is None or not trio.lowlevel.in_trio_run()):
            return run()
        answers: list[RetryResult] = []
        context = contextvars.copy_context()
        thread = threading.Thread(target=lambda: answers.append(context.run(run)))
        thread.start()
        thread.join()
        return answers[0]

    async def _execute(self, operation: Callable[[], Awaitable[Any]]) -> RetryResult:
        history = _History(self._breaker)
        outcome = await self._guard.outcome(history.attempt, operation)
        if isinstance(outcome, Success):
            return history.result(result=outcome.value)
        error = outcome.error
        if isinstance(error, CircuitOpenError) and self._breaker is not None:
            error = CircuitBreakerOpenError.of(error)
        return history.result(error=error)

    def with_timeout(self, timeout_seconds: float) -> UnifiedRetryHandler:
        """The same with another deadline."""
        return self._with(timeout_seconds=timeout_seconds)

    def with_max_attempts(self, max_attempts: int) -> UnifiedRetryHandler:
        """The same with other attempts."""
        return self._with(max_attempts=max_attempts)

    def with_circuit_breaker(
        self,
        enabled: bool = True,  # noqa: FBT001, FBT002 - the old spelling
        failure_threshold: int = 5,
        recovery_timeout: float = 30.0,
    ) -> UnifiedRetryHandler:
        """The same with a breaker."""
        return self._with(
            circuit_breaker_enabled=enabled,
            circuit_breaker_failure_threshold=failure_threshold,
            circuit_breaker_recovery_timeout=recovery_timeout,
        )

    def _with(self, **given: Any) -> UnifiedRetryHandler:
        config = attrs.evolve(self.config, **given)
        # Not the environment again: it would go before what was just said.
        return type(self)(self.service_name, config, environ={})

    def get_circuit_breaker_status(self) -> dict[str, Any] | None:
        """``get_status()`` of its breaker, if it has one."""
        return None if self._breaker is None else self._breaker.get_status()

    def __call__(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """As a decorator: the function returns its result or raises its last error, itself."""

        @functools.wraps(func)
        async def retried(*args: Any, **kwargs: Any) -> Any:
            return (await self.execute_with_retry_async(func, *args, **kwargs)).unwrap()

        @functools.wraps(func)
        def retried_in_place(*args: Any, **kwargs: Any) -> Any:
            return self.execute_with_retry(func, *args, **kwargs).unwrap()

        return retried if is_asynchronous(func) else retried_in_place


_NET = (ConnectionError, TimeoutError, OSError)
_OURS = (ValueError, TypeError)
DATABASE_RETRY_POLICY = RetryConfig(
    max_attempts=5,
    base_delay=0.5,
    max_delay=30.0,
    strategy=RetryStrategy.EXPONENTIAL_JITTER,
    timeout_seconds=60.0,
    retryable_exceptions=_NET,
    non_retryable_exceptions=_OURS,
    circuit_breaker_enabled=True,
    circuit_breaker_recovery_timeout=60.0,
)
"""The platform's numbers; add your driver's classes of lost connections to ``retryable_exceptions``."""
LLM_RETRY_POLICY = RetryConfig(
    max_attempts=4,
    base_delay=2.0,
    max_delay=120.0,
    strategy=RetryStrategy.EXPONENTIAL_JITTER,
    backoff_multiplier=2.5,
    jitter_range=0.15,
    timeout_seconds=300.0,
    retryable_exceptions=_NET,
    non_retryable_exceptions=_OURS,
    circuit_breaker_enabled=True,
    circuit_breaker_failure_threshold=3,
    circuit_breaker_recovery_timeout=180.0,
)
AGENT_RETRY_POLICY = RetryConfig(
    timeout_seconds=120.0,
    retryable_exceptions=(*_NET, RuntimeError),
    non_retryable_exceptions=(*_OURS, AttributeError, ImportError),
)
API_RETRY_POLICY = RetryConfig(
    max_delay=30.0,
    strategy=RetryStrategy.EXPONENTIAL_JITTER,
    timeout_seconds=30.0,
    retryable_exceptions=_NET,
    non_retryable_exceptions=_OURS,
    circuit_breaker_enabled=True,
    circuit_breaker_failure_threshold=3,
)
WEBSOCKET_RETRY_POLICY = RetryConfig(
    max_attempts=2,
    base_delay=0.5,
    max_delay=5.0,
    timeout_seconds=10.0,
    retryable_exceptions=_NET,
    non_retryable_exceptions=_OURS,
)
FILE_RETRY_POLICY = RetryConfig(
    base_delay=0.2,
    max_delay=2.0,
    backoff_multiplier=1.5,
    timeout_seconds=30.0,
    retryable_exceptions=(OSError,),
    non_retryable_exceptions=(*_OURS, IsADirectoryError),
)
