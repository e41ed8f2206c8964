"""
Releasing a second time gives back what belongs to somebody else, and more get in than there are places.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "concurrency-limits"
EDITS = (Edit("policies._places:Place.release", "            return\n", "            pass\n"),)
