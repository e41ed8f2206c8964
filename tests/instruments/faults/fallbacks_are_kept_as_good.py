"""
What a fallback answered is kept, and comes back as the last good answer.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "CA-001"
EDITS = (
    Edit(
        "policies.last_good:_linked",
        "if not (call.from_fallback or call.exhausted):",
        "if call is not None:",
    ),
)
