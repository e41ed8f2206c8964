"""
The timeout is looked at between attempts only: 1.00 s with a limit of 0.1.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "tenacity (stop_after_delay), stamina"
EDITS = (
    Edit(
        "policies._wheel:Wheel._fire",
        "cancel()",
        "pass",
    ),
)
