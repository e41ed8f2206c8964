"""
The ratio is compared with > instead of >=.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "law 16"
EDITS = (
    Edit(
        "core.trips:_RateMeter.tripped",
        "hits / calls >= self._ratio",
        "hits / calls > self._ratio",
    ),
)
