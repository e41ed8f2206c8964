"""
Windows: what a breaker's call costs when its window is 10 to 100,000 calls long, and full.
"""

from __future__ import annotations

import asyncio
import contextlib

from benchmarks import floors
from benchmarks.report import Options, Table
from benchmarks.rivals import Adapter, Settings
from benchmarks.rounds import Contender, measure

__all__ = ["run"]

_SLOW_TO_FILL = {"pyresilience": 1_000}


def _every_tenth_fails() -> Contender:
    number = 0

    async def answer(value: int) -> int:
        nonlocal number
        number += 1
        if number % 10 == 0:
            raise ConnectionError
        return value

    return answer


def _caught(fn: Contender) -> Contender:
    async def call(value: int) -> None:
        with contextlib.suppress(ConnectionError):
            await fn(value)

    return call


async def _filled(fn: Contender, calls: int) -> Contender:
    for _ in range(calls):
        await fn(1)
    return fn


async def _contenders(name: str, adapter: Adapter, size: int) -> dict[str, Contender]:
    settings = Settings(kind="count", window=size)
    return {
        f"{name}: all succeed": await _filled(adapter.breaker(settings).wrap(floors.callee), size),
        f"{name}: every tenth fails": await _filled(
            _caught(adapter.breaker(settings).wrap(_every_tenth_fails())), size
        ),
    }


async def _table(options: Options) -> Table:
    sizes = (10, 100, 1_000, 10_000) if options.quick else (10, 100, 1_000, 10_000, 100_000)
    rows: list[list[object]] = []
    for size in sizes:
        options.say(f"windows: {size:,} calls")
        contenders: dict[str, Contender] = {"W": floors.w}
        for name, adapter in options.field.having("breaker"):
            if "count" in adapter.kinds and size <= _SLOW_TO_FILL.get(name, size):
                contenders |= await _contenders(name, adapter, size)
        rounds, seconds = (7, 0.001) if options.quick else (41, 0.003)
        measured = await measure(contenders, rounds=rounds, seconds=seconds)
        rows += [
            [size, row.name, row.ratio, f"{row.low:.2f} to {row.high:.2f}", row.nanoseconds]
            for row in measured
            if row.name != "W"
        ]
    rows.sort(key=lambda row: (str(row[1]), row[0]))
    return Table(
        name="windows",
        title="Count windows, filled before the clock starts",
        columns={
            "calls": ",d",
            "breaker": "",
            "x W": ".2f",
            "spread (10 % to 90 %)": "",
            "ns here": ".0f",
        },
        rows=rows,
        notes=[
            (
                "pyresilience looks at the whole window on every call; it is not measured beyond "
                f"{_SLOW_TO_FILL['pyresilience']:,} calls, where filling it alone would take minutes."
            )
        ],
    )


def run(options: Options) -> list[Table]:
    """One table."""
    return [asyncio.run(_table(options))]
