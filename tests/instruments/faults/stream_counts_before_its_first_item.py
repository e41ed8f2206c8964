"""
A stream counts as a success when its generator is made, so that streams that fail never open the circuit.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "interlock-cb"
EDITS = (
    Edit(
        "doors:Stream._first",
        "            item = await anext(generator)",
        "            return None",
    ),
)
