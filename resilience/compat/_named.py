"""
Breakers by name: the same name is the same object, and its settings are the first ones it was asked for with.

Managers made a new breaker at every question, so state was lost and decorators kept an orphan.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar, overload

from resilience.compat._circuits import UnifiedCircuitBreaker
from resilience.compat._settings import CircuitConfig, UnifiedCircuitConfig
from resilience.errors import ConfigurationError
from resilience.strategies import is_asynchronous

__all__ = [
    "UnifiedCircuitBreakerManager",
    "UnifiedServiceCircuitBreakers",
    "circuit_breaker",
    "get_circuit_breaker",
    "get_unified_circuit_breaker_manager",
    "unified_circuit_breaker",
    "unified_circuit_breaker_context",
]

P = ParamSpec("P")
T = TypeVar("T")


class UnifiedCircuitBreakerManager:
    """Named breakers, made when they are first asked for. Any thread may ask."""

    def __init__(self) -> None:
        self._breakers: dict[str, UnifiedCircuitBreaker] = {}

    def get_breaker(self, name: str, config: Any = None) -> UnifiedCircuitBreaker:
        """
        The breaker of this name.

        Args:
            config: Its settings: a `UnifiedCircuitConfig` or any object with some of its fields. Default: those it
                has, or the defaults.

        Raises:
            ConfigurationError: it is there already, with other settings.
        """
        found = self._breakers.get(name)
        if found is None:
            made = UnifiedCircuitBreaker(_settings(name, config))
            found = self._breakers.setdefault(name, made)
        if config is not None and (asked := _settings(name, config)) != found.config:
            raise ConfigurationError(
                f"circuit breaker {name!r}",
                got=repr(asked),
                allowed=f"asked for with the settings it has: {found.config!r}",
            )
        return found

    get_circuit_breaker = get_breaker
    create_breaker = get_breaker
    create_circuit_breaker = get_breaker

    async def call_with_circuit_breaker(
        self,
        name: str,
        operation: Callable[..., Any],
        *args: Any,
        config: Any = None,
        **kwargs: Any,
    ) -> Any:
        """``call`` of the breaker of this name."""
        return await self.get_breaker(name, config).call(operation, *args, **kwargs)

    def names(self) -> list[str]:
        """The names there are, sorted."""
        return sorted(self._breakers)

    get_all_circuit_breaker_names = names

    def remove(self, name: str) -> bool:
        """Forget a breaker, such as that of a connection that is closed; whether there was one."""
        return self._breakers.pop(name, None) is not None

    def get_all_status(self) -> dict[str, dict[str, Any]]:
        """``get_status()`` of each, by name."""
        return {name: each.get_status() for name, each in sorted(self._breakers.items())}

    def get_health_summary(self) -> dict[str, Any]:
        """How many are closed, half-open and open; ``overall_health`` is healthy where all are closed."""
        every = list(self._breakers.values())
        healthy = sum(each.is_closed for each in every)
        half_open = sum(each.is_half_open for each in every)
        return {
            "total_circuit_breakers": len(every),
            "healthy_circuit_breakers": healthy,
            "degraded_circuit_breakers": half_open,
            "unhealthy_circuit_breakers": len(every) - healthy - half_open,
            "overall_health": "healthy" if healthy == len(every) else "degraded",
        }

    async def reset_circuit_breaker(self, name: str) -> bool:
        """Reset one; whether there was one."""
        found = self._breakers.get(name)
        if found is not None:
            found.reset_sync()
        return found is not None

    async def reset_all(self) -> None:
        """Reset all."""
        for each in list(self._breakers.values()):
            each.reset_sync()

    def cleanup_all(self) -> None:
        """Forget all."""
        self._breakers.clear()


def _settings(name: str, config: Any) -> UnifiedCircuitConfig:
    if config is None:
        return UnifiedCircuitConfig(name=name)
    if isinstance(config, CircuitConfig):
        config = config.unified()
    return UnifiedCircuitConfig.of(config, name=name)


_MANAGER = UnifiedCircuitBreakerManager()


def get_unified_circuit_breaker_manager() -> UnifiedCircuitBreakerManager:
    """The manager of this process."""
    return _MANAGER


def get_circuit_breaker(name: str, config: Any = None) -> UnifiedCircuitBreaker:
    """The breaker of this name in the manager of this process; see `UnifiedCircuitBreakerManager.get_breaker`."""
    return _MANAGER.get_breaker(name, config)


class _Decorator:
    def __init__(self, name: str | None, config: Any) -> None:
        self._name = name
        self._config = config

    @overload
    def __call__(self, fn: Callable[P, Awaitable[T]], /) -> Callable[P, Awaitable[T]]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /) -> Callable[P, T]: ...
    def __call__(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        name = self._name or f"{fn.__module__}.{fn.__name__}"
        config = self._config

        @functools.wraps(fn)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            return await _MANAGER.get_breaker(name, config).call(fn, *args, **kwargs)

        @functools.wraps(fn)
        def guarded_in_place(*args: Any, **kwargs: Any) -> Any:
            return _MANAGER.get_breaker(name, config).run(fn, *args, **kwargs)

        return guarded if is_asynchronous(fn) else guarded_in_place


def unified_circuit_breaker(name: str | None = None, config: Any = None) -> _Decorator:
    """
    Guard a function, async or not, with the breaker of this name (default: the function's own).

    Every way to that breaker counts in one place. The time of a function that is not async is not kept.
    """
    return _Decorator(name, config)


circuit_breaker = unified_circuit_breaker


def unified_circuit_breaker_context(name: str, config: Any = None) -> UnifiedCircuitBreaker:
    """``with`` or ``async with`` around a block: rejected, it never runs; what it raises is counted and passes."""
    return _MANAGER.get_breaker(name, config)


class UnifiedServiceCircuitBreakers:
    """
    The breakers of one service's operations; and, without a service, those of well-known ones.

    The figures are the platform's own.
    """

    def __init__(self, service_name: str) -> None:
        self.service_name: str = service_name
        self.manager: UnifiedCircuitBreakerManager = UnifiedCircuitBreakerManager()

    def get_breaker(self, operation: str, config: Any = None) -> UnifiedCircuitBreaker:
        """The breaker ``{service_name}_{operation}``."""
        return self.manager.get_breaker(f"{self.service_name}_{operation}", config)

    @staticmethod
    def get_database_circuit_breaker() -> UnifiedCircuitBreaker:
        """3 failures or 60 % of 8 calls; open for 30 s; 10 s for a call."""
        return get_circuit_breaker("database", _PRESETS["database"])

    @staticmethod
    def get_auth_service_circuit_breaker() -> UnifiedCircuitBreaker:
        """5 failures or 50 % of 12 calls; open for 60 s; 15 s for a call."""
        return get_circuit_breaker("auth_service", _PRESETS["auth_service"])

    @staticmethod
    def get_llm_service_circuit_breaker() -> UnifiedCircuitBreaker:
        """10 failures or 40 % of 6 calls; open for 10 s; 60 s for a call, slow from 30 s."""
        return get_circuit_breaker("llm_service", _PRESETS["llm_service"])

    @staticmethod
    def get_clickhouse_circuit_breaker() -> UnifiedCircuitBreaker:
        """4 failures or 50 % of 10 calls; open for 45 s; 20 s for a call."""
        return get_circuit_breaker("clickhouse", _PRESETS["clickhouse"])

    @staticmethod
    def get_redis_circuit_breaker() -> UnifiedCircuitBreaker:
        """5 failures or 60 % of 15 calls; open for 20 s; 5 s for a call."""
        return get_circuit_breaker("redis", _PRESETS["redis"])


_PRESETS = {
    each.name: each
    for each in (
        UnifiedCircuitConfig(
            name="database",
            adaptive_threshold=True,
            failure_threshold=3,
            recovery_timeout=30,
            success_threshold=2,
            timeout_seconds=10,
            sliding_window_size=8,
            error_rate_threshold=0.6,
        ),
        UnifiedCircuitConfig(
            name="auth_service",
            adaptive_threshold=True,
            failure_threshold=5,
            recovery_timeout=60,
            success_threshold=3,
            timeout_seconds=15,
            sliding_window_size=12,
            error_rate_threshold=0.5,
        ),
        UnifiedCircuitConfig(
            name="llm_service",
            adaptive_threshold=True,
            failure_threshold=10,
            recovery_timeout=10,
            success_threshold=2,
            timeout_seconds=60,
            sliding_window_size=6,
            error_rate_threshold=0.4,
            slow_call_threshold=30,
        ),
        UnifiedCircuitConfig(
            name="clickhouse",
            adaptive_threshold=True,
            failure_threshold=4,
            recovery_timeout=45,
            success_threshold=3,
            timeout_seconds=20,
            sliding_window_size=10,
            error_rate_threshold=0.5,
        ),
        UnifiedCircuitConfig(
            name="redis",
            failure_threshold=5,
            recovery_timeout=20,
            success_threshold=2,
            timeout_seconds=5,
            sliding_window_size=15,
            error_rate_threshold=0.6,
            adaptive_threshold=False,
        ),
    )
}
