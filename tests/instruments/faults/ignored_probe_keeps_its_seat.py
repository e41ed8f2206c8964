"""
A probe that ends with an excluded error never gives its seat back: half-open for ever.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "c-breaker, grit"
EDITS = (
    Edit(
        "core.circuit:Circuit._settle_probe",
        "        generation.seats.append(None)",
        ("        if verdict is Verdict.SUCCESS:\n            generation.seats.append(None)"),
    ),
)
