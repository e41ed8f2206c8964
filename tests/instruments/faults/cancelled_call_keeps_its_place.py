"""
Only an `except Exception` gives the place back: each caller who leaves makes the bulkhead smaller.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "H3, BH-005"
EDITS = (
    Edit(
        "policies.bulkhead:_linked",
        "            if call.parked is None:\n                places.give(weight)",
        "            if call.parked is None:\n                pass",
    ),
)
