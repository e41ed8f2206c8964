"""
There is no generation: a call from before the break that fails reopens the half-open circuit.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "aiobreaker, purgatory, circuitbreaker, hyx, pyresilience, resilix, backon"
EDITS = (
    Edit(
        "core.circuit:Circuit._settle_closed",
        ("                generation.successes += 1\n            return"),
        (
            "                generation.successes += 1\n"
            "            elif verdict is Verdict.FAILURE and isinstance(self.current, HalfOpen):\n"
            '                self._open(self.current, now, "probe failed")\n'
            "            return"
        ),
    ),
)
