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
# Beyond this many tasks, and in a quick run, those that take tens of microseconds are left out: a storm of them is
# minutes, and what they add does not change any more.
_HEAVY = ("hyx", "interlock-cb", "stamina + aiobreaker", "tenacity + circuitbreaker")
_CROWD = 1_000


def _contenders(field: Field, fn: Function, *, heavy: bool) -> dict[str, Function]:
    async def w(*args: object, **kwargs: object) -> object:
        return await fn(*args, **kwargs)

    found: dict[str, Function] = {"bare": fn, "W": w}
    ours = field.ours
    found["resilience, breaker"] = ours.breaker(Settings(kind=ours.kinds[0])).wrap(fn)
    for name, adapter in field.stacks():
        if heavy or name.removesuffix(" + asyncio.timeout") not in _HEAVY:
            found[f"{name}, three layers"] = adapter.layers(fn, Settings(kind=adapter.kinds[0]))
    return found


async def _storm(
    fn: Function, tasks: int, each: int, *, spread: float = 0.0
) -> tuple[float, list[float]]:
    """
    Nanoseconds of CPU time per call when *tasks* tasks make *each* calls, and how long each call took, sorted.

    Args:
        fn: What is called.
        tasks: They are there before the clock starts.
        each: Calls of each.
        spread: Seconds over which their first calls are spread; 0: all at once.
    """
    gate = asyncio.Event()
    taken: list[float] = []
    now, note = time.perf_counter_ns, taken.append

    async def worker(number: int) -> None:
        await gate.wait()
        if spread:
            await asyncio.sleep(spread * number / tasks)
        for _ in range(each):
            started = now()
            await fn(1)
            note(now() - started)

    workers = [asyncio.ensure_future(worker(number)) for number in range(tasks)]
    await asyncio.sleep(0)
    gc.collect()
    began = time.thread_time_ns()
    gate.set()
    for task in workers:
        await task
    return (time.thread_time_ns() - began) / (tasks * each), sorted(taken)


def _quantiles(taken: Sequence[float]) -> list[float]:
    return [taken[min(len(taken) - 1, int(len(taken) * each))] for each in _QUANTILES]


async def _level(
    contenders: Mapping[str, Function], tasks: int, options: Options
) -> list[list[object]]:
    calls, rounds = (1_500, 3) if options.quick else (4_000, 5)
    rounds = 1 if tasks > 10_000 or (options.quick and tasks > _CROWD) else rounds
    each = max(1, calls // tasks)
    times: list[dict[str, float]] = []
    late: dict[str, list[list[float]]] = {name: [] for name in contenders}
    for fn in contenders.values():
        await _storm(fn, min(tasks, 100), 5)
    for number in range(rounds):
        times.append({})
        for name in shuffled([*contenders], number):
            times[-1][name], taken = await _storm(contenders[name], tasks, each)
            late[name].append(_quantiles(taken))
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
    rows: list[list[object]] = []
    for tasks in _QUICK_LEVELS if options.quick else _LEVELS:
        options.say(f"concurrency: {tasks:,} tasks")
        heavy = not options.quick and tasks <= _CROWD
        contenders = _contenders(options.field, floors.suspending, heavy=heavy)
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
                "All tasks share one guard and wait behind one event before the clock starts. Each call reads the "
                "clock before and after, in every row. Added: more than the bare call at the same number of tasks; "
                "quantiles are differences of the same quantile, by the clock, all else is CPU time. The loop is "
                "saturated, so a call waits for all other tasks' steps: that is what the quantiles are. One round at "
                f"100,000 tasks. Those that take tens of microseconds are measured up to {_CROWD:,} tasks."
            )
        ],
    )


async def _waiting_table(options: Options) -> Table:
    """Where the loop is not saturated: what a user of a thousand tasks sees."""

    async def answers(value: int) -> int:
        await asyncio.sleep(_ANSWER_AFTER)
        return value

    contenders = _contenders(options.field, answers, heavy=not options.quick)
    rounds, each = (2, 2) if options.quick else (3, 5)
    found: dict[str, list[list[float]]] = {name: [] for name in contenders}
    for number in range(rounds):
        options.say(f"concurrency: behind a dependency, round {number + 1} of {rounds}")
        for name in shuffled([*contenders], number):
            _, taken = await _storm(contenders[name], _WAITING_TASKS, each, spread=_ANSWER_AFTER)
            found[name].append(_quantiles(taken))
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
        notes=[
            (
                "Where the loop is not saturated, as in a service: the tasks start one after the other, and each "
                "calls again when it has its answer."
            )
        ],
    )


def run(options: Options) -> list[Table]:
    """The tables of tasks and of latency."""
    return [asyncio.run(_tasks_table(options)), asyncio.run(_waiting_table(options))]
