"""
The ratio is compared with > instead of >=.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "law 16"
EDITS = (
    Edit(
        "core.trips:_RateMeter.tripped",
        "counts.hits / counts.calls >= self._ratio",
        "counts.hits / counts.calls > self._ratio",
    ),
)
