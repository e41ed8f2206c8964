"""
A listener that raises replaces the call's own error, and those after it never hear.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "pybreaker, aiobreaker"
EDITS = (
    Edit(
        "events:publish",
        "            listener(event)\n        except Exception as error:",
        "            listener(event)\n        except ArithmeticError as error:",
    ),
)
