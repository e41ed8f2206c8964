"""
Interleaved rounds: every contender in turn, many times, so that a noisy minute is everybody's; medians and spread.

The unit is W, ``async def w(*a, **k): return await f(*a, **k)``. Absolute times are noise; ratios of one run are not.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

import attrs

Contender = Callable[[int], Awaitable[object]]


@attrs.frozen
class Row:
    """One contender's figures: median nanoseconds per call, ratio to W, and the spread of that ratio."""

    name: str
    nanoseconds: float
    ratio: float
    low: float
    high: float


async def _one(contender: Contender, calls: int) -> float:
    started = time.perf_counter_ns()
    for _ in range(calls):
        await contender(1)
    return (time.perf_counter_ns() - started) / calls


async def measure(
    contenders: dict[str, Contender], *, rounds: int, calls: int, unit: str = "W"
) -> Sequence[Row]:
    """
    Rows in the order given.

    Args:
        contenders: By name; *unit* must be among them.
        rounds: How often each is timed.
        calls: Calls per timing.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    ratios: dict[str, list[float]] = {name: [] for name in contenders}
    for contender in contenders.values():
        await _one(contender, calls // 4)
    for _ in range(rounds):
        this_round = {name: await _one(contender, calls) for name, contender in contenders.items()}
        for name, taken in this_round.items():
            times[name].append(taken)
            ratios[name].append(taken / this_round[unit])
    rows = []
    for name in contenders:
        deciles = statistics.quantiles(ratios[name], n=10)
        ratio = statistics.median(ratios[name])
        rows.append(Row(name, statistics.median(times[name]), ratio, deciles[0], deciles[-1]))
    return rows
