"""
Play the plans and print the tables: ``python -m benchmarks.outcomes [PLAN ...] [--quick] [--json FILE] [--svg DIR]``.

All twelve plans, the days and the trip conditions take four minutes of one core, two of two; ``--quick`` plays the
plans with a fifth of the calls and an hour for a day. With plans named, only these are played.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.outcomes.measure import WORKERS, measure, plain, write_pictures
from benchmarks.outcomes.plans import PLANS
from benchmarks.outcomes.report import report

__all__ = ["main"]


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it as a command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outcomes")
    parser.add_argument(
        "plans", nargs="*", metavar="PLAN", help=f"of: {', '.join(PLANS)}; default: all"
    )
    parser.add_argument("--quick", action="store_true", help="a fifth of the calls: half a minute")
    parser.add_argument(
        "--seed", type=int, default=1, help="of arrivals, work and jitter; default 1"
    )
    parser.add_argument(
        "--workers", type=int, default=WORKERS, help="processes; default %(default)s"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--svg", type=Path, metavar="DIR", help="write a picture of each plan here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables here")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.plans if name not in PLANS]:
        parser.error(f"no plan is called {unknown[0]!r}; there are: {', '.join(PLANS)}")
    results, stories = measure(
        options.plans, quick=options.quick, seed=options.seed, workers=options.workers, say=_say
    )
    text = report(results)
    sys.stdout.write(text)
    if options.markdown:
        options.markdown.parent.mkdir(parents=True, exist_ok=True)
        options.markdown.write_text(text, encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(plain(results), indent=1) + "\n", encoding="utf-8")
    if options.svg:
        write_pictures(options.svg, stories)
    return 0


if __name__ == "__main__":
    sys.exit(main())
