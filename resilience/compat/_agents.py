"""The breakers of domains and agents under their old names: asked and recorded by hand, with a status of their own."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from resilience.clock import Clock
from resilience.compat._circuits import UnifiedCircuitBreaker
from resilience.compat._settings import AgentCircuitBreakerConfig, UnifiedCircuitConfig

__all__ = [
    "AgentCircuitBreaker",
    "DomainCircuitBreaker",
    "DomainCircuitBreakerManager",
    "DomainType",
    "domain_circuit_breaker_manager",
]


class DomainType(enum.Enum):
    """The old domains."""

    DATABASE = "database"
    EXTERNAL_API = "external_api"
    LLM_SERVICE = "llm_service"
    CACHE = "cache"
    FILE_SYSTEM = "file_system"
    NETWORK = "network"


class DomainCircuitBreaker(UnifiedCircuitBreaker):
    """
    A breaker of one dependency of a domain.

    Args:
        domain: Its domain.
        name: Its name; errors and events say ``domain:name``.
        failure_threshold: Failures in a row that open it. Default 5.
        recovery_timeout_seconds: Seconds it stays open. Default 60.
        half_open_max_calls: Probes in flight at once; what is asked and never recorded gives its place back after 60 s.
            Default 3.
        success_threshold: Successful probes that close it. Default 2, as it was; with one probe at a time as well.
    """

    _renamed = "DomainCircuitBreaker"

    def __init__(
        self,
        domain: DomainType,
        name: str,
        failure_threshold: int = 5,
        recovery_timeout_seconds: float = 60.0,
        half_open_max_calls: int = 3,
        *,
        success_threshold: int = 2,
        clock: Clock | Callable[[], float] | None = None,
    ) -> None:
        self.domain: DomainType = domain
        self.service: str = name
        settings = UnifiedCircuitConfig(
            name=f"{domain.value}:{name}",
            failure_threshold=failure_threshold,
            recovery_timeout=recovery_timeout_seconds,
            half_open_max_calls=half_open_max_calls,
            success_threshold=success_threshold,
            timeout_seconds=None,
            exponential_backoff=False,
        )
        self._begin(settings, None, None, clock)
        self._deprecate()

    def get_status(self) -> dict[str, Any]:
        """Everything under its old keys. Reading it changes nothing."""
        metrics = self.metrics
        return {
            "domain": self.domain.value,
            "name": self.service,
            "state": self.state.value,
            "failure_count": metrics.consecutive_failures,
            "failure_threshold": self.failure_threshold,
            "success_count": metrics.successful_calls,
            "total_calls": metrics.total_calls,
            "success_rate": metrics.successful_calls / max(metrics.total_calls, 1),
            "last_failure_time": metrics.last_failure_time,
            "can_execute": self._would_allow(),
            "retry_after": self.policy.retry_after,
            "half_open_calls": self._probes_out() if self.is_half_open else None,
        }


class AgentCircuitBreaker(DomainCircuitBreaker):
    """
    An agent's breaker; all fields of `AgentCircuitBreakerConfig` may be given by name.

    Args:
        agent_name: Its name.
    """

    _renamed = "AgentCircuitBreaker"

    def __init__(
        self,
        agent_name: str,
        *,
        config: AgentCircuitBreakerConfig | None = None,
        clock: Clock | Callable[[], float] | None = None,
        **given: Any,
    ) -> None:
        self.domain = DomainType.LLM_SERVICE
        self.agent_name: str = agent_name
        self.service: str = agent_name
        self._agent = AgentCircuitBreakerConfig.of(config, **given)
        self._begin(self._agent.unified(agent_name), None, None, clock)
        if not self._agent.enabled:
            self.policy.disable()
        self._deprecate()

    @property
    def config(self) -> AgentCircuitBreakerConfig:
        """The settings."""
        return self._agent

    def can_execute_agent(self) -> bool:
        """As `can_execute`."""
        return self.can_execute()

    def record_agent_timeout(self) -> None:
        """The agent took too long: a failure."""
        self.record_failure("TimeoutError")

    def record_agent_error(self, error_type: str, error_message: str = "") -> None:  # noqa: ARG002
        """The agent failed. Of the error its type is kept; the message may hold what nobody should read."""
        self.record_failure(error_type)


# Failures, seconds, probes. The old code needed two successes and let one probe in: it never closed.
_DEFAULTS = {
    DomainType.DATABASE: (3, 30.0, 2),
    DomainType.EXTERNAL_API: (5, 60.0, 3),
    DomainType.LLM_SERVICE: (2, 120.0, 1),
    DomainType.CACHE: (10, 15.0, 5),
    DomainType.FILE_SYSTEM: (3, 45.0, 2),
    DomainType.NETWORK: (5, 30.0, 3),
}


class DomainCircuitBreakerManager:
    """The old manager: breakers by domain and name, asked and recorded by hand. New code: `resilience.domains`."""

    def __init__(self) -> None:
        self._breakers: dict[tuple[DomainType, str], DomainCircuitBreaker] = {}

    def get_circuit_breaker(self, domain: DomainType, name: str) -> DomainCircuitBreaker:
        """The breaker of that name, made with its domain's numbers when it is first asked for."""
        found = self._breakers.get((domain, name))
        if found is None:
            made = DomainCircuitBreaker(domain, name, *_DEFAULTS[domain])
            found = self._breakers.setdefault((domain, name), made)
        return found

    def can_execute(self, domain: DomainType, name: str) -> bool:
        """Leave to make one call; see `UnifiedCircuitBreaker.can_execute`."""
        return self.get_circuit_breaker(domain, name).can_execute()

    def record_success(self, domain: DomainType, name: str) -> None:
        """The call went well."""
        self.get_circuit_breaker(domain, name).record_success()

    def record_failure(self, domain: DomainType, name: str, error_message: str = "") -> None:
        """The call failed. The message is not kept: it may hold what nobody should read."""
        del error_message
        self.get_circuit_breaker(domain, name).record_failure()

    def get_all_status(self) -> dict[str, Any]:
        """All of them under their old keys."""
        return {
            "circuit_breakers": self._statuses(None),
            "total_count": len(self._breakers),
            "domains": sorted({domain.value for domain, _ in self._breakers}),
            "timestamp": datetime.now(UTC),
        }

    def get_domain_status(self, domain: DomainType) -> dict[str, Any]:
        """Those of a domain, with a summary."""
        every = [each for (kind, _), each in list(self._breakers.items()) if kind is domain]
        closed, half_open = (
            sum(each.is_closed for each in every),
            sum(each.is_half_open for each in every),
        )
        return {
            "domain": domain.value,
            "circuit_breakers": self._statuses(domain),
            "summary": {
                "total": len(every),
                "open": len(every) - closed - half_open,
                "closed": closed,
                "half_open": half_open,
                "health_percentage": 100 * closed / max(len(every), 1),
            },
            "timestamp": datetime.now(UTC),
        }

    def _statuses(self, domain: DomainType | None) -> dict[str, dict[str, Any]]:
        return {
            f"{kind.value}:{name}": each.get_status()
            for (kind, name), each in list(self._breakers.items())
            if domain in {None, kind}
        }

    def reset_circuit_breaker(self, domain: DomainType, name: str) -> bool:
        """Reset one; whether there was one."""
        found = self._breakers.get((domain, name))
        if found is not None:
            found.reset_sync()
        return found is not None

    def reset_all_domain_breakers(self, domain: DomainType) -> int:
        """Reset all of a domain; how many."""
        every = [each for (kind, _), each in list(self._breakers.items()) if kind is domain]
        for each in every:
            each.reset_sync()
        return len(every)

    def remove(self, domain: DomainType, name: str) -> bool:
        """Forget one, such as that of a connection that is closed; whether there was one."""
        return self._breakers.pop((domain, name), None) is not None


domain_circuit_breaker_manager: DomainCircuitBreakerManager = DomainCircuitBreakerManager()
"""The manager of this process."""
