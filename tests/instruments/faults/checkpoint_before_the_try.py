"""
Something is awaited between the permit's issue and the try that settles it.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "H3, maverick-mcp #272"
EDITS = (
    Edit(
        "policies.circuit_breaker:_with_tickets",
        ("        ticket = answer\n"),
        ('        ticket = answer\n        await __import__("anyio").lowlevel.checkpoint()\n'),
    ),
)
