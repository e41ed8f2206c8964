"""
A retry is paid for when it starts: a storm that sleeps in back-off overshoots the budget as one.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "Envoy 30205"
EDITS = (Edit("core.budget:Ledger.room", "- spent - self.asleep", "- spent"),)
