"""
The caller leaves as the deadline fires, and gets a timeout in the place of its cancellation.
"""

from __future__ import annotations

from tests.instruments.defects import Edit

RIVALS = "asyncio.timeout(0)"
EDITS = (
    Edit(
        "policies.timeout:_linked",
        "or _uncancel(task, cancelling) > cancelling - untold",
        "or (_uncancel(task, cancelling) and False)",
    ),
)
