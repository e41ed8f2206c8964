"""
A waiter that is cancelled in the moment in which a place is handed to it takes the place with it.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "H4, anyio's own history"
EDITS = (
    Edit("core.lines:Line._reclaim", "        self._put_back(waiter.weight)", "        return"),
)
