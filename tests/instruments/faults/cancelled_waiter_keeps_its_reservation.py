"""
A caller who leaves the queue of a rate limit has still spent what was reserved for it.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "resilience4j"
EDITS = (
    Edit(
        "policies._waiting:stand_in_line",
        "        line.leave(waiter, now())\n",
        (
            "        line.leave(waiter, now())\n"
            "        if hasattr(line, 'at'):\n"
            "            line.at += waiter.weight\n"
        ),
    ),
)
