"""Ask, do, record: the dominant form."""

from app.core.resilience.unified_circuit_breaker import (
    UnifiedCircuitConfig,
    get_unified_circuit_breaker_manager,
)


class Redis:
    """An open circuit is an answer: None."""

    def __init__(self, client):
        self.client = client
        self.breaker = get_unified_circuit_breaker_manager().create_breaker(
            "redis",
            UnifiedCircuitConfig(
                name="redis",
                failure_threshold=5,
                success_threshold=2,
                recovery_timeout=60,
                timeout_seconds=30.0,
            ),
        )

    async def get(self, key):
        if not self.breaker.can_execute():
            return None
        try:
            value = await self.client(key)
        except Exception as error:
            self.breaker.record_failure(type(error).__name__)
            raise
        self.breaker.record_success()
        return value


class Pool(Redis):
    """The same with a reset for operators."""

    async def reset_circuit_breaker(self):
        result = self.breaker.reset()
        if hasattr(result, "__await__"):
            await result
        return self.breaker.get_status()


class MessageQueue:
    """A breaker for each connection."""

    def __init__(self, connection, client):
        self.client = client
        self.breaker = get_unified_circuit_breaker_manager().create_breaker(
            f"processing_{connection}",
            UnifiedCircuitConfig(
                name=f"processing_{connection}",
                failure_threshold=3,
                success_threshold=2,
                recovery_timeout=30,
                timeout_seconds=30,
            ),
        )

    async def process(self, message):
        if not self.breaker.can_execute():
            return "queued"
        try:
            await self.client(message)
        except Exception as error:  # noqa: BLE001 - as it is written there
            self.breaker.record_failure(type(error).__name__)
            return "failed"
        self.breaker.record_success()
        return "processed"


class Server:
    """Settings that nobody read."""

    def __init__(self, client):
        self.client = client
        self.breaker = get_unified_circuit_breaker_manager().create_breaker(
            "mcp",
            UnifiedCircuitConfig(
                name="mcp",
                failure_threshold=3,
                recovery_timeout=30,
                timeout_seconds=30,
                half_open_timeout=30,
                reset_timeout=300,
            ),
        )

    async def connect(self):
        if not self.breaker.can_execute():
            raise ConnectionError("circuit breaker open")
        try:
            connection = await self.client()
        except Exception as error:
            self.breaker.record_failure(type(error).__name__)
            raise
        self.breaker.record_success()
        return connection
