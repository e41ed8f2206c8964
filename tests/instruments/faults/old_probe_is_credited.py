"""
A slow probe of one half-open round answers in the next, and is credited there.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "nopanic"
EDITS = (
    Edit(
        "core.circuit:Circuit.settle",
        (
            "            if generation is self.current:\n"
            "                self._settle_probe(generation,"
        ),
        (
            "            if isinstance(generation := self.current, HalfOpen):\n"
            "                self._settle_probe(generation,"
        ),
    ),
)
