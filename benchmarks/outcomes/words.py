"""
Numbers as people read them, and tables of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

__all__ = ["NONE", "percent", "seconds", "table"]

NONE = "-"
"""What stands where a figure has no meaning."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, text: int = 1) -> str:
    """A Markdown table; all columns but the first *text* to the right."""
    lines = [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * text + "--:|" * (len(head) - text),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    return "\n".join(lines)


def percent(share: float | None) -> str:
    """Whole percents; one decimal next to 0 and 100, which stand for none and all."""
    if share is None:
        return NONE
    if 0 < share < 0.01 or 0.99 < share < 1:
        return f"{min(max(100 * share, 0.1), 99.9):.1f} %"
    return f"{100 * share:.0f} %"


def seconds(value: float | None) -> str:
    """Tenths of a second, hundredths below one of them."""
    if value is None:
        return NONE
    if math.isinf(value):
        return "never"
    if value == 0:
        return "0 s"
    return f"{value:.1f} s" if value >= 0.1 else f"{max(value, 0.01):.2f} s"
