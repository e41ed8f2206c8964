"""
The retry waits and asks again although the circuit below it is open.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "pyresilience"
EDITS = (
    Edit(
        "policies._retrying:Retrying._leaf_worth_it",
        ("            return False\n        if self._types is not None and"),
        ("            return True\n        if self._types is not None and"),
    ),
    Edit(
        "policies._retrying:Retrying._foresees_rejection",
        "if rejection is None or",
        "if True or",
    ),
)
