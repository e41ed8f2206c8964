"""
There is no generation: failures from before the break open the circuit again after it has recovered.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "every asyncio breaker but interlock-cb"
EDITS = (
    Edit(
        "core.circuit:Circuit._settle_closed",
        ("        if generation is not self.current:\n            if"),
        (
            "        if isinstance(self.current, Closed):\n"
            "            generation = self.current\n"
            "        else:\n"
            "            if"
        ),
    ),
)
