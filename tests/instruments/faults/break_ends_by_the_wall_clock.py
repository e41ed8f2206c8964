"""
The break is timed by the wall clock: set back by an hour, the circuit stays open for an hour.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "purgatory, aioresilience, c-breaker, netrun, aiobreaker-redis, fluxgate"
EDITS = (
    Edit(
        "policies._breaker_core:Core.now",
        "return self.clock.now()",
        'return __import__("time").time()',
    ),
)
