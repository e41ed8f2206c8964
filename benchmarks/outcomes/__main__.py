"""
Play the plans and print the tables: ``python -m benchmarks.outcomes [PLAN ...] [--quick] [--json FILE] [--svg DIR]``.

All twelve plans, the days and the trip conditions take four minutes on a quiet machine; ``--quick`` plays the plans
with a quarter of the calls and an hour for a day. With plans named, only these are played.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from benchmarks.outcomes.contenders import CONTENDERS, missing
from benchmarks.outcomes.figures import figures_of
from benchmarks.outcomes.openings import BREAKERS, DAY, TRAFFIC, openings
from benchmarks.outcomes.pictures import picture
from benchmarks.outcomes.plans import PLANS
from benchmarks.outcomes.play import BASE_RATE, Story, play
from benchmarks.outcomes.report import Results, picture_name, report
from benchmarks.outcomes.trips import CONDITIONS, judge

__all__ = ["main", "measure"]

_QUICK_RATE = 25.0
_QUICK_DAY = 3600.0


def measure(
    plans: Sequence[str] = (), *, quick: bool = False, seed: int = 1
) -> tuple[Results, Mapping[str, Sequence[Story]]]:
    """
    Everything the report needs, and the stories for the pictures.

    Args:
        plans: Names in `PLANS`. Default: all, and the days too.
        quick: A quarter of the calls, an hour instead of a day, no other trip conditions.
        seed: The same seed, the same results.
    """
    rate, day = (_QUICK_RATE, _QUICK_DAY) if quick else (BASE_RATE, DAY)
    absent = {name for contender in CONTENDERS.values() for name in missing(contender.needs)}
    present = [each for each in CONTENDERS.values() if not missing(each.needs)]
    stories: dict[str, list[Story]] = {}
    for name in plans or PLANS:
        began = time.perf_counter()
        stories[name] = [play(PLANS[name], each, seed=seed, rate=rate) for each in present]
        _say(f"{name}: {time.perf_counter() - began:.1f} s")
    days: dict[str, dict[str, int]] = {}
    trips = {}
    if not plans:
        for breaker in BREAKERS:
            if not missing(breaker.needs):
                days[breaker.name] = {
                    traffic.name: openings(breaker, traffic, seconds=day, seed=seed)
                    for traffic in TRAFFIC.values()
                }
        _say("days: done")
    if not plans and not quick:
        trips = {name: judge(name, seed=seed) for name in CONDITIONS}
    figures = {
        name: {story.contender: figures_of(story) for story in played}
        for name, played in stories.items()
    }
    results = Results(
        seed=seed, rate=rate, figures=figures, openings=days, day=day, trips=trips,
        absent=sorted(absent),
    )  # fmt: skip
    return results, stories


def plain(results: Results) -> dict[str, Any]:
    """The results as JSON can hold them: what never happens is "never", and a pair of keys is one."""

    def value(each: object) -> object:
        return "never" if isinstance(each, float) and math.isinf(each) else each

    return {
        "seed": results.seed,
        "rate": results.rate,
        "figures": {
            plan: {
                contender: {name: value(each) for name, each in attrs.asdict(figures).items()}
                for contender, figures in by.items()
            }
            for plan, by in results.figures.items()
        },
        "openings": results.openings,
        "day": results.day,
        "trips": {
            name: {
                "noticed": {
                    f"{fault} at {rate:g}/s": at for (fault, rate), at in each.noticed.items()
                },
                "openings": each.openings,
            }
            for name, each in results.trips.items()
        },
        "absent": list(results.absent),
    }


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it as a command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outcomes")
    parser.add_argument(
        "plans", nargs="*", metavar="PLAN", help=f"of: {', '.join(PLANS)}; default: all"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a quarter of the calls: half a minute"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="of arrivals, work and jitter; default 1"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--svg", type=Path, metavar="DIR", help="write a picture of each plan here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables here")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.plans if name not in PLANS]:
        parser.error(f"no plan is called {unknown[0]!r}; there are: {', '.join(PLANS)}")
    results, stories = measure(options.plans, quick=options.quick, seed=options.seed)
    text = report(results)
    sys.stdout.write(text)
    if options.markdown:
        options.markdown.parent.mkdir(parents=True, exist_ok=True)
        options.markdown.write_text(text, encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(plain(results), indent=1) + "\n", encoding="utf-8")
    if options.svg:
        options.svg.mkdir(parents=True, exist_ok=True)
        for name, played in stories.items():
            drawn = picture(PLANS[name], played)
            (options.svg / picture_name(name)).write_text(drawn, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
