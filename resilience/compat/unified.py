"""
The platform's resilience names, all of them over one circuit: for code that moves here call site by call site.

Each warns with what one writes instead (`DeprecationWarning`). What did nothing there works here, or is refused with
the reason.
"""

from resilience.compat._agents import (
    AgentCircuitBreaker,
    DomainCircuitBreaker,
    DomainCircuitBreakerManager,
    DomainType,
    domain_circuit_breaker_manager,
)
from resilience.compat._circuits import UnifiedCircuitBreaker, UnifiedCircuitBreakerState
from resilience.compat._errors import CircuitBreakerOpenError
from resilience.compat._figures import CircuitMetrics
from resilience.compat._named import (
    UnifiedCircuitBreakerManager,
    UnifiedServiceCircuitBreakers,
    circuit_breaker,
    get_circuit_breaker,
    get_unified_circuit_breaker_manager,
    unified_circuit_breaker,
    unified_circuit_breaker_context,
)
from resilience.compat._retries import (
    AGENT_RETRY_POLICY,
    API_RETRY_POLICY,
    DATABASE_RETRY_POLICY,
    FILE_RETRY_POLICY,
    LLM_RETRY_POLICY,
    WEBSOCKET_RETRY_POLICY,
    RetryAttempt,
    RetryConfig,
    RetryResult,
    RetryStrategy,
    UnifiedRetryHandler,
)
from resilience.compat._settings import (
    AgentCircuitBreakerConfig,
    CircuitConfig,
    UnifiedCircuitConfig,
)

__all__ = [
    "AGENT_RETRY_POLICY",
    "API_RETRY_POLICY",
    "DATABASE_RETRY_POLICY",
    "FILE_RETRY_POLICY",
    "LLM_RETRY_POLICY",
    "WEBSOCKET_RETRY_POLICY",
    "AgentCircuitBreaker",
    "AgentCircuitBreakerConfig",
    "CircuitBreaker",
    "CircuitBreakerOpenError",
    "CircuitBreakerRegistry",
    "CircuitBreakerState",
    "CircuitConfig",
    "CircuitMetrics",
    "CircuitOpenException",
    "CircuitState",
    "DomainCircuitBreaker",
    "DomainCircuitBreakerManager",
    "DomainType",
    "RetryAttempt",
    "RetryConfig",
    "RetryResult",
    "RetryStrategy",
    "UnifiedCircuitBreaker",
    "UnifiedCircuitBreakerManager",
    "UnifiedCircuitBreakerState",
    "UnifiedCircuitConfig",
    "UnifiedRetryHandler",
    "UnifiedServiceCircuitBreakers",
    "circuit_breaker",
    "circuit_registry",
    "domain_circuit_breaker_manager",
    "get_circuit_breaker",
    "get_unified_circuit_breaker_manager",
    "unified_circuit_breaker",
    "unified_circuit_breaker_context",
]

CircuitBreaker = UnifiedCircuitBreaker
CircuitBreakerRegistry = UnifiedCircuitBreakerManager
CircuitBreakerState = UnifiedCircuitBreakerState
CircuitState = UnifiedCircuitBreakerState
CircuitOpenException = CircuitBreakerOpenError
circuit_registry: UnifiedCircuitBreakerManager = get_unified_circuit_breaker_manager()
