"""
Interleaved rounds: every contender in turn, many times, so that a noisy minute is everybody's; medians and spread.

The unit of most tables is W, ``async def w(*a, **k): return await f(*a, **k)``. Absolute times are noise; ratios of one
run are not. The order changes from round to round, so that nobody always follows the same neighbour.
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


@attrs.frozen
class Row:
    """One contender's figures: median nanoseconds per call, ratio to the unit, and the spread of that ratio."""

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


def shuffled(names: Sequence[str], round_number: int) -> list[str]:
    """The names in the order of this round, the same in every run."""
    order = list(names)
    random.Random(round_number).shuffle(order)
    return order


async def measure(
    contenders: Mapping[str, Contender], *, rounds: int, calls: int, unit: str = "W"
) -> Sequence[Row]:
    """
    Rows in the order given.

    Args:
        contenders: By name; *unit* must be among them.
        rounds: How often each is timed.
        calls: Calls per timing. Each contender is warmed up with a quarter of them.
        unit: Whose time is 1.
    """
    times: list[dict[str, float]] = []
    for contender in contenders.values():
        await _one(contender, max(1, calls // 4))
    for number in range(rounds):
        gc.collect()
        times.append(
            {name: await _one(contenders[name], calls) for name in shuffled([*contenders], number)}
        )
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
