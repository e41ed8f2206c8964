"""
Run the cost table: ``python -m benchmarks [--quick] [--json FILE] [--markdown FILE]``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import anyio
import attrs

from benchmarks.cost import on_asyncio, on_trio
from benchmarks.rounds import Row, measure


def markdown(title: str, rows: Sequence[Row]) -> str:
    """A table with the ratio first, since it is what carries over to another machine."""
    lines = [
        f"### {title}",
        "",
        "| call | x W | spread (10 % to 90 %) | ns here |",
        "|---|--:|--:|--:|",
    ]
    lines += [
        f"| {row.name} | {row.ratio:.2f} | {row.low:.2f} to {row.high:.2f} | {row.nanoseconds:.0f} |"
        for row in rows
    ]
    return "\n".join(lines)


def heading() -> str:
    names = ("anyio", "attrs", "tenacity", "trio")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return (
        f"## CPython {platform.python_version()}\n\n"
        f"{versions}. W is `async def w(*a, **k): return await f(*a, **k)`; everything else is in multiples of it. "
        "Every call succeeds at once unless the row says otherwise.\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds: seconds, and more spread"
    )
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    options = parser.parse_args()
    rounds, calls = (7, 1000) if options.quick else (41, 5000)

    async def rows_of(contenders: object) -> Sequence[Row]:
        return await measure(contenders(), rounds=rounds, calls=calls)  # type: ignore[operator]

    tables = {
        "asyncio": asyncio.run(rows_of(on_asyncio)),
        "trio": anyio.run(rows_of, on_trio, backend="trio"),
    }
    text = heading() + "\n" + "\n\n".join(markdown(*table) for table in tables.items()) + "\n"
    sys.stdout.write(text)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    if options.json:
        plain = {name: [attrs.asdict(row) for row in rows] for name, rows in tables.items()}
        options.json.write_text(json.dumps(plain, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
