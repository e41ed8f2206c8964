"""
Interleaved rounds: every contender in turn, many times, so that a noisy minute is everybody's; medians and spread.

The unit of most tables is W, ``async def w(*a, **k): return await f(*a, **k)``. Absolute times are noise; ratios of one
run are not. The order changes from round to round, so that nobody always follows the same neighbour, and everybody gets
a slice of time, not a number of calls: who takes a hundred times as long is called a hundredth as often, so that the
rounds are short and many. The time is the thread's CPU time: nothing here waits for anything, and what other processes
do is nobody's cost.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import attrs

from benchmarks.report import Table

__all__ = ["Contender", "Row", "cost_table", "measure", "rows_of", "shuffled"]

Contender = Callable[[int], Awaitable[object]]
_FEWEST = 8


@attrs.frozen
class Row:
    """One contender's figures: median nanoseconds per call, ratio to the unit, and the spread of that ratio."""

    name: str
    nanoseconds: float
    ratio: float
    low: float
    high: float


async def _one(contender: Contender, calls: int) -> float:
    started = time.thread_time_ns()
    for _ in range(calls):
        await contender(1)
    return (time.thread_time_ns() - started) / calls


async def _fitting(contender: Contender, seconds: float) -> int:
    """How many calls fill the slice, by the quickest of some trials; at least `_FEWEST`. They warm it up as well."""
    calls, quickest = _FEWEST, float("inf")
    while True:
        each = await _one(contender, calls) / 1e9
        quickest = min(quickest, each)
        if each * calls >= seconds / 4:
            return max(_FEWEST, round(seconds / quickest))
        calls *= 2


def shuffled(names: Sequence[str], round_number: int) -> list[str]:
    """The names in the order of this round, the same in every run."""
    order = list(names)
    random.Random(round_number).shuffle(order)
    return order


async def measure(
    contenders: Mapping[str, Contender], *, rounds: int, seconds: float, unit: str = "W"
) -> Sequence[Row]:
    """
    Rows, the cheapest first.

    Args:
        contenders: By name; *unit* must be among them.
        rounds: How often each is timed.
        seconds: How long each timing takes, about.
        unit: Whose time is 1.
    """
    calls = {name: await _fitting(each, seconds) for name, each in contenders.items()}
    times: list[dict[str, float]] = []
    gc.collect()
    gc.freeze()  # what is there already need not be gone through before each round
    try:
        for number in range(rounds):
            gc.collect()
            order = shuffled([*contenders], number)
            times.append({name: await _one(contenders[name], calls[name]) for name in order})
    finally:
        gc.unfreeze()
    return rows_of(times, unit)


def rows_of(times: Sequence[Mapping[str, float]], unit: str) -> Sequence[Row]:
    """
    Medians and deciles of what each round took, in the order of the first round's names.

    Args:
        times: One mapping for each round, name -> nanoseconds.
        unit: Whose time is 1.
    """
    rows = []
    for name in sorted(times[0], key=_order_of(times)):
        ratios = [each[name] / each[unit] for each in times]
        low, high = _deciles(ratios)
        median = statistics.median(each[name] for each in times)
        rows.append(Row(name, median, statistics.median(ratios), low, high))
    return rows


def _order_of(times: Sequence[Mapping[str, float]]) -> Callable[[str], float]:
    """Cheapest first: a table is read as a ranking."""
    return lambda name: statistics.median(each[name] for each in times)


def _deciles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    cut = statistics.quantiles(values, n=10, method="inclusive")
    return cut[0], cut[-1]


def cost_table(
    name: str,
    title: str,
    rows: Sequence[Row],
    *,
    unit: str,
    ours: str | None = None,
    notes: Sequence[str] = (),
) -> Table:
    """
    A table with the ratio first, since it is what carries over to another machine.

    Args:
        name: Its key.
        title: Its heading.
        rows: What `measure` returned.
        unit: What the ratios are multiples of.
        ours: The row that the column ``x ours`` is relative to.
        notes: As in `Table`.
    """
    base = next((row.ratio for row in rows if row.name == ours), None)
    columns = {"call": "", f"x {unit}": ".2f", "spread (10 % to 90 %)": ""}
    if base is not None:
        columns["x ours"] = ".2f"
    columns["ns here"] = ".0f"
    cells = []
    for row in rows:
        relative = [] if base is None else [row.ratio / base]
        spread = f"{row.low:.2f} to {row.high:.2f}"
        cells.append([row.name, row.ratio, spread, *relative, row.nanoseconds])
    return Table(name=name, title=title, columns=columns, rows=cells, notes=notes)
