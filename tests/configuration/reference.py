"""
The rows of docs/reference/configuration.md that list keys, from the table that reads them.

`python -m tests.configuration.reference` writes them into the page; a test holds the page against them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from resilience.config.kinds import (
    Choice,
    Count,
    Either,
    Errors,
    Kind,
    Named,
    Number,
    OneError,
    Seconds,
    Variants,
    Vow,
)
from resilience.config.table import POLICIES, REFERENCES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"
KEYS = ("<!-- keys -->", "<!-- end of keys -->")
VALUES = ("<!-- values -->", "<!-- end of values -->")


def key_rows() -> list[str]:
    """A row for each key of each policy."""
    rows = ["| type | key | takes | default |", "|---|---|---|---|"]
    for entry in POLICIES.values():
        defaults = {field.name: field.default for field in attrs.fields(entry.cls)}
        for key, kind in entry.fields.kinds.items():
            default = "**required**" if key in entry.fields.required else _default(defaults[key])
            rows.append(f"| `{entry.word}` | `{key}` | {_text(kind)} | {default} |")
    return rows


def value_rows() -> list[str]:
    """A row for each key of each value that is a table."""
    rows = ["| value | `type` | key | takes |", "|---|---|---|---|"]
    for name, kind in REFERENCES.items():
        variants = kind.table if isinstance(kind, Either) else kind
        assert isinstance(variants, Variants)
        for word, record in variants.kinds.items():
            for key, each in record.fields.kinds.items():
                needed = ", **required**" if key in record.fields.required else ""
                rows.append(f"| {name} | `{word}` | `{key}` | {_text(each)}{needed} |")
    return rows


def _text(kind: Kind) -> str:
    for name, known in REFERENCES.items():
        if kind.text == known.text:
            return f"a [{name}](#values)"
    match kind:
        case Either():
            return f"{_text(kind.plain)}, or {_text(kind.table)}"
        case Seconds():
            return "a duration" if kind.zero else "a duration > 0"
        case Count():
            return f"a whole number, {kind.low} to {kind.high:,}"
        case Number():
            low = f"from {kind.low:g} to" if kind.least else f"> {kind.low:g}, at most"
            return f"a number {low} {kind.high:g}"
        case Named():
            return f"the name of a table under `{kind.section}`"
        case OneError():
            return "the [name of an exception class](#exception-classes)"
        case Errors():
            return "[names of exception classes](#exception-classes)"
        case Vow():
            return "`true`"
        case Choice():
            return ", ".join(f"`{word}`" for word in kind.words)
        case _:
            return kind.text.split(", each ")[0]


def _default(default: Any) -> str:
    if hasattr(default, "factory"):
        default = default.factory()
    if default is None or default == () or type(default).__name__ == "_Nothing":
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default.__name__}`" if isinstance(default, type) else f"`{default!r}`"


def written(text: str) -> str:
    """The page with the rows as they are now."""
    for marks, rows in ((KEYS, key_rows()), (VALUES, value_rows())):
        before, _, rest = text.partition(marks[0] + "\n")
        _, _, after = rest.partition(marks[1])
        text = f"{before}{marks[0]}\n\n" + "\n".join(rows) + f"\n\n{marks[1]}{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
