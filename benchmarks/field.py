"""
Who takes part: every rival that is installed and passed its behaviour check, with its version.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from typing import Literal

import attrs

from benchmarks.report import Table, found_version
from benchmarks.rivals import OURS, RIVALS, Adapter, Missing, load
from benchmarks.rivals.behaviour import problems_of
from benchmarks.rivals.mixes import mixes

__all__ = ["Field", "gather"]

Part = Literal["breaker", "retry", "timeout", "layers"]


@attrs.frozen
class Field:
    """
    The contenders, by name.

    Attributes:
        ours: This library.
        rivals: The others that may be measured.
        mixed: Several of them put together; for the three layers only.
        table: All of them, those that may not be measured included, with the reason.
    """

    ours: Adapter
    rivals: Mapping[str, Adapter]
    mixed: Mapping[str, Adapter]
    table: Table

    def having(self, part: Part) -> Iterator[tuple[str, Adapter]]:
        """Ours first, then the rivals that have this part."""
        yield OURS.name, self.ours
        for name, adapter in self.rivals.items():
            if adapter.has(part):
                yield name, adapter

    def stacks(self) -> Iterator[tuple[str, Adapter]]:
        """All that have the three layers: ours, the rivals, the mixes."""
        yield from self.having("layers")
        yield from self.mixed.items()


async def _gathered() -> Field:
    ours = load(OURS)
    if isinstance(ours, Missing) or (wrong := await problems_of(ours)):
        raise RuntimeError(f"this library does not pass the check its rivals must pass: {wrong}")
    rows = [[OURS.name, None, found_version(OURS.distribution) or "this tree", "passed"]]
    rivals = {}
    for rival in RIVALS:
        adapter = load(rival)
        if isinstance(adapter, Missing):
            rows.append(
                [rival.name, rival.version, found_version(rival.distribution), adapter.reason]
            )
            continue
        problems = await problems_of(adapter)
        found = found_version(rival.distribution)
        rows.append([rival.name, rival.version, found, "; ".join(problems) or "passed"])
        if not problems:
            rivals[rival.name] = adapter
    mixed = {}
    for name, adapter in mixes().items():
        problems = await problems_of(adapter)
        rows.append([name, None, None, "; ".join(problems) or "passed"])
        if not problems:
            mixed[name] = adapter
    table = Table(
        name="field",
        title="Who takes part",
        columns={"library": "", "adapter written for": "", "installed": "", "behaviour check": ""},
        rows=rows,
        notes=[
            (
                "The check: a call passes; failures open the breaker, which then rejects without calling; a "
                "retry makes exactly three attempts; a timeout cuts. Who fails it, or is not installed, is not "
                "measured."
            )
        ],
    )
    return Field(ours, rivals, mixed, table)


def gather() -> Field:
    """Load and check everybody, on asyncio."""
    # Some log each retry as a warning; written to a terminal that would be measured too.
    logging.getLogger().addHandler(logging.NullHandler())
    return asyncio.run(_gathered())
