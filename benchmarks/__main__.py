"""
What a guard costs, alone and under load, and what it does there, beside its rivals.

Parts: cost, concurrency, sockets, threads, windows, memory, startup, verdicts, outcomes; without a name all of them.
The quick run takes less than a minute on a quiet machine. ``python -m benchmarks.outcomes`` plays single fault plans,
``python -m benchmarks.publish`` writes what is committed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.concurrency import TASKS
from benchmarks.field import gather
from benchmarks.picture import drawn, lines_of
from benchmarks.report import Options, Table, heading

__all__ = ["PARTS", "TIMED", "concurrency_picture", "main", "measured", "page", "plain"]

_MODULES = {"outcomes": "outcomes.measure"}
TIMED = ("cost", "concurrency", "sockets", "threads", "windows", "memory", "startup")
"""Parts that want a quiet machine; the others run in virtual time."""
PARTS = (*TIMED, "verdicts", "outcomes")
_W = (
    "W is `async def w(*a, **k): return await f(*a, **k)`, the cheapest generic wrapper Python allows. "
    "Contenders are measured in turn, in rounds of changing order; what is shown is the median, with the spread "
    "of the rounds. Time is the CPU time of the thread; latencies, sockets and threads go by the clock. Settings are "
    "equal: 5 failures open, half of a window where there is one; a break of 30 s, one probe, 3 attempts without a "
    "wait, a timeout of 5 s."
)


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="NAME", help=f"of {', '.join(PARTS)}")
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds and smaller loads, and more spread"
    )
    parser.add_argument(
        "--instructions", action="store_true", help="with cost: count instructions with callgrind"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables here")
    parser.add_argument(
        "--svg",
        type=Path,
        metavar="FILE",
        help="with concurrency: draw the picture here; with outcomes: those of the plans, in a "
        "folder of the same name",
    )
    options = parser.parse_args(given)
    options.parts = options.parts or list(PARTS)
    if unknown := sorted({*options.parts} - {*PARTS}):
        parser.error(f"no such part: {', '.join(unknown)} (there are {', '.join(PARTS)})")
    if options.svg and not {"concurrency", "outcomes"} & {*options.parts}:
        parser.error("--svg draws what the parts concurrency and outcomes measure")
    return options


def _say(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def measured(parts: Sequence[str], options: Options) -> dict[str, list[Table]]:
    """The tables of each part, in the order of `PARTS`."""
    return {
        part: importlib.import_module(f"benchmarks.{_MODULES.get(part, part)}").run(options)
        for part in PARTS
        if part in parts
    }


def page(found: Mapping[str, Sequence[Table]], options: Options) -> str:
    """Everything that was measured, in Markdown; with what it was measured, if time had a part in it."""
    timed = [part for part in found if part in TIMED]
    texts = []
    if timed:
        texts += [heading(), _W, *(["A quick run."] if options.quick else [])]
        texts.append(options.field.table.markdown())
    for part, tables in found.items():
        if timed:
            texts.append(f"## {part.capitalize()}")
        texts += [table.markdown() for table in tables]
    return "\n\n".join(texts) + "\n"


def plain(found: Mapping[str, Sequence[Table]], options: Options) -> dict[str, Any]:
    """The same for JSON."""
    return {
        "python": platform.python_version(),
        "quick": options.quick,
        "field": options.field.table.plain(),
        "parts": {
            part: {table.name: table.plain() for table in tables} for part, tables in found.items()
        },
    }


def concurrency_picture(tables: Sequence[Table]) -> str:
    """Cost against concurrency, as SVG."""
    (table,) = (table for table in tables if table.name == TASKS)
    subtitle = (
        "Retry, circuit breaker and timeout around a call that suspends once. W, the cheapest generic "
        f"wrapper, is 1.\nBars: 10 % to 90 % of the rounds. CPython {platform.python_version()}."
    )
    return drawn(lines_of(table), subtitle=subtitle)


def main(given: Sequence[str] | None = None) -> int:
    """Measure the parts that were asked for, and write them where they were asked for."""
    asked = _arguments(given)
    options = Options(
        quick=asked.quick, instructions=asked.instructions, field=gather(), say=_say,
        pictures=asked.svg and asked.svg.with_suffix(""),
    )  # fmt: skip
    found = measured(asked.parts, options)
    _say("")
    text = page(found, options)
    sys.stdout.write(text)
    if asked.markdown:
        asked.markdown.write_text(text, encoding="utf-8")
    if asked.json:
        data = json.dumps(plain(found, options), indent=1) + "\n"
        asked.json.write_text(data, encoding="utf-8")
    if asked.svg and "concurrency" in found:
        asked.svg.write_text(concurrency_picture(found["concurrency"]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
