"""``call``, and what is done when it is refused."""

from app.core.circuit_breaker import CircuitBreakerOpenError, UnifiedCircuitBreaker
from app.core.resilience.unified_circuit_breaker import UnifiedCircuitConfig


class ClickHouse:
    """Any error: the cached answer."""

    def __init__(self, client):
        self.client = client
        self.breaker = UnifiedCircuitBreaker(
            UnifiedCircuitConfig(name="clickhouse", failure_threshold=5, recovery_timeout=30)
        )

    async def query(self, statement):
        try:
            return await self.breaker.call(self.client, statement)
        except Exception:  # noqa: BLE001 - as it is written there
            return "cached"


class Network:
    """Adaptive, which was dead code."""

    def __init__(self, client):
        self.client = client
        self.breaker = UnifiedCircuitBreaker(
            UnifiedCircuitConfig(
                name="ssl", failure_threshold=3, recovery_timeout=120, adaptive_threshold=True
            )
        )

    async def handshake(self):
        return await self.breaker.call(self.client)


class Auth:
    """One breaker inside another; open: a degraded answer from the cache."""

    def __init__(self, client):
        self.client = client
        self.outer = UnifiedCircuitBreaker(
            UnifiedCircuitConfig(name="auth_service", failure_threshold=3, recovery_timeout=10)
        )
        self.inner = UnifiedCircuitBreaker(
            UnifiedCircuitConfig(name="validate_token", failure_threshold=5, recovery_timeout=5)
        )

    async def validate(self, token):
        async def nested():
            return await self.inner.call(self.client, token)

        try:
            return await self.outer.call(nested)
        except CircuitBreakerOpenError:
            return "degraded"


class LLM:
    """Open: a canned reply."""

    def __init__(self, client):
        self.client = client
        self.breaker = UnifiedCircuitBreaker(
            UnifiedCircuitConfig(
                name="llm", failure_threshold=5, recovery_timeout=20, slow_call_threshold=3.0
            )
        )

    async def ask(self, prompt):
        try:
            return await self.breaker.call(self.client, prompt)
        except CircuitBreakerOpenError:
            return "please wait"
