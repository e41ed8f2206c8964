"""
The error of the call that opens the circuit is replaced by CircuitOpenError.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "aiobreaker"
EDITS = (
    Edit(
        "policies.circuit_breaker:_plain",
        "core.settle_plain(generation, error)\n",
        ("core.settle_plain(generation, error)\n            core.admit()\n"),
    ),
)
