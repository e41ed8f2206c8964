"""
What a part hands back: tables that can be printed, written as Markdown and kept as JSON.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from benchmarks.field import Field

__all__ = ["Options", "Table", "found_version", "heading"]


@attrs.frozen(kw_only=True)
class Options:
    """
    How thorough a part is to be.

    Attributes:
        quick: Few rounds and small loads: seconds, and more spread.
        instructions: Count instructions with callgrind as well.
        field: Who takes part.
        pictures: Folder for the pictures of the fault plans; None: not drawn.
        say: Where progress goes.
    """

    field: Field

    quick: bool = False
    instructions: bool = False
    pictures: Path | None = None
    say: Callable[[str], object] = lambda _: None


@attrs.frozen(kw_only=True)
class Table:
    """
    One table.

    Attributes:
        name: Its key in the JSON file.
        title: Its heading.
        columns: Heading of each column, with the format of its numbers: ``{"x W": ".2f"}``.
        rows: Values in the order of the columns; None prints as nothing.
        notes: Sentences under the table.
    """

    name: str
    title: str
    columns: Mapping[str, str]
    rows: Sequence[Sequence[Any]]
    notes: Sequence[str] = ()

    def records(self) -> list[dict[str, Any]]:
        """The rows by the names of their columns."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def markdown(self) -> str:
        """The table with its heading and notes."""
        formats = list(self.columns.values())
        lines = [f"### {self.title}", "", _line(list(self.columns))]
        lines.append("|" + "|".join("--:" if each else "---" for each in formats) + "|")
        for row in self.rows:
            cells = [_shown(*cell) for cell in zip(row, formats, strict=True)]
            lines += [_line(cells)]
        for note in self.notes:
            lines += ["", note]
        return "\n".join(lines)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"title": self.title, "rows": self.records(), "notes": list(self.notes)}


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _shown(value: Any, spec: str) -> str:
    if value is None:
        return ""
    return format(value, spec) if spec and isinstance(value, int | float) else str(value)


def found_version(distribution: str) -> str | None:
    """The installed version, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def heading() -> str:
    """What the numbers were taken with."""
    names = ("anyio", "attrs", "tenacity", "trio")
    versions = ", ".join(f"{name} {found_version(name) or 'absent'}" for name in names)
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    return (
        f"## CPython {platform.python_version()}{'' if gil else ' without the GIL'}\n\n{versions}."
    )
