"""
The call that finds the break over passes without a seat: 2 of 20 with one probe allowed.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "netrun"
EDITS = (
    Edit(
        "core.circuit:Circuit._admit_probe",
        "generation.seats.pop()",
        "generation.live and generation.seats.pop()",
    ),
)
