"""
A cancelled probe counts as a success and closes the circuit.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "circuitbreaker, aiocircuitbreaker"
EDITS = (
    Edit(
        "policies.circuit_breaker:_with_tickets",
        "call.park(Permit(core, ticket), entered)",
        "circuit.settle(ticket, Verdict.SUCCESS, clock.now())",
    ),
)
