"""
Correctness under load: the same situations for every breaker, and what it did in them.

Not about speed, so it runs in virtual time and gives the same table on every machine. Each library runs in a process of
its own, in which the clocks are replaced before anything of it is imported.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.report import Options, Table, found_version
from benchmarks.rivals import OURS, RIVALS, Rival
from benchmarks.verdicts.situations import SITUATIONS, SKIPPED

__all__ = ["run", "verdicts_of"]

_NOTE = (
    "Set to open after 3 failing calls, a break of 30 s, one probe, one success to close, unless a line says "
    "otherwise. A breaker that can count in several ways (in a row, a rate of a count window, a rate of a time "
    "window) is put through each situation with each of them, and the cell tells the worst. asyncio, virtual "
    "time; CPython {python}. A dash: there is no such setting."
)
_INTERLOCK = (
    "interlock-cb, ignored probe: with one call permitted while half-open, as here, a probe that learns nothing "
    "ends the round; with two or more its place goes to the next caller."
)
_ROOT = Path(__file__).resolve().parents[2]
_AT_ONCE = 2  # processes: virtual time is not disturbed by a neighbour


def verdicts_of(rival: Rival) -> dict[str, Any]:
    """What one library did: ``{"version": ..., "missing": reason or None, "verdicts": {situation: [right, did]}}``."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.verdicts.worker", rival.name],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the verdicts of {rival.name} could not be had:\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def run(options: Options) -> list[Table]:
    """The table of verdicts."""
    columns: dict[str, str] = {"situation": ""}
    cells: list[list[str]] = [[each.title] for each in SITUATIONS]
    scores: list[str] = ["right of judged"]
    judges: list[str] = []
    absent = []
    options.say("verdicts")
    field = (OURS, *RIVALS)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(pool.map(verdicts_of, field))
    for rival, answer in zip(field, answers, strict=True):
        if answer["missing"] is not None:
            absent.append(f"{rival.name} {rival.version or ''}: {answer['missing']}")
            continue
        version = found_version(rival.distribution) if rival is not OURS else "this tree"
        columns[f"{rival.name} ({version})"] = ""
        judges.append(rival.name)
        judged = right = 0
        for row, situation in zip(cells, SITUATIONS, strict=True):
            verdict, did = answer["verdicts"][situation.name]
            judged += verdict != SKIPPED
            right += verdict == "right"
            row.append({"right": "right", "wrong": f"**{did}**"}.get(verdict, did))
        scores.append(f"{right} of {judged}")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    notes = [
        _NOTE.format(python=python),
        "\n".join(f"- **{each.title}.** {each.definition}" for each in SITUATIONS),
    ]
    if "interlock-cb" in judges:
        notes.append(_INTERLOCK)
    if absent:
        notes.append("Not judged: " + "; ".join(absent) + ".")
    return [
        Table(
            name="verdicts",
            title="Correctness under load",
            columns=columns,
            rows=[*cells, scores],
            notes=notes,
        )
    ]
