"""
A place is looked for, and taken after a call: two threads find the same one.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "H38, law 15"
EDITS = (
    Edit(
        "policies.bulkhead:_linked",
        "            places.taken += weight * (free :=",
        (
            "            free = not places.waiting and places.taken + weight <= places.limit\n"
            '            __import__("time").sleep(0)\n'
            "            places.taken += weight * (free := free or"
        ),
    ),
)
