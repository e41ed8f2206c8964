"""
A cancellation is an error like others to a negative predicate: it is retried, and the task goes on.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "tenacity (retry_if_not_exception_type)"
EDITS = (
    Edit(
        "policies._retrying:Retrying.run",
        "except Exception as error:",
        "except BaseException as error:",
    ),
)
