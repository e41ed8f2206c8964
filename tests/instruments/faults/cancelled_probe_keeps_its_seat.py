"""
Only an `except Exception` gives the seat back: a cancelled probe wedges the circuit half-open for ever.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "c-breaker, grit"
EDITS = (
    Edit(
        "policies.circuit_breaker:_with_tickets",
        "call.park(Permit(core, ticket), entered)",
        "pass",
    ),
)
