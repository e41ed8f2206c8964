"""
Real sockets: 10,000 tasks, each with a loopback connection of its own to a server in another process, guarded and bare.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks import service
from benchmarks.report import Options, Table
from benchmarks.rivals import Function, Settings
from benchmarks.rounds import shuffled
from benchmarks.servers import echo, serving

__all__ = ["run"]

_SPARE_FILES = 200
_PAYLOAD = b"x" * 63 + b"\n"


def _limit(wanted: int) -> int:
    """As many connections as this process may have open."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return min(wanted, 400)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted + _SPARE_FILES:
        raised = (
            wanted + _SPARE_FILES
            if hard == resource.RLIM_INFINITY
            else min(hard, wanted + _SPARE_FILES)
        )
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, raised), hard))
    return min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_FILES)


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer


@asynccontextmanager
async def _connected(port: int, number: int) -> AsyncIterator[list[_Connection]]:
    opened: list[_Connection] = []
    try:
        for _ in range(0, number, 100):  # in small crowds, so that the backlog never overflows
            made = await asyncio.gather(
                *(
                    asyncio.open_connection("127.0.0.1", port)
                    for _ in range(min(100, number - len(opened)))
                )
            )
            opened += [_Connection(*each) for each in made]
        yield opened
    finally:
        for each in opened:
            each.writer.close()
        await asyncio.sleep(0.1)


async def _ask(connection: _Connection) -> bytes:
    connection.writer.write(_PAYLOAD)
    answer = await connection.reader.readline()
    if answer != _PAYLOAD:
        raise ConnectionError
    return answer


async def _crowd(fn: Function, connections: list[_Connection], each: int) -> float:
    """Seconds for every connection's task to ask *each* times."""
    gate = asyncio.Event()

    async def worker(connection: _Connection) -> None:
        await gate.wait()
        for _ in range(each):
            await fn(connection)

    workers = [asyncio.ensure_future(worker(connection)) for connection in connections]
    await asyncio.sleep(0)
    gc.collect()
    started = time.perf_counter()
    gate.set()
    for task in workers:
        await task
    return time.perf_counter() - started


async def _measured(port: int, options: Options) -> Table:
    number = _limit(1_000 if options.quick else 10_000)
    rounds, each = (3, 2) if options.quick else (5, 2)
    contenders: dict[str, Function] = {"bare": _ask}
    for name in ("resilience", "nopanic", "interlock-cb"):
        adapter = options.field.ours if name == "resilience" else options.field.rivals.get(name)
        if adapter is not None:
            settings = Settings(kind=adapter.kinds[0], seconds=60.0)
            contenders[f"{name}, three layers"] = adapter.layers(_ask, settings)
    times: list[dict[str, float]] = []
    async with _connected(port, number) as connections:
        for fn in contenders.values():
            await _crowd(fn, connections, 1)
        for turn in range(rounds):
            options.say(f"sockets: round {turn + 1} of {rounds}")
            order = shuffled([*contenders], turn)
            times.append(
                {name: await _crowd(contenders[name], connections, each) for name in order}
            )
    rows = []
    for name in contenders:
        shares = [taken["bare"] / taken[name] for taken in times]
        seconds = statistics.median(taken[name] for taken in times)
        spread = f"{min(shares):.3f} to {max(shares):.3f}"
        rows.append(
            [
                name,
                len(connections),
                len(connections) * each / seconds,
                statistics.median(shares),
                spread,
            ]
        )
    return Table(
        name="sockets",
        title="Real sockets, an echo of 64 bytes, the server in its own process",
        columns={
            "call": "",
            "tasks": ",d",
            "calls/s": ",.0f",
            "of bare": ".3f",
            "spread (all rounds)": "",
        },
        rows=rows,
    )


def run(options: Options) -> list[Table]:
    """The throughput of every contender against bare calls, and what guarding costs a service."""
    with serving(echo) as port:
        throughput = asyncio.run(_measured(port, options))
    return [throughput, *service.run(options)]
