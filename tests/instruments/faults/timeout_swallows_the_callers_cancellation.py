"""
The caller leaves as the deadline fires, and gets a timeout in the place of its cancellation.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "T3, asyncio.timeout(0)"
EDITS = (
    Edit(
        "policies.timeout:cut_off",
        "ours = uncancel(task, cancelling) <= cancelling - untold",
        "uncancel(task, cancelling)",
    ),
)
