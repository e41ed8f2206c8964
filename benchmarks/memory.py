"""
Memory: bytes that a guard adds to a call in flight, and bytes of a breaker that waits for its next call.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

from benchmarks import floors
from benchmarks.report import Options, Table
from benchmarks.rivals import Adapter, Function, Settings
from resilience import CircuitBreaker
from resilience.registry import Family, Registry

__all__ = ["run"]


def _traced(make: Callable[[], Any]) -> tuple[int, Any]:
    """Bytes that are there after *make* and were not before, and what keeps them."""
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    kept = make()
    gc.collect()
    return tracemalloc.get_traced_memory()[0] - before, kept


async def _in_flight(fn: Function, calls: int) -> float:
    """Bytes per call, the task and the callee's own frame included."""
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    tasks = [asyncio.ensure_future(fn(1)) for _ in range(calls)]
    for _ in range(5):  # some start a task of their own
        await asyncio.sleep(0)
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] - before
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return used / calls


async def _flight_table(options: Options) -> Table:
    calls = 200 if options.quick else 2_000

    async def waits(value: int) -> int:
        await asyncio.get_running_loop().create_future()
        return value

    async def w(*args: Any, **kwargs: Any) -> Any:
        return await waits(*args, **kwargs)

    async def asyncio_timeout(value: int) -> int:
        async with asyncio.timeout(5):
            return await waits(value)

    contenders: dict[str, Function] = {"bare": waits, "W": w, "asyncio.timeout": asyncio_timeout}
    for name, adapter in options.field.having("breaker"):
        contenders[f"{name}, breaker"] = adapter.breaker(Settings(kind=adapter.kinds[0])).wrap(
            waits
        )
    for name, adapter in options.field.stacks():
        settings = Settings(kind=adapter.kinds[0], seconds=30.0)
        contenders[f"{name}, three layers"] = adapter.layers(waits, settings)
    used = {}
    for name, fn in contenders.items():
        options.say(f"memory: {name}")
        await _in_flight(fn, 100)  # what is made once is no cost of a call
        used[name] = await _in_flight(fn, calls)
    rows = sorted(
        ([name, each - used["bare"]] for name, each in used.items()), key=lambda row: row[1]
    )
    return Table(
        name="in_flight",
        title="Bytes added to a call in flight (asyncio)",
        columns={"call": "", "bytes": ".0f"},
        rows=rows,
        notes=[f"tracemalloc, {calls:,} calls that wait, less what the same bare calls take."],
    )


async def _breaker_table(options: Options) -> Table:
    number = 50 if options.quick else 1_000
    rows = []
    for name, adapter in options.field.having("breaker"):
        for kind in adapter.kinds:
            settings = Settings(kind=kind)
            options.say(f"memory: breakers of {name}")
            await _made(adapter, settings, 10)
            rows.append([f"{name}, {kind}", *await _made(adapter, settings, number)])
    rows.append(["resilience, time, keyed in a family", *await _keyed(number)])
    rows.sort(key=lambda row: row[2])
    return Table(
        name="idle",
        title="Bytes of an idle breaker",
        columns={
            "breaker": "",
            "alone": ".0f",
            "with the function it guards, after one call": ".0f",
        },
        rows=rows,
        notes=[
            (
                f"tracemalloc, {number:,} of them; a count window of {Settings().window} calls, a time window of "
                "30 s. Some make their breaker only when a function is wrapped or called: the second column is "
                "the one to compare."
            )
        ],
    )


async def _keyed(number: int) -> tuple[float, float]:
    """Breakers of one family, by key, with all that keeps them findable."""

    def made(keys: range) -> Family[CircuitBreaker]:
        family = Registry().family("hosts", on=Settings().on, max_keys=number)
        for key in keys:
            family[str(key)]
        return family

    _traced(lambda: made(range(10)))
    alone, family = _traced(lambda: made(range(number)))
    wrapping, guarded = _traced(lambda: [each.wrap(floors.callee) for _, each in family.items()])
    before = tracemalloc.get_traced_memory()[0]
    for fn in guarded:
        await fn(1)
    gc.collect()
    called = tracemalloc.get_traced_memory()[0] - before
    return alone / number, (alone + wrapping + called) / number


async def _made(adapter: Adapter, settings: Settings, number: int) -> tuple[float, float]:
    alone, breakers = _traced(lambda: [adapter.breaker(settings) for _ in range(number)])
    wrapping, guarded = _traced(lambda: [each.wrap(floors.callee) for each in breakers])
    before = tracemalloc.get_traced_memory()[0]
    for fn in guarded:
        await fn(1)
    gc.collect()
    called = tracemalloc.get_traced_memory()[0] - before
    return alone / number, (alone + wrapping + called) / number


def run(options: Options) -> list[Table]:
    """Both tables."""
    gc.collect()
    gc.freeze()  # what is there already need not be gone through before each figure
    tracemalloc.start()
    try:
        return [asyncio.run(_flight_table(options)), asyncio.run(_breaker_table(options))]
    finally:
        tracemalloc.stop()
        gc.unfreeze()
