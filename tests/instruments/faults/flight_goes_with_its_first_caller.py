"""
A flight belongs to whoever leaves first: he takes it along, and the others wait for what will not come.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

HAZARD = "issue 5: a caller who leaves does not kill the flight of the others"
EDITS = (Edit("core.flights:Fleet.leave", "if flight.callers:", "if flight.callers > 9:"),)
