"""
Instructions per call, counted by callgrind: repeatable to a fraction of a percent, on a noisy machine too.

One process makes the calls of all contenders, a few and then many; the difference is the calls' own. It tells
callgrind where they begin and end by calling ``os.getsid``, which nobody else does: callgrind writes its counts down
whenever that function is entered. ``python -m benchmarks.instructions NAME ...`` is that process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from benchmarks import floors
from benchmarks.report import Options, Table
from benchmarks.rivals import OURS, RIVALS, Missing, Settings, load
from benchmarks.rivals.ours import circuit, pipeline, retrying
from benchmarks.rounds import Contender
from resilience import Bulkhead, Timeout

__all__ = ["CANONICAL", "FAILING", "THWARTED", "contender", "counted", "table", "unmeasured"]

CANONICAL = "resilience: canonical pipeline"
"""A total timeout, a retry, a breaker, a bulkhead and a timeout for each attempt."""
FAILING = "resilience: a failing call"
"""Through a breaker that does not open."""
THWARTED = "resilience: three failing attempts"
"""Through a retry without a wait, such a breaker and a timeout."""
_ROOT = Path(__file__).resolve().parents[1]
_WARM, _FEW, _MANY = 30, 30, 150
_PATIENT = Settings(kind="time", failures=10**9)
_PARTS = ("breaker", "timeout", "layers")
_TOTAL = re.compile(r"^totals: (\d+)", re.MULTILINE)


def names(options: Options) -> list[str]:
    """What is counted; the quick run leaves the rivals out."""
    found = [
        "bare await",
        "W",
        "asyncio.timeout",
        "raised and caught",
        "resilience: rejected",
        FAILING,
        THWARTED,
        CANONICAL,
    ]
    for part in _PARTS:
        for name, _ in options.field.having(part):
            if name == OURS.name or not options.quick:
                found.append(f"{name}: {part}")
    return found  # fmt: skip


def _rejected() -> Contender:
    isolated = circuit(Settings())
    isolated.isolate()
    return _caught(pipeline(isolated).wrap(floors.callee))


def _caught(fn: Contender) -> Contender:
    async def caught(value: int) -> None:
        with contextlib.suppress(Exception):
            await fn(value)

    return caught


def _failing() -> Contender:
    return _caught(pipeline(circuit(_PATIENT)).wrap(floors.failing))


def _thwarted() -> Contender:
    guarded = pipeline(retrying(_PATIENT), circuit(_PATIENT), Timeout(_PATIENT.seconds))
    return _caught(guarded.wrap(floors.failing))


def _canonical() -> Contender:
    settings = Settings(kind="time")
    guarded = pipeline(
        Timeout(60.0),
        retrying(settings),
        circuit(settings),
        Bulkhead(100),
        Timeout(settings.seconds),
    )
    return guarded.wrap(floors.callee)


def contender(name: str) -> Contender:
    """Who has this name in the table."""
    plain: dict[str, Callable[[], Contender]] = {
        "bare await": lambda: floors.callee,
        "W": lambda: floors.w,
        "asyncio.timeout": lambda: floors.asyncio_timeout,
        "raised and caught": lambda: floors.raised_and_caught,
        "resilience: rejected": _rejected,
        FAILING: _failing,
        THWARTED: _thwarted,
        CANONICAL: _canonical,
    }
    if name in plain:
        return plain[name]()
    library, _, part = name.partition(": ")
    adapter = load(next(each for each in (OURS, *RIVALS) if each.name == library))
    if isinstance(adapter, Missing):
        raise SystemExit(f"{library}: {adapter.reason}")
    settings = Settings(kind=adapter.kinds[0]) if adapter.kinds else Settings()
    if part == "breaker":
        return adapter.breaker(settings).wrap(floors.callee)
    return getattr(adapter, part)(floors.callee, settings)  # type: ignore[no-any-return]


async def _calls(names: Iterable[str]) -> None:
    for name in names:
        call = contender(name)
        for calls in (_WARM, _FEW, _MANY):
            for _ in range(calls):
                await call(1)
            os.getsid(0)  # the counts since the last one are written down and begin again at 0


def unmeasured(more: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that coverage must not trace: it would count the tracer."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return {**kept, **more}


def counted(valgrind: str, names: Iterable[str]) -> dict[str, float]:
    """
    Instructions of one call of each.

    Raises:
        RuntimeError: callgrind failed, or did not write what it was told to.
    """
    names = list(names)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [valgrind, "--tool=callgrind", f"--callgrind-out-file={folder}/out", "--dump-before=getsid",
             sys.executable, "-m", "benchmarks.instructions", *names],
            cwd=_ROOT,
            env=unmeasured({"PYTHONHASHSEED": "0"}),
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )  # fmt: skip
        dumps = [Path(folder, f"out.{number}") for number in range(1, 3 * len(names) + 1)]
        if done.returncode or not all(each.exists() for each in dumps):
            raise RuntimeError(f"callgrind failed:\n{done.stderr[-2000:]}")
        totals = [int(_TOTAL.findall(each.read_text(encoding="utf-8"))[-1]) for each in dumps]
    return {
        name: (totals[3 * place + 2] - totals[3 * place + 1]) / (_MANY - _FEW)
        for place, name in enumerate(names)
    }


def table(options: Options) -> Table:
    """The counts, or the line that says why there are none."""
    columns = {"call": "", "x W": ".2f", "instructions": ",.0f"}
    title = "Instructions per call (callgrind)"
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        note = "Not counted: valgrind is not installed."
        return Table(name="instructions", title=title, columns=columns, rows=[], notes=[note])
    options.say("instructions")
    counts: Mapping[str, float] = counted(valgrind, names(options))
    rows = [[name, count / counts["W"], count] for name, count in counts.items()]
    notes = [
        (
            "Successful calls, unless the name says otherwise; the loop around the call is in all of them. What takes "
            "long for few instructions (a system call, a cache miss) looks cheaper here than by the clock."
        )
    ]
    return Table(
        name="instructions",
        title=title,
        columns=columns,
        rows=sorted(rows, key=lambda row: row[1]),
        notes=notes,
    )


if __name__ == "__main__":
    asyncio.run(_calls(sys.argv[1:]))
