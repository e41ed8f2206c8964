"""
At the very end of the break the circuit is still open.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "law 16"
EDITS = (
    Edit(
        "core.circuit:Circuit.admit",
        "if now < generation.until:",
        "if now <= generation.until:",
    ),
)
