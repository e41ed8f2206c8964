"""
A call that raises leaves its deadline behind, which later cancels whatever its task waits for.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "performance trap 1"
EDITS = (
    Edit(
        "policies.timeout:cut_off",
        (
            "            if entries.pop(call, None) is None:\n"
            "                _uncancel(task, cancelling)\n"
            "            raise"
        ),
        "            raise",
    ),
)
