"""
A deadline that cuts a call off is taken for a caller who leaves: a dependency that hangs never opens the circuit.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "H7, PraisonAI #4969"
EDITS = (
    Edit(
        "call:Call.settle_parked",
        "if cut and entered:",
        "if False:",
    ),
)
