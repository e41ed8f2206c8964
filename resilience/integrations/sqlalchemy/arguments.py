"""
What a manager takes, what it makes of it, and what it refuses.
"""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine

from resilience.core.trips import ConsecutiveFailures
from resilience.doors import Guard, Policy
from resilience.errors import ConfigurationError
from resilience.integrations.sqlalchemy.errors import is_outage, is_transient
from resilience.pipeline import Pipeline, flat
from resilience.policies.circuit_breaker import CircuitBreaker
from resilience.policies.retry import Retry
from resilience.policies.timeout import Timeout
from resilience.validation import duration, instance, name, one_of

__all__ = ["FIELDS", "WORK", "check_policies", "default_policies", "made"]

_ATTEMPT = 60.0  # seconds: longer than the pool's own default, 30
_POOL_TIMEOUT = 5.0

_ENGINE = one_of(
    "an AsyncEngine, or a URL of an async driver",
    lambda value: isinstance(value, AsyncEngine | URL | str),
    {"none": None, "number": 5432, "class": AsyncEngine},
)
_GUARD = one_of(
    "a policy or a pipeline, or None",
    lambda value: value is None or isinstance(value, Policy | Pipeline),
    {"number": 5, "text": "retry", "class": Policy, "function": asyncio.sleep},
)
WORK = one_of(
    "an async function of the session",
    lambda value: callable(value) and not isinstance(value, type),
    {"none": None, "text": "SELECT 1", "class": dict},
)

FIELDS = {
    "engine": _ENGINE,
    "name": name(),
    "reads": _GUARD,
    "writes": _GUARD,
    "sessions": instance(async_sessionmaker, "an async_sessionmaker", none=True),
    "drain": duration(zero=True),
}
"""What each argument of `DatabaseManager` takes."""

_FIELD = "DatabaseManager.engine"


def made(url: URL | str) -> AsyncEngine:
    """An engine of our own; its errors tell nothing of the URL, which holds a password."""
    try:
        parsed = make_url(url)
        limits: dict[str, Any] = (
            {} if parsed.get_backend_name() == "sqlite" else {"pool_timeout": _POOL_TIMEOUT}
        )
        return create_async_engine(parsed, pool_pre_ping=True, **limits)
    except (ArgumentError, InvalidRequestError) as error:
        raise ConfigurationError(
            _FIELD,
            got=f"one that SQLAlchemy refuses ({type(error).__name__})",
            allowed=_ENGINE.text,
        ) from None


def default_policies(breaker: str) -> Pipeline[Any]:
    """What guards where nothing else is said; the breaker has that name."""
    return Pipeline(
        Retry(3, on=is_transient),
        CircuitBreaker(breaker, on=is_outage, trip=ConsecutiveFailures(5)),
        Timeout(_ATTEMPT),
    )


def check_policies(engine: AsyncEngine, guards: dict[str, Guard[Any]]) -> None:
    """Refuse what would take our overload for an outage, mix units up, or write twice."""
    pool: Any = engine.pool
    limit: float | None = pool.timeout() if hasattr(pool, "timeout") else None
    for field, guard in guards.items():
        if (keeper := guard._keeper()) is not None:  # noqa: SLF001 - our own class
            raise ConfigurationError(
                f"DatabaseManager.{field}",
                got=keeper,
                allowed="without policies that give one answer to several calls: units differ",
            )
        for policy in flat((guard,)):  # type: ignore[arg-type]  # policies and pipelines are all the guards
            seconds = policy.seconds if isinstance(policy, Timeout) else None
            if limit is not None and isinstance(seconds, float) and seconds <= limit:
                raise ConfigurationError(
                    f"DatabaseManager.{field}",
                    got=f"Timeout({seconds:g}) around a pool that waits {limit:g} s",
                    allowed="longer than the engine's pool_timeout, so that a full pool is no outage",
                )
    if (racer := guards["writes"]._racer()) is not None:  # noqa: SLF001
        raise ConfigurationError(
            "DatabaseManager.writes", got=racer, allowed="without several attempts at once"
        )
