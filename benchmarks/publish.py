"""
Write what is committed: tables, figures and pictures of this Python, and what all Pythons come to.

``python -m benchmarks.publish`` is what ``nox -s bench`` runs on each Python, one after the other, on a quiet machine;
nothing under benchmarks/results/ is written by hand. What runs in virtual time is the same on every Python: the newest
one writes it, the others play the fault plans with a fifth of the calls to see that it is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import __main__ as command
from benchmarks import compare, cost, instructions, verdicts
from benchmarks.field import gather
from benchmarks.outcomes import measure as outcomes
from benchmarks.outcomes.plans import PLANS
from benchmarks.outcomes.report import report
from benchmarks.report import Options
from benchmarks.summary import NEWEST, read, write_index

__all__ = ["RESULTS", "main", "publish"]

_ROOT = Path(__file__).resolve().parents[1]
RESULTS = _ROOT / "benchmarks" / "results"


class _Progress:
    """Lines with the time since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._last = ""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def __call__(self, text: str) -> None:
        subject = text.partition(":")[0]
        if subject != self._last or sys.stderr.isatty():
            self._last = subject
            sys.stderr.write(f"{self.seconds:6.0f} s  {text}\n")


def this_python() -> str:
    """As in the names of the files."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _machine() -> str:
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def _write(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _write_outcomes(folder: Path, say: Callable[[str], object]) -> None:
    results, stories = outcomes.measure(workers=outcomes.WORKERS, say=say)
    (folder / "outcomes.md").write_text(report(results), encoding="utf-8")
    _write(folder / "outcomes.json", outcomes.plain(results))
    outcomes.write_pictures(folder / "outcomes", stories)


def _plans_again(say: Callable[[str], object]) -> dict[str, Any]:
    """Figures of the plans with a fifth of the calls: what a Python is compared with the newest by."""
    results, _ = outcomes.measure([*PLANS], quick=True, workers=outcomes.WORKERS, say=say)
    figures: dict[str, Any] = outcomes.plain(results)["figures"]
    return figures


def publish(
    folder: Path, readme: Path, *, quick: bool = False, keep_outcomes: bool = False
) -> None:
    """Everything of this Python, into *folder*."""
    say = _Progress()
    python = this_python()
    folder.mkdir(parents=True, exist_ok=True)
    options = Options(quick=quick, field=gather(), say=say)
    # First what wants a quiet machine, alone; then what does not, on all cores.
    found = command.measured(command.TIMED, options)
    say("cost, a second run")
    second = {"cost": cost.again(options)}
    with ThreadPoolExecutor(1) as pool:
        counting = pool.submit(instructions.table, options)
        judged = verdicts.run(options)
        if python == NEWEST and not keep_outcomes:
            _write_outcomes(folder, say)
        figures = _plans_again(say)
        found["cost"].append(counting.result())
    data = command.plain(found | {"verdicts": judged}, options)
    data |= {"machine": _machine(), "minutes": round(say.seconds / 60, 1)}
    fifth = folder / "outcomes-fifth.json"
    if python == NEWEST:
        text = "\n\n".join(each.markdown() for each in judged) + "\n"
        (folder / "verdicts.md").write_text(text, encoding="utf-8")
        _write(fifth, figures)
    elif theirs := read(fifth):
        differing = [plan for plan in theirs if figures.get(plan) != theirs[plan]]
        data["outcomes"] = {"differing": differing}
    _write(folder / f"{python}.json", data)
    repeated = command.plain(second, options)
    _write(folder / f"{python}-again.json", repeated)
    title = "The headline ratios, and those of a second run"
    table = compare.table_of(
        compare.compared(compare.ratios_of(data), compare.ratios_of(repeated)), title=title
    )
    page = command.page(found | {"a second run": [table]}, options)
    (folder / f"{python}.md").write_text(page, encoding="utf-8")
    picture = command.concurrency_picture(found["concurrency"])
    (folder / f"{python}.svg").write_text(picture, encoding="utf-8")
    write_index(folder, readme)
    say("done")


def main(given: Sequence[str] | None = None) -> int:
    """Write it all, or the index alone."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publish", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="few rounds of what is timed: a preliminary run"
    )
    parser.add_argument(
        "--keep-outcomes", action="store_true", help="do not play the fault plans again"
    )
    parser.add_argument(
        "--index", action="store_true", help="only what is made of the JSON files that are there"
    )
    parser.add_argument("--folder", type=Path, default=RESULTS, help="default benchmarks/results")
    parser.add_argument(
        "--readme", type=Path, default=_ROOT / "README.md", help="default README.md"
    )
    options = parser.parse_args(given)
    if options.index:
        write_index(options.folder, options.readme)
    else:
        publish(
            options.folder, options.readme, quick=options.quick, keep_outcomes=options.keep_outcomes
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
