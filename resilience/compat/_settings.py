"""
The platform's settings of breakers under their old names, and what they are here.

Names had outlived what they did: a timeout that was not kept, a back-off that nobody read, fields dropped in silence.
Here each one works or is refused with the reason, and a name that is none of them is an error with the nearest
spelling.
"""

from __future__ import annotations

import difflib
from typing import Any, Self

import attrs

from resilience.clock import RNG
from resilience.core.trips import ConsecutiveFailures, FailureRate, SlowRate, Trip
from resilience.core.windows import CountWindow
from resilience.errors import ConfigurationError
from resilience.policies.circuit_breaker import CircuitBreaker
from resilience.validation import (
    as_optional_seconds,
    as_seconds,
    count,
    duration,
    flag,
    name,
    one_of,
    ratio,
    refuse,
    spelled,
)
from resilience.verdicts import is_types

__all__ = ["AgentCircuitBreakerConfig", "CircuitConfig", "Settings", "UnifiedCircuitConfig"]

_TINY = 1e-6  # a recovery_timeout of 0: the next call is a probe
_LEASE = 60.0


def _optional(allowed: Any) -> Any:
    return attrs.validators.optional(allowed)


_EXPECTED = one_of(
    "None, an exception class or a tuple of them",
    lambda value: value is None or is_types(value),
    {"text": "OSError", "number": 5, "cancellation": KeyboardInterrupt},
)
_NAMES = one_of(
    "names of exception classes",
    lambda value: isinstance(value, tuple) and all(isinstance(each, str) for each in value),
    {"text": 5, "class": OSError},
)
_ALWAYS = one_of(
    "True: it cannot be switched off here",
    lambda value: value is True,
    {"false": False, "none": None},
)


class Settings:
    """What the old configurations have in common: a closed set of names."""

    __slots__ = ()

    def __new__(cls, *_: Any, **given: Any) -> Self:
        known = [each.name for each in attrs.fields(cls)]  # type: ignore[arg-type]  # each subclass is an attrs class
        for key, value in given.items():
            if key in known:
                continue
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise refuse(f"{cls.__name__}.{key}", value, f"one of {', '.join(known)}{hint}")
        return super().__new__(cls)

    def __repr__(self) -> str:
        return spelled(self)

    def model_dump(self) -> dict[str, Any]:
        """The settings as a mapping."""
        return attrs.asdict(self, recurse=False)  # type: ignore[arg-type]

    @classmethod
    def of(cls, config: Any, **given: Any) -> Self:
        """From any object that has some of the fields, such as another of these configurations."""
        if isinstance(config, cls) and not given:
            return config
        found = {
            each.name: getattr(config, each.name)
            for each in attrs.fields(cls)  # type: ignore[arg-type]
            if hasattr(config, each.name)
        }
        return cls(**(found | given))


def _names(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@attrs.frozen(repr=False)
class Doubling:
    """Seconds of the n-th opening in a row: base * 2 ** (n - 1), at most *cap*, then from 90 to 110 % of that."""

    base: float
    cap: float
    jitter: bool

    def __call__(self, opening: int) -> float:
        # 2 ** 60 is past every cap, and a float still holds it.
        length = min(self.base * 2.0 ** min(opening - 1, 60), self.cap)
        return length * (0.9 + 0.2 * RNG.random()) if self.jitter else length

    def __repr__(self) -> str:
        """What one writes instead, with tenacity."""
        wait = f"wait_exponential(multiplier={self.base!r}, max={self.cap!r})"
        return f"{wait} + wait_random(0, {0.1 * self.base!r})" if self.jitter else wait


@attrs.frozen(kw_only=True, repr=False)
class UnifiedCircuitConfig(Settings):
    """
    The settings of a `UnifiedCircuitBreaker`. Seconds may be fractions.

    Args:
        name: For errors, events and logs. Default ``default``.
        failure_threshold: Failures in a row that open it; 0 means 1, as the first failure opened it. Default 5.
        success_threshold: Successful probes that close it. Default 2.
        recovery_timeout: Seconds it stays open, measured from the opening; 0: the next call is a probe. Default 60.
        timeout_seconds: Seconds a call has; kept here, and a call that is cut off counts as a failure. None: no limit.
            Default 30. Functions that are not async, and the manual idiom, cannot be cut off.
        slow_call_threshold: Seconds from which a call counts as slow. Default 5.
        adaptive_threshold: Open also when half of the last 10 calls were slow. Default False.
        exponential_backoff: Each opening in a row is twice as long as the one before. Default True.
        max_backoff_seconds: The longest opening. Default 300.
        jitter: Draw each opening from 90 to 110 % of its length, once. Default False.
        expected_exception: What counts as a failure. Default `Exception`.
        expected_exception_types: Names of classes that count; with ``expected_exception``, either. Default none.
        half_open_max_calls: Probes in flight at once. Default 3.
        half_open_timeout: Seconds after which a probe that still runs has failed. Default 60, at least the timeout.
        sliding_window_size, error_rate_threshold, min_requests_threshold: Open also at this share of failures in so
            many calls. Active when one of them is given; the others are 10 calls, 0.5 and 3 calls then.
        reset_timeout: Seconds after which a failure is forgotten. Default never.
        health_check_interval: Shortest time between two questions to a health checker, seconds. Default 30.

    Raises:
        ConfigurationError: a value or a name that cannot be.
    """

    name: str = attrs.field(default="default", validator=name())
    failure_threshold: int = attrs.field(default=5, validator=count(low=0))
    success_threshold: int = attrs.field(default=2, validator=count())
    recovery_timeout: float = attrs.field(
        default=60.0, converter=as_seconds, validator=duration(zero=True)
    )
    timeout_seconds: float | None = attrs.field(
        default=30.0, converter=as_optional_seconds, validator=duration(none=True)
    )
    slow_call_threshold: float = attrs.field(
        default=5.0, converter=as_seconds, validator=duration()
    )
    adaptive_threshold: bool = attrs.field(default=False, validator=flag())
    exponential_backoff: bool = attrs.field(default=True, validator=flag())
    max_backoff_seconds: float = attrs.field(
        default=300.0, converter=as_seconds, validator=duration()
    )
    jitter: bool = attrs.field(default=False, validator=flag())
    expected_exception: type[Exception] | tuple[type[Exception], ...] | None = attrs.field(
        default=None, validator=_EXPECTED
    )
    expected_exception_types: tuple[str, ...] = attrs.field(
        default=(), converter=_names, validator=_NAMES
    )
    half_open_max_calls: int = attrs.field(default=3, validator=count(high=10**6))
    half_open_timeout: float | None = attrs.field(
        default=None, converter=as_optional_seconds, validator=duration(none=True)
    )
    sliding_window_size: int | None = attrs.field(default=None, validator=count(none=True))
    error_rate_threshold: float | None = attrs.field(default=None, validator=_optional(ratio()))
    min_requests_threshold: int | None = attrs.field(default=None, validator=count(none=True))
    reset_timeout: float | None = attrs.field(
        default=None, converter=as_optional_seconds, validator=duration(none=True)
    )
    health_check_interval: float = attrs.field(
        default=30.0, converter=as_seconds, validator=duration(zero=True)
    )

    def __attrs_post_init__(self) -> None:
        lease, timeout = self.half_open_timeout, self.timeout_seconds
        if lease is not None and timeout is not None and lease < timeout:
            raise ConfigurationError(
                "UnifiedCircuitConfig.half_open_timeout",
                got=f"{lease!r}",
                allowed=f"at least timeout_seconds ({timeout!r}): a probe in time would count as failed",
            )

    def trip(self) -> Trip:
        """When it opens."""
        trip: Trip = ConsecutiveFailures(max(1, self.failure_threshold))
        rates = self.sliding_window_size, self.error_rate_threshold, self.min_requests_threshold
        if any(given is not None for given in rates):
            size = self.sliding_window_size or 10
            trip |= FailureRate(
                self.error_rate_threshold or 0.5,
                CountWindow(size),
                minimum_calls=min(self.min_requests_threshold or 3, size),
            )
        if self.adaptive_threshold:
            trip |= SlowRate(0.5, self.slow_call_threshold, CountWindow(10), minimum_calls=10)
        return trip

    def counts(self) -> Any:
        """What counts as a failure, as ``on`` takes it."""
        kinds = self.expected_exception
        names = frozenset(self.expected_exception_types)
        if not names:
            return Exception if kinds is None else kinds
        return lambda error: (
            (kinds is not None and isinstance(error, kinds))
            or any(kind.__name__ in names for kind in type(error).__mro__)
        )

    def breaker(self, clock: Any = None) -> CircuitBreaker:
        """The circuit breaker that these settings are."""
        base = max(self.recovery_timeout, _TINY)
        cap = max(self.max_backoff_seconds, base) if self.exponential_backoff else base
        return CircuitBreaker(
            self.name,
            on=self.counts(),
            trip=self.trip(),
            break_duration=Doubling(base, cap, self.jitter) if cap > base or self.jitter else base,
            probes=self.half_open_max_calls,
            successes_to_close=self.success_threshold,
            probe_lease=self.half_open_timeout or max(_LEASE, self.timeout_seconds or 0.0),
            clock=clock,
        )


_ENVIRONMENTS: dict[str, dict[str, Any]] = {
    "development": {
        "failure_threshold": 10,
        "recovery_timeout": 30.0,
        "half_open_max_calls": 5,
        "timeout_seconds": 15.0,
    },
    "staging": {
        "failure_threshold": 8,
        "recovery_timeout": 60.0,
        "half_open_max_calls": 4,
        "timeout_seconds": 12.0,
    },
    "production": {
        "failure_threshold": 5,
        "recovery_timeout": 120.0,
        "half_open_max_calls": 3,
        "timeout_seconds": 10.0,
    },
    "testing": {
        "failure_threshold": 15,
        "recovery_timeout": 5.0,
        "half_open_max_calls": 10,
        "timeout_seconds": 30.0,
    },
}


@attrs.frozen(repr=False)
class CircuitConfig(Settings):
    """
    The older settings, of ``circuit_breaker_types``; as `UnifiedCircuitConfig` where names agree.

    ``sliding_window_size`` is the window of the slow calls that ``adaptive_threshold`` looks at; it had no effect.
    """

    name: str = attrs.field(validator=name())
    failure_threshold: int = attrs.field(default=5, validator=count())
    recovery_timeout: float = attrs.field(default=30.0, converter=as_seconds, validator=duration())
    half_open_max_calls: int = attrs.field(default=3, validator=count(high=10**6))
    timeout_seconds: float = attrs.field(default=10.0, converter=as_seconds, validator=duration())
    adaptive_threshold: bool = attrs.field(default=True, validator=flag())
    slow_call_threshold: float = attrs.field(
        default=5.0, converter=as_seconds, validator=duration()
    )
    sliding_window_size: int = attrs.field(default=100, validator=count())

    @classmethod
    def create_for_environment(cls, name: str, environment: str = "production") -> CircuitConfig:
        """
        The settings of one environment.

        Raises:
            ConfigurationError: an environment that is none of them.
        """
        chosen = _ENVIRONMENTS.get(environment.lower()) if isinstance(environment, str) else None
        if chosen is None:
            raise refuse("CircuitConfig.environment", environment, f"one of {[*_ENVIRONMENTS]}")
        return cls(name, **chosen)

    def unified(self) -> UnifiedCircuitConfig:
        """The same for a `UnifiedCircuitBreaker`, which had no back-off where it came from these."""
        return UnifiedCircuitConfig(
            name=self.name,
            failure_threshold=self.failure_threshold,
            recovery_timeout=self.recovery_timeout,
            half_open_max_calls=self.half_open_max_calls,
            timeout_seconds=self.timeout_seconds,
            adaptive_threshold=self.adaptive_threshold,
            slow_call_threshold=self.slow_call_threshold,
            exponential_backoff=False,
        )


@attrs.frozen(kw_only=True, repr=False)
class AgentCircuitBreakerConfig(Settings):
    """
    The settings of an `AgentCircuitBreaker`; all but the first four had no effect.

    ``preserve_context_on_failure`` and ``nested_task_support`` are always so here: a call runs in its caller's context
    and task. ``enabled=False`` lets every call pass and counts nothing.
    """

    failure_threshold: int = attrs.field(default=3, validator=count())
    recovery_timeout_seconds: float = attrs.field(
        default=60.0, converter=as_seconds, validator=duration()
    )
    half_open_max_calls: int = attrs.field(default=2, validator=count(high=10**6))
    success_threshold: int = attrs.field(default=3, validator=count())
    task_timeout_seconds: float = attrs.field(
        default=120.0, converter=as_seconds, validator=duration()
    )
    sliding_window_size: int = attrs.field(default=10, validator=count())
    error_rate_threshold: float = attrs.field(default=0.5, validator=ratio())
    slow_task_threshold_seconds: float = attrs.field(
        default=120.0, converter=as_seconds, validator=duration()
    )
    max_backoff_seconds: float = attrs.field(
        default=300.0, converter=as_seconds, validator=duration()
    )
    preserve_context_on_failure: bool = attrs.field(default=True, validator=_ALWAYS)
    nested_task_support: bool = attrs.field(default=True, validator=_ALWAYS)
    enabled: bool = attrs.field(default=True, validator=flag())

    def to_dict(self) -> dict[str, Any]:
        """The settings as a mapping."""
        return self.model_dump()

    def unified(self, agent_name: str) -> UnifiedCircuitConfig:
        """The same for a `UnifiedCircuitBreaker`; the rate counts once the window is full."""
        return UnifiedCircuitConfig(
            name=agent_name,
            failure_threshold=self.failure_threshold,
            recovery_timeout=self.recovery_timeout_seconds,
            half_open_max_calls=self.half_open_max_calls,
            success_threshold=self.success_threshold,
            timeout_seconds=self.task_timeout_seconds,
            sliding_window_size=self.sliding_window_size,
            error_rate_threshold=self.error_rate_threshold,
            min_requests_threshold=self.sliding_window_size,
            slow_call_threshold=self.slow_task_threshold_seconds,
            max_backoff_seconds=self.max_backoff_seconds,
        )
