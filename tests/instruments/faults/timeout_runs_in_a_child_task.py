"""
The call is timed in a task of its own, in a copy of the context: what it sets is lost.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "pyresilience, crashbytes (wait_for), and every recipe with a task group"
EDITS = (
    Edit(
        "policies.timeout:cut_off",
        "            result = await step(call)",
        '            result = await __import__("asyncio").create_task(step(call))',
    ),
)
