"""
attempts=3 makes four calls.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "hyx"
EDITS = (
    Edit(
        "policies._retrying:Retrying._reason_to_stop",
        "attempt >= policy.attempts",
        "attempt > policy.attempts",
    ),
)
