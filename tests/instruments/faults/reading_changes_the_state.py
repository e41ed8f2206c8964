"""
Reading ``state`` after the end of the break makes the circuit half-open.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "B22, law 16"
EDITS = (
    Edit(
        "policies.circuit_breaker:CircuitBreaker.state",
        "        return self._core.circuit.current.state",
        (
            "        if self.retry_after == 0:\n"
            "            self._core.circuit.force(CircuitState.HALF_OPEN, self._core.now())\n"
            "        return self._core.circuit.current.state"
        ),
    ),
)
