"""
Half-open admits whoever comes: 20 of 20 callers.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "aiobreaker, purgatory, circuitbreaker, hyx, pyresilience and four more"
EDITS = (
    Edit(
        "core.circuit:Circuit._admit_probe",
        "return self._refuse(generation.state, None)",
        "pass",
    ),
)
