"""
Concurrency: 1 to 100,000 tasks through one shared guard; what each call costs, and how late the latest are.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Mapping, Sequence

from benchmarks import floors
from benchmarks.field import Field
from benchmarks.report import Options, Table
from benchmarks.rivals import Function, Settings
from benchmarks.rounds import rows_of, shuffled

__all__ = ["TASKS", "run"]

TASKS = "tasks"
_ANSWER_AFTER = 0.05
_WAITING_TASKS = 1_000
_LEVELS = (1, 10, 100, 1_000, 10_000, 100_000)
_QUICK_LEVELS = (1, 100, 10_000)
_QUANTILES = (0.5, 0.99, 0.999)


def _contenders(field: Field, fn: Function, *, quick: bool) -> dict[str, Function]:
    async def w(*args: object, **kwargs: object) -> object:
        return await fn(*args, **kwargs)

    found: dict[str, Function] = {"bare": fn, "W": w}
    ours = field.ours
    found["resilience, breaker"] = ours.breaker(Settings(kind=ours.kinds[0])).wrap(fn)
    for name, adapter in field.stacks():
        # The quick run leaves out those that take tens of microseconds; the full one leaves out nobody.
        if (
            not quick
            or name in {"resilience", "nopanic", "pyresilience", "resilix"}
            or "hyx +" in name
        ):
            found[f"{name}, three layers"] = adapter.layers(fn, Settings(kind=adapter.kinds[0]))
    return found


async def _storm(fn: Function, tasks: int, each: int) -> float:
    """Nanoseconds per call when *tasks* tasks make *each* calls; the tasks are there before the clock starts."""
    gate = asyncio.Event()

    async def worker() -> None:
        await gate.wait()
        for _ in range(each):
            await fn(1)

    workers = [asyncio.ensure_future(worker()) for _ in range(tasks)]
    await asyncio.sleep(0)
    gc.collect()
    started = time.perf_counter_ns()
    gate.set()
    for task in workers:
        await task
    return (time.perf_counter_ns() - started) / (tasks * each)


async def _latencies(fn: Function, tasks: int, each: int) -> list[float]:
    """Nanoseconds that each call took, sorted."""
    gate = asyncio.Event()
    taken: list[float] = []
    now, note = time.perf_counter_ns, taken.append

    async def worker() -> None:
        await gate.wait()
        for _ in range(each):
            started = now()
            await fn(1)
            note(now() - started)

    workers = [asyncio.ensure_future(worker()) for _ in range(tasks)]
    await asyncio.sleep(0)
    gc.collect()
    gate.set()
    for task in workers:
        await task
    return sorted(taken)


def _quantiles(taken: Sequence[float]) -> list[float]:
    return [taken[min(len(taken) - 1, int(len(taken) * each))] for each in _QUANTILES]


async def _level(
    contenders: Mapping[str, Function], tasks: int, options: Options
) -> list[list[object]]:
    calls = 2_000 if options.quick else 50_000
    rounds = 3 if options.quick or tasks > 10_000 else 9  # a storm of 100,000 takes seconds
    each = max(1, calls // tasks)
    times: list[dict[str, float]] = []
    late: dict[str, list[list[float]]] = {name: [] for name in contenders}
    for fn in contenders.values():
        await _storm(fn, min(tasks, 100), 10)
    for number in range(rounds):
        order = shuffled([*contenders], number)
        times.append({name: await _storm(contenders[name], tasks, each) for name in order})
        for name in order:
            late[name].append(_quantiles(await _latencies(contenders[name], tasks, each)))
    typical = {
        name: [statistics.median(column) for column in zip(*found, strict=True)]
        for name, found in late.items()
    }
    bare = statistics.median(each["bare"] for each in times)
    rows: list[list[object]] = []
    for row in rows_of(times, "W"):
        added = [(a - b) / 1000 for a, b in zip(typical[row.name], typical["bare"], strict=True)]
        rows.append(
            [
                tasks,
                row.name,
                row.ratio,
                f"{row.low:.2f} to {row.high:.2f}",
                row.nanoseconds - bare,
                1e9 / row.nanoseconds,
                *(added if row.name != "bare" else (None, None, None)),
            ]
        )
    return rows


async def _tasks_table(options: Options) -> Table:
    contenders = _contenders(options.field, floors.suspending, quick=options.quick)
    levels = _QUICK_LEVELS if options.quick else _LEVELS
    rows: list[list[object]] = []
    for tasks in levels:
        options.say(f"concurrency: {tasks:,} tasks")
        rows += await _level(contenders, tasks, options)
    return Table(
        name=TASKS,
        title="Tasks on one shared guard, a call that suspends once",
        columns={
            "tasks": ",d",
            "call": "",
            "x W": ".2f",
            "spread (10 % to 90 %)": "",
            "added ns": ".0f",
            "calls/s": ",.0f",
            "p50 added, µs": ".1f",
            "p99 added, µs": ".1f",
            "p99.9 added, µs": ".1f",
        },
        rows=rows,
        notes=[
            (
                "All tasks share one guard and wait behind one event before the clock starts. Added: more than "
                "the bare call at the same number of tasks; quantiles are differences of the same quantile, from "
                "runs of their own in which every call reads the clock. The loop is saturated, so a call waits "
                "for all other tasks' steps."
            )
        ],
    )


async def _waiting_table(options: Options) -> Table:
    """Where the loop is not saturated: what a user of a thousand tasks sees."""

    async def answers(value: int) -> int:
        await asyncio.sleep(_ANSWER_AFTER)
        return value

    options.say("concurrency: latency behind a dependency")
    contenders = _contenders(options.field, answers, quick=options.quick)
    rounds, each = (3, 2) if options.quick else (9, 20)
    found: dict[str, list[list[float]]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in shuffled([*contenders], number):
            found[name].append(_quantiles(await _latencies(contenders[name], _WAITING_TASKS, each)))
    rows = []
    for name, quantiles in found.items():
        against = [
            statistics.median(
                mine[place] / bare[place]
                for mine, bare in zip(quantiles, found["bare"], strict=True)
            )
            for place in range(len(_QUANTILES))
        ]
        medians = [statistics.median(column) / 1e6 for column in zip(*quantiles, strict=True)]
        rows.append([name, *medians, *against])
    return Table(
        name="waiting",
        title=f"{_WAITING_TASKS:,} tasks, a dependency that answers after {_ANSWER_AFTER * 1000:.0f} ms",
        columns={
            "call": "",
            "p50, ms": ".2f",
            "p99, ms": ".2f",
            "p99.9, ms": ".2f",
            "p50 x bare": ".3f",
            "p99 x bare": ".3f",
            "p99.9 x bare": ".3f",
        },
        rows=rows,
    )


def run(options: Options) -> list[Table]:
    """The tables of tasks and of latency."""
    return [asyncio.run(_tasks_table(options)), asyncio.run(_waiting_table(options))]
