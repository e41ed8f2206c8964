"""The old error of an open circuit, which is one of ours and carries what the old one lacked."""

from __future__ import annotations

from resilience.errors import CircuitOpenError

__all__ = ["CircuitBreakerOpenError"]


class CircuitBreakerOpenError(CircuitOpenError):
    """
    The circuit is open; the call never ran.

    A `CircuitOpenError`: retries of this library do not repeat it and outer breakers do not count it.

    Attributes:
        circuit_name: The breaker's name, as ``breaker``.
    """

    def __init__(
        self,
        circuit_name: str = "",
        *,
        state: str = "OPEN",
        last_failure: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(
            circuit_name, state=state, last_failure=last_failure, retry_after=retry_after
        )
        self.circuit_name = circuit_name

    @classmethod
    def of(cls, error: CircuitOpenError) -> CircuitBreakerOpenError:
        """The same under its old name."""
        return cls(
            error.breaker,
            state=error.state,
            last_failure=error.last_failure,
            retry_after=error.retry_after,
        )
