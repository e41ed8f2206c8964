"""
A call that raises leaves its deadline behind, which later cancels whatever its task waits for.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "performance trap 1"
EDITS = (
    Edit(
        "policies.timeout:cut_off",
        "            if ours := entries.pop(key, None) is None:",
        (
            "            if without_cancellation(error) is error:\n                raise\n"
            "            if ours := entries.pop(key, None) is None:"
        ),
    ),
)
