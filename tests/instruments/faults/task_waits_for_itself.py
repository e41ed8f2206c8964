"""
A call inside a call of the same bulkhead waits for the place that its own task has.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "H26"
EDITS = (
    Edit(
        "policies._nested:guards_around",
        "            found += 1",
        "            found = 1",
    ),
)
