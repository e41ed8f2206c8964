"""
A seat is looked at and then taken, with a call in between: threads get in together.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "H38, litellm"
EDITS = (
    Edit(
        "core.circuit:Circuit._admit_probe",
        (
            "        try:\n"
            "            generation.seats.pop()\n"
            "        except IndexError:\n"
            "            return self._refuse(generation.state, None)\n"
            ""
        ),
        (
            "        if not generation.seats:\n"
            "            return self._refuse(generation.state, None)\n"
            "        time.sleep(0)\n"
            "        generation.seats = generation.seats[1:]\n"
            ""
        ),
    ),
)
