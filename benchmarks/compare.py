"""
Whether a second run says the same: the headline ratios of two JSON files beside each other.

``python -m benchmarks.compare FIRST.json SECOND.json [--within 0.15]``; status 1 if one of them differs by more.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import Table

__all__ = ["HEADLINE", "WITHIN", "compared", "differing", "main", "ratios_of", "table_of"]

WITHIN = 0.15
HEADLINE: tuple[tuple[str, str], ...] = (
    ("breaker", "resilience, rate of 30 s"),
    ("breaker", "nopanic, rate of 30 s"),
    ("timeout", "resilience"),
    ("timeout", "asyncio.timeout"),
    ("layers", "resilience"),
    ("layers", "nopanic"),
    ("layers", "pyresilience"),
    ("layers", "hyx + circuitbreaker + asyncio.timeout"),
    ("layers", "interlock-cb"),
    ("layers_suspending", "resilience"),
    ("layers_suspending", "nopanic"),
    ("rejected", "resilience"),
)
"""Table and row of `benchmarks.cost`; the ratio is the second column of each table."""


def ratios_of(run: Mapping[str, Any]) -> dict[str, float]:
    """
    The headline ratios that this run has, by table and row.

    Args:
        run: What ``python -m benchmarks cost --json FILE`` wrote.
    """
    tables: Mapping[str, Any] = run["parts"].get("cost", {})
    found = {}
    for table, row in HEADLINE:
        for record in tables.get(table, {}).get("rows", ()):
            name, ratio, *_ = record.values()
            if name == row:
                found[f"{table}: {row}"] = float(ratio)
    return found


def compared(
    first: Mapping[str, float], second: Mapping[str, float]
) -> dict[str, tuple[float, float, float]]:
    """
    Both values and the second as a multiple of the first, for all that both have.

    Raises:
        ValueError: they have nothing in common.
    """
    both = {name: (first[name], second[name], second[name] / first[name])
            for name in first if name in second}  # fmt: skip
    if not both:
        raise ValueError("the two runs have no headline ratio in common")
    return both


def differing(pairs: Mapping[str, tuple[float, float, float]], within: float = WITHIN) -> list[str]:
    """Names of those that moved by more than *within*, up or down."""
    return [
        name for name, (_, _, share) in pairs.items() if not 1 / (1 + within) <= share <= 1 + within
    ]


def table_of(
    pairs: Mapping[str, tuple[float, float, float]], *, title: str, within: float = WITHIN
) -> Table:
    """Both runs beside each other, and the sentence that judges them."""
    moved = differing(pairs, within)
    verdict = (
        f"{len(moved)} of {len(pairs)} differ by more than {within:.0%}: {', '.join(moved)}."
        if moved
        else f"All {len(pairs)} within {within:.0%}."
    )
    return Table(
        name="reproduced",
        title=title,
        columns={"table and call": "", "first, x unit": ".2f", "second, x unit": ".2f", "second / first": ".3f"},
        rows=[[name, *values] for name, values in pairs.items()],
        notes=[verdict],
    )  # fmt: skip


def main(given: Sequence[str] | None = None) -> int:
    """Compare two files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("first", type=Path, metavar="FIRST.json")
    parser.add_argument("second", type=Path, metavar="SECOND.json")
    parser.add_argument("--within", type=float, default=WITHIN, help="share, default %(default)s")
    options = parser.parse_args(given)
    first, second = (
        ratios_of(json.loads(path.read_text(encoding="utf-8")))
        for path in (options.first, options.second)
    )
    try:
        pairs = compared(first, second)
    except ValueError as error:
        parser.error(str(error))
    table = table_of(pairs, title="Two runs, the headline ratios", within=options.within)
    sys.stdout.write(table.markdown() + "\n")
    return 1 if differing(pairs, options.within) else 0


if __name__ == "__main__":
    sys.exit(main())
