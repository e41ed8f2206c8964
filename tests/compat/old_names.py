"""The small copy of the old behaviour under the old names, for call sites that switch back."""

from __future__ import annotations

from typing import Any

from tests.compat import old

CircuitBreakerOpenError = old.OldOpenError
UnifiedCircuitConfig = old.OldConfig
UnifiedCircuitBreaker = old.OldBreaker


class UnifiedCircuitBreakerManager:
    def create_breaker(self, name: str, config: old.OldConfig) -> old.OldBreaker:
        return old.OldBreaker(config)


def get_unified_circuit_breaker_manager() -> UnifiedCircuitBreakerManager:
    return UnifiedCircuitBreakerManager()


def unified_circuit_breaker(name: str) -> Any:
    return old.old_decorator(old.OldBreaker(old.OldConfig(name=name)))


class AgentCircuitBreaker(old.OldBreaker):
    def __init__(self, name: str, **given: Any) -> None:
        super().__init__(old.OldConfig(name=name, failure_threshold=given["failure_threshold"]))

    def record_agent_error(self, kind: str, message: str) -> None:
        self.record_failure(kind)


class RetryConfig(old.OldConfig):
    pass


class UnifiedRetryHandler:
    def __init__(self, name: str, config: RetryConfig) -> None:
        self.config = config

    async def execute_with_retry_async(self, func: Any, *args: Any) -> Any:
        for left in reversed(range(self.config.max_attempts)):
            try:
                value = await func(*args)
            except Exception as error:  # noqa: BLE001 - as it is written there
                if not left:
                    return RetryResult(None, error)
            else:
                return RetryResult(value, None)
        return None


class RetryResult:
    def __init__(self, result: Any, error: Exception | None) -> None:
        self.result, self.final_exception, self.success = result, error, error is None
