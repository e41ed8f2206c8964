"""
A half-open circuit closes only after as many probes as its window needs calls.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "law 11"
EDITS = (
    Edit(
        "core.circuit:Circuit._settle_probe",
        ">= self.rules.successes_to_close:",
        ">= max(self.rules.successes_to_close, 10):",
    ),
)
