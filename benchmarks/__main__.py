"""
What a guard costs, alone and under load, and what it does there, beside its rivals.

Parts: cost, concurrency, sockets, threads, windows, memory, startup, verdicts; without a name all of them. The quick
run takes about a minute. ``python -m benchmarks.outcomes`` plays the fault plans.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.concurrency import TASKS
from benchmarks.field import gather
from benchmarks.picture import drawn, lines_of
from benchmarks.report import Options, Table, heading

__all__ = ["PARTS", "main"]

PARTS = ("cost", "concurrency", "sockets", "threads", "windows", "memory", "startup", "verdicts")
_W = (
    "W is `async def w(*a, **k): return await f(*a, **k)`, the cheapest generic wrapper Python allows. "
    "Contenders are measured in turn, in rounds of changing order; what is shown is the median, with the spread "
    "of the rounds. Settings are equal: 5 failures open, half of a window where there is one; a break of 30 s, "
    "one probe, 3 attempts without a wait, a timeout of 5 s."
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
        "--svg", type=Path, metavar="FILE", help="with concurrency: draw the picture here"
    )
    options = parser.parse_args(given)
    options.parts = options.parts or list(PARTS)
    if unknown := sorted({*options.parts} - {*PARTS}):
        parser.error(f"no such part: {', '.join(unknown)} (there are {', '.join(PARTS)})")
    if options.svg and "concurrency" not in options.parts:
        parser.error("--svg draws what the part concurrency measures")
    return options


def _say(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def main(given: Sequence[str] | None = None) -> int:
    """Measure the parts that were asked for, and write them where they were asked for."""
    options = _arguments(given)
    field = gather()
    how = Options(quick=options.quick, instructions=options.instructions, field=field, say=_say)
    found: dict[str, list[Table]] = {}
    for part in PARTS:
        if part in options.parts:
            found[part] = importlib.import_module(f"benchmarks.{part}").run(how)
    _say("")
    timed = [part for part in found if part != "verdicts"]
    about = (
        [heading(), _W, *(["A quick run."] if options.quick else []), field.table.markdown()]
        if timed
        else []
    )
    sections = [f"## {part.capitalize()}" for part in found]
    texts = list(about)
    for title, tables in zip(sections, found.values(), strict=True):
        if timed:
            texts.append(title)
        texts += [table.markdown() for table in tables]
    text = "\n\n".join(texts) + "\n"
    sys.stdout.write(text)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    if options.json:
        plain = {
            "python": platform.python_version(),
            "quick": options.quick,
            "field": field.table.plain(),
            "parts": {
                part: {table.name: table.plain() for table in tables}
                for part, tables in found.items()
            },
        }
        options.json.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    if options.svg:
        (table,) = (table for table in found["concurrency"] if table.name == TASKS)
        subtitle = (
            "Retry, circuit breaker and timeout around a call that suspends once. W, the cheapest generic "
            f"wrapper, is 1.\nBars: 10 % to 90 % of the rounds. CPython {platform.python_version()}."
        )
        options.svg.write_text(drawn(lines_of(table), subtitle=subtitle), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
