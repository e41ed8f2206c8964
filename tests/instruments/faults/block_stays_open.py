"""
A block that is cancelled counts as open for ever: every call of the process looks for a deadline from then on.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "H17"
EDITS = (
    Edit(
        "deadlines:Deadline.__exit__",
        "MODES.in_use -= 1",
        "MODES.in_use -= error is None",
    ),
)
