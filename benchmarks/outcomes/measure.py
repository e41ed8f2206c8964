"""
Playing everything: plans, days and trip conditions, in two processes where there are two cores.

Virtual time is not disturbed by a neighbour, and the same seed gives the same results in any number of processes.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import attrs

from benchmarks.outcomes.contenders import CONTENDERS, missing
from benchmarks.outcomes.figures import figures_of
from benchmarks.outcomes.openings import BREAKERS, DAY, TRAFFIC, openings
from benchmarks.outcomes.pictures import picture
from benchmarks.outcomes.plans import PLANS
from benchmarks.outcomes.play import BASE_RATE, Story, play
from benchmarks.outcomes.report import Results, picture_name, tables
from benchmarks.outcomes.trips import CONDITIONS, Condition, judge
from benchmarks.report import Options, Table

__all__ = ["WORKERS", "measure", "plain", "run", "write_pictures"]

WORKERS = 2
_QUICK_RATE = 20.0
_QUICK_DAY = 3600.0


def _story(plan: str, contender: str, seed: int, rate: float) -> Story:
    return play(PLANS[plan], CONTENDERS[contender], seed=seed, rate=rate)


def _openings(breaker: str, traffic: str, seconds: float, seed: int) -> int:
    found = next(each for each in BREAKERS if each.name == breaker)
    return openings(found, TRAFFIC[traffic], seconds=seconds, seed=seed)


def _condition(name: str, seed: int) -> Condition:
    return judge(name, seed=seed)


class _Here:
    """In this process, when the result is asked for."""

    def submit(self, work: Callable[..., Any], *args: Any) -> Any:
        return _Later(work, args)


@attrs.frozen
class _Later:
    work: Callable[..., Any]
    args: tuple[Any, ...]

    def result(self) -> Any:
        return self.work(*self.args)


def measure(
    plans: Sequence[str] = (),
    *,
    quick: bool = False,
    seed: int = 1,
    workers: int = 1,
    say: Callable[[str], object] = lambda _: None,
) -> tuple[Results, Mapping[str, Sequence[Story]]]:
    """
    Everything the report needs, and the stories for the pictures.

    Args:
        plans: Names in `PLANS`. Default: all, and the days too.
        quick: A fifth of the calls, an hour instead of a day, no other trip conditions.
        seed: The same seed, the same results.
        workers: Processes.
        say: Where progress goes.
    """
    if workers == 1:
        return _measured(_Here(), plans, quick=quick, seed=seed, say=say)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        return _measured(pool, plans, quick=quick, seed=seed, say=say)


def _measured(
    pool: Any, plans: Sequence[str], *, quick: bool, seed: int, say: Callable[[str], object]
) -> tuple[Results, Mapping[str, Sequence[Story]]]:
    rate, day = (_QUICK_RATE, _QUICK_DAY) if quick else (BASE_RATE, DAY)
    absent = {name for contender in CONTENDERS.values() for name in missing(contender.needs)}
    present = [each.key for each in CONTENDERS.values() if not missing(each.needs)]
    # The days are the longest, so they begin first.
    days = {} if plans else {
        breaker.name: {
            traffic: pool.submit(_openings, breaker.name, traffic, day, seed) for traffic in TRAFFIC
        }
        for breaker in BREAKERS
        if not missing(breaker.needs)
    }  # fmt: skip
    trips = {} if plans or quick else {name: pool.submit(_condition, name, seed) for name in CONDITIONS}  # fmt: skip
    playing = {
        plan: [pool.submit(_story, plan, key, seed, rate) for key in present]
        for plan in plans or PLANS
    }
    opened: dict[str, dict[str, int]] = {}
    for breaker, kinds in days.items():
        say(f"outcomes: days of {breaker}")
        opened[breaker] = {traffic: each.result() for traffic, each in kinds.items()}
    conditions = {}
    for name, each in trips.items():
        say(f"outcomes: {name}")
        conditions[name] = each.result()
    stories: dict[str, list[Story]] = {}
    for plan, played in playing.items():
        say(f"outcomes: {plan}")
        stories[plan] = [each.result() for each in played]
    figures = {
        plan: {story.contender: figures_of(story) for story in played}
        for plan, played in stories.items()
    }
    results = Results(
        seed=seed, rate=rate, figures=figures, openings=opened, day=day, trips=conditions,
        absent=sorted(absent),
    )  # fmt: skip
    return results, stories


def write_pictures(folder: Path, stories: Mapping[str, Sequence[Story]]) -> None:
    """A picture of each plan."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, played in stories.items():
        (folder / picture_name(name)).write_text(picture(PLANS[name], played), encoding="utf-8")


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


def run(options: Options) -> list[Table]:
    """The tables, for ``python -m benchmarks``."""
    results, stories = measure(quick=options.quick, workers=WORKERS, say=options.say)
    if options.pictures:
        write_pictures(options.pictures, stories)
    return tables(results)
