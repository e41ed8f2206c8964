"""
Instructions per call, counted by callgrind: repeatable to a fraction of a percent, on a noisy machine too.

Each contender runs in a process of its own, twice, with few calls and with many; the difference is the calls'.
``python -m benchmarks.instructions NAME CALLS`` is that process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import floors
from benchmarks.report import Options, Table
from benchmarks.rivals import OURS, RIVALS, Missing, Settings, load
from benchmarks.rivals.ours import circuit, pipeline
from benchmarks.rounds import Contender

__all__ = ["table"]

_ROOT = Path(__file__).resolve().parents[1]
_FEW, _MANY = 200, 1200
_COUNT = re.compile(r"Collected : (\d+)")

_OURS_ONLY = ("resilience: rejected",)
_PARTS = ("breaker", "timeout", "layers")


def names(options: Options) -> list[str]:
    """What is counted; the quick run leaves the rivals out."""
    found = ["bare await", "W", "asyncio.timeout", "raised and caught", *_OURS_ONLY]
    for part in _PARTS:
        for name, _ in options.field.having(part):
            if name == OURS.name or not options.quick:
                found.append(f"{name}: {part}")
    return found


def _rejected() -> Contender:
    isolated = circuit(Settings())
    isolated.isolate()
    rejected = pipeline(isolated).wrap(floors.callee)

    async def caught(value: int) -> None:
        with contextlib.suppress(Exception):
            await rejected(value)

    return caught


def _contender(name: str) -> Contender:
    plain: dict[str, Callable[[], Contender]] = {
        "bare await": lambda: floors.callee,
        "W": lambda: floors.w,
        "asyncio.timeout": lambda: floors.asyncio_timeout,
        "raised and caught": lambda: floors.raised_and_caught,
        "resilience: rejected": _rejected,
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


async def _calls(name: str, calls: int) -> None:
    contender = _contender(name)
    for _ in range(calls):
        await contender(1)


def _counted(valgrind: str, name: str, calls: int) -> int:
    done = subprocess.run(
        [valgrind, "--tool=callgrind", f"--callgrind-out-file={os.devnull}", sys.executable,
         "-m", "benchmarks.instructions", name, str(calls)],
        cwd=_ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )  # fmt: skip
    found = _COUNT.search(done.stderr)
    if done.returncode or found is None:
        raise RuntimeError(f"callgrind failed on {name}:\n{done.stderr}")
    return int(found[1])


def table(options: Options) -> Table:
    """The counts, or the line that says why there are none."""
    columns = {"call": "", "instructions": ".0f", "x W": ".2f"}
    title = "Instructions per call (callgrind)"
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        note = "Not counted: valgrind is not installed."
        return Table(name="instructions", title=title, columns=columns, rows=[], notes=[note])
    counts = {}
    for name in names(options):
        options.say(f"instructions: {name}")
        counts[name] = (_counted(valgrind, name, _MANY) - _counted(valgrind, name, _FEW)) / (
            _MANY - _FEW
        )
    rows = [[name, count, count / counts["W"]] for name, count in counts.items()]
    notes = [
        "Successful calls, unless the name says otherwise; the loop around the call is in all of them."
    ]
    return Table(name="instructions", title=title, columns=columns, rows=rows, notes=notes)


if __name__ == "__main__":
    asyncio.run(_calls(sys.argv[1], int(sys.argv[2])))
