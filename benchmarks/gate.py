"""
The gate: what must not become dearer, as ratios to W, with room for noise.

Where valgrind is, instructions are counted, which gives the same ratio on a busy machine. Where it is not, time is
measured, a good one of many rounds, and the limits are three times as wide. ``python -m benchmarks.gate`` prints the
ratios beside the limits and ends with status 1 if one is exceeded.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.instructions import CANONICAL, FAILING, THWARTED, contender, counted, unmeasured
from benchmarks.rounds import measure

__all__ = ["LIMITS", "exceeded", "main", "ratios"]

_ROOT = Path(__file__).resolve().parents[1]
_ROOM_FOR_TIME = 3.0
_REJECTED = "resilience: rejected"
LIMITS: Mapping[str, float] = {
    "resilience: breaker": 3.2,
    "resilience: timeout": 4.3,
    _REJECTED: 8.4,
    FAILING: 14.7,
    THWARTED: 110.0,
    CANONICAL: 9.8,
}
"""
Instructions in multiples of W, for every Python.

A quarter above the dearest of 3.11, 3.12 and 3.13 when they were set: 2.5, 3.5, 6.7, 11.8, 88 and 7.8. Who makes
one of them cheaper lowers its limit.
"""


def exceeded(found: Mapping[str, float], *, room: float = 1.0) -> list[str]:
    """A sentence for each ratio above its limit, which is *room* times as wide as it stands above."""
    return [
        f"{name}: {found[name]:.2f} W, at most {limit * room:.2f}"
        for name, limit in LIMITS.items()
        if found[name] > limit * room
    ]


async def _timed(names: list[str]) -> dict[str, float]:
    rows = await measure({name: contender(name) for name in names}, rounds=25, seconds=0.002)
    return {row.name: row.low for row in rows}


def _by_the_clock(names: list[str]) -> dict[str, float]:
    """In a process of its own, which nobody traces."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gate", "--timed", *names],
        cwd=_ROOT,
        env=unmeasured({}),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def ratios() -> tuple[Mapping[str, float], float]:
    """
    What each costs in multiples of W, and by how much limits are to be widened: 1 for instructions.
    """
    names = ["W", *LIMITS]
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        return _by_the_clock(names), _ROOM_FOR_TIME
    counts = counted(valgrind, names)
    return {name: count / counts["W"] for name, count in counts.items()}, 1.0


def main(given: list[str]) -> int:
    """Print them, and judge them."""
    if given[:1] == ["--timed"]:
        sys.stdout.write(json.dumps(asyncio.run(_timed(given[1:]))))
        return 0
    found, room = ratios()
    for name, limit in LIMITS.items():
        sys.stdout.write(f"{name}: {found[name]:.2f} W, at most {limit * room:.2f}\n")
    return 1 if exceeded(found, room=room) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
