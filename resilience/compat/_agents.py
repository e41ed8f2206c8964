"""The breakers of domains and agents under their old names: asked and recorded by hand, with a status of their own."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from resilience.clock import Clock
from resilience.compat._circuits import UnifiedCircuitBreaker
from resilience.compat._settings import AgentCircuitBreakerConfig, UnifiedCircuitConfig

__all__ = ["AgentCircuitBreaker", "DomainCircuitBreaker", "DomainType"]


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
        name: Its name.
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
        self.domain = domain
        settings = UnifiedCircuitConfig(
            name=name,
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
            "name": self.name,
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
        self.agent_name = agent_name
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
