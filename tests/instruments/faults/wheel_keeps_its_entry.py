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
            "            call.until = outer\n            if (\n"
            "                entries.pop(call, None) is not None\n"
        ),
        (
            "            call.until = outer\n            if (\n"
            "                without_cancellation(error) is error\n"
            "                or entries.pop(call, None) is not None\n"
        ),
    ),
)
