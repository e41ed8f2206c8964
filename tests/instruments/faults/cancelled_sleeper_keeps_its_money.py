"""
A retry that is cancelled in its back-off stays paid for: callers who leave empty the budget for good.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "law 33"
EDITS = (
    Edit(
        "policies._retrying:Retrying._persist",
        "budget._give_back()",
        "pass",
    ),
)
