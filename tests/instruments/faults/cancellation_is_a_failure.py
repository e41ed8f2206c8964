"""
A caller who leaves counts as a failure: nine of them opened the circuit.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "purgatory, backon"
EDITS = (
    Edit(
        "call:Call.settle_parked",
        "if cut and entered:",
        "if entered:",
    ),
)
