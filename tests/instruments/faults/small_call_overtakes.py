"""
Who comes later and asks for less goes in before one who waits for more; that one may wait for ever.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "RL-013, K5"
EDITS = (
    Edit(
        "policies.bulkhead:_linked",
        "(free := not places.waiting and places.taken + weight <= places.limit)",
        "(free := places.taken + weight <= places.limit)",
    ),
)
