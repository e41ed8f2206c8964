"""
A total is read, something is called, and the sum is written: threads lose each other's counts.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "performance trap 6"
EDITS = (
    Edit(
        "core.circuit:Circuit._count",
        "totals.ignored += 1",
        "totals.ignored = (totals.ignored, time.sleep(0))[0] + 1",
    ),
)
