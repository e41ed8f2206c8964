"""
Threads: eight threads with a loop each, on one breaker against eight breakers.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Sequence

from benchmarks import floors
from benchmarks.report import Options, Table
from benchmarks.rivals import Adapter, Function, Settings
from benchmarks.rounds import shuffled

__all__ = ["run"]

_THREADS = 8
# Those that say they are safe for threads.
_SAFE = ("nopanic", "interlock-cb", "pyresilience", "resilix")


def _together(functions: Sequence[Function], calls: int) -> float:
    """Calls per second of one thread per function, each with its own loop, from the first start to the last end."""
    ready = threading.Barrier(len(functions))
    starts: list[float] = []
    ends: list[float] = []

    async def work(fn: Function) -> None:
        await fn(1)
        ready.wait(60)
        starts.append(time.perf_counter())
        for _ in range(calls):
            await fn(1)
        ends.append(time.perf_counter())

    threads = [threading.Thread(target=lambda fn=fn: asyncio.run(work(fn))) for fn in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(functions) * calls / (max(ends) - min(starts))


def _guards(adapter: Adapter, *, shared: bool) -> list[Function]:
    settings = Settings(kind=adapter.kinds[0])
    if shared:
        return [adapter.breaker(settings).wrap(floors.callee)] * _THREADS
    return [adapter.breaker(settings).wrap(floors.callee) for _ in range(_THREADS)]


def run(options: Options) -> list[Table]:
    """Throughput on one shared breaker, as a share of that on one breaker per thread."""
    rounds, calls = (3, 500) if options.quick else (11, 2_500)
    named = {"resilience": options.field.ours}
    named |= {name: options.field.rivals[name] for name in _SAFE if name in options.field.rivals}
    guards = {
        (name, shared): _guards(adapter, shared=shared)
        for name, adapter in named.items()
        for shared in (True, False)
    }
    found: dict[tuple[str, bool], list[float]] = {key: [] for key in guards}
    for turn in range(rounds):
        options.say(f"threads: round {turn + 1} of {rounds}")
        for name in shuffled([*named], turn):
            for shared in (True, False) if turn % 2 else (False, True):
                found[name, shared].append(_together(guards[name, shared], calls))
    rows = []
    for name in named:
        one, eight = found[name, True], found[name, False]
        shares = [a / b for a, b in zip(one, eight, strict=True)]
        spread = f"{min(shares):.2f} to {max(shares):.2f}"
        rows.append(
            [
                name,
                statistics.median(one),
                statistics.median(eight),
                statistics.median(shares),
                spread,
            ]
        )
    return [
        Table(
            name="threads",
            title=f"{_THREADS} threads with a loop each, calls that succeed at once",
            columns={
                "breaker": "",
                "calls/s, one breaker": ",.0f",
                "calls/s, a breaker each": ",.0f",
                "share": ".2f",
                "spread (all rounds)": "",
            },
            rows=rows,
            notes=[
                "Threads take turns under the GIL; what is measured is what sharing costs on top of that."
            ],
        )
    ]
