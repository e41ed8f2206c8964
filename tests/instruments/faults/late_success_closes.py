"""
There is no generation: a call from before the break succeeds, and closes the half-open circuit.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = (
    "purgatory, circuitbreaker, hyx, pyresilience, aioresilience, c-breaker, resilix and six more"
)
EDITS = (
    Edit(
        "core.circuit:Circuit._settle_closed",
        ("                generation.successes += 1\n            return"),
        (
            "                generation.successes += 1\n"
            "                if isinstance(self.current, HalfOpen):\n"
            '                    self._move(self.current, self._closed(now), "probes succeeded", now)\n'
            "            return"
        ),
    ),
)
