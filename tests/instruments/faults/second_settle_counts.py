"""
A permit that is settled twice counts twice.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "H30, concurrency-limits"
EDITS = (
    Edit(
        "core.circuit:Circuit.settle",
        "if ticket.settled or generation is None:",
        "if generation is None:",
    ),
)
