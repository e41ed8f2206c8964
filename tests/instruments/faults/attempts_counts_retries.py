"""
attempts=3 makes four calls.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "hyx"
EDITS = (
    Edit(
        "policies._retrying:Retrying._reason_against_another",
        "attempt >= policy.attempts",
        "attempt > policy.attempts",
    ),
)
