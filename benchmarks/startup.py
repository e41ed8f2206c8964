"""
Startup: what it costs to import each library, to build its three layers and to wrap a function in them.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import floors
from benchmarks.report import Options, Table
from benchmarks.rivals import OURS, RIVALS, Settings
from benchmarks.rivals.ours import circuit, pipeline, retrying
from benchmarks.rounds import cost_table, rows_of, shuffled
from resilience import Timeout

__all__ = ["run"]

_ROOT = Path(__file__).resolve().parents[1]
_BASE = "anyio, attrs"
_OURS = "from resilience import CircuitBreaker, Pipeline, Retry, Timeout"
"""As an application imports it; ``import resilience`` alone loads a directory of names."""


def _import_seconds(statement: str, bytecode: str) -> float:
    """CPU seconds of an import in a fresh interpreter, its start not counted; bytecode is kept in that folder."""
    code = f"import time; started = time.process_time(); {statement}; print(time.process_time() - started)"
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
    # Where it is set, each import would compile the sources again; installed packages come with bytecode.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return float(done.stdout)


def _imports_table(options: Options) -> Table:
    rounds = 2 if options.quick else 5
    statements = {
        _BASE: f"import {_BASE}",
        OURS.name: _OURS,
        f"{OURS.name}, no name of it yet": "import resilience",
        "asyncio": "import asyncio",
    }
    statements |= {
        rival.name: f"import {rival.imports}"
        for rival in RIVALS
        if rival.name in options.field.rivals
    }
    times: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as bytecode:
        for statement in statements.values():
            _import_seconds(statement, bytecode)  # writes the bytecode, and warms the disk cache
        for turn in range(rounds):
            options.say(f"startup: imports, round {turn + 1} of {rounds}")
            times.append(
                {
                    name: _import_seconds(statements[name], bytecode) * 1e9
                    for name in shuffled([*statements], turn)
                }
            )
    return cost_table(
        "import",
        "Import time",
        rows_of(times, _BASE),
        unit=_BASE,
        notes=[
            "CPU time in a fresh interpreter each, its own start not counted, bytecode cached.",
            f"{OURS.name}: `{_OURS}`; `import resilience` alone loads a directory of names.",
        ],
    )


def _timed(make: Callable[[], object], times: int) -> float:
    started = time.thread_time_ns()
    for _ in range(times):
        make()
    return (time.thread_time_ns() - started) / times


async def _builds_table(options: Options) -> Table:
    rounds, times = (7, 20) if options.quick else (21, 50)
    settings = Settings(kind="time")

    def built() -> object:
        return pipeline(retrying(settings), circuit(settings), Timeout(settings.seconds))

    ready = pipeline(retrying(settings), circuit(settings), Timeout(settings.seconds))
    made: dict[str, Callable[[], object]] = {
        "resilience: build the pipeline": built,
        "resilience: wrap a function": lambda: ready.wrap(floors.callee),
    }
    for name, adapter in options.field.stacks():
        kind = Settings(kind=adapter.kinds[0])
        made[f"{name}: build and wrap"] = lambda adapter=adapter, kind=kind: adapter.layers(
            floors.callee, kind
        )
    options.say("startup: builds")
    for make in made.values():
        _timed(make, times)
    found = [
        {name: _timed(made[name], times) / 1000 for name in shuffled([*made], turn)}
        for turn in range(rounds)
    ]
    rows = []
    for name in made:
        taken = sorted(each[name] for each in found)
        low, high = taken[len(taken) // 10], taken[-1 - len(taken) // 10]
        rows.append([name, statistics.median(taken), f"{low:.1f} to {high:.1f}"])
    rows.sort(key=lambda row: row[1])
    return Table(
        name="build",
        title="Building and wrapping, Retry + CircuitBreaker + Timeout",
        columns={"what": "", "µs here": ".1f", "spread (10 % to 90 %)": ""},
        rows=rows,
    )


def run(options: Options) -> list[Table]:
    """Import times, build times and wrap times."""
    return [_imports_table(options), asyncio.run(_builds_table(options))]
