"""
A probe that ends with an excluded error is taken for a success, and closes the circuit.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "aiobreaker, circuitbreaker"
EDITS = (
    Edit(
        "core.circuit:Circuit._settle_probe",
        "if verdict is Verdict.SUCCESS:",
        "if verdict is not Verdict.FAILURE:",
    ),
)
