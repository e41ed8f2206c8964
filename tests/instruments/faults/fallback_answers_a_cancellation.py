"""
A fallback answers whatever leaves the call, and a caller who leaves gets an answer and goes on.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "H5, FB-003"
EDITS = (
    Edit(
        "policies.fallback:_linked", "except Exception as error:", "except BaseException as error:"
    ),
    Edit(
        "verdicts:Named.__call__", "if is_types(self._spec) and self._matches(error):", "if True:"
    ),
)
