"""An agent: retries, a breaker, a deadline over all."""

from app.core.resilience.domain_circuit_breakers import AgentCircuitBreaker
from app.core.resilience.unified_retry_handler import RetryConfig, UnifiedRetryHandler


class Agent:
    def __init__(self, client):
        self.client = client
        self.breaker = AgentCircuitBreaker(
            "supervisor", failure_threshold=5, recovery_timeout_seconds=10, half_open_max_calls=2
        )
        self.retries = UnifiedRetryHandler(
            "supervisor", RetryConfig(max_attempts=2, base_delay=0.0, timeout_seconds=60.0)
        )

    async def run(self, task):
        if not self.breaker.can_execute():
            return "unavailable"
        result = await self.retries.execute_with_retry_async(self.client, task)
        if result.success:
            self.breaker.record_success()
            return result.result
        self.breaker.record_agent_error(type(result.final_exception).__name__, "")
        return "failed"
