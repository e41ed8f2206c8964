"""
A rejection says that it is worth coming back after one period, whatever is in the bucket.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "L7, RL-010"
EDITS = (
    Edit(
        "core.buckets:Bucket.retry_after",
        "            return self.wait(weight, now)",
        "            return self.burst / self.speed",
    ),
)
