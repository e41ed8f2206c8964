"""
What guarding costs a real service: the share of its CPU time, at 10,000 requests through httpx2 over real sockets.

The time is the CPU time of the client's process, as every instruction there is paid for; the server has a process of
its own. Each contender gets short turns, many of them and in changing order, so what a request costs is compared with
what a bare one costs in the same round.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
from typing import Any

from benchmarks.report import Options, Table
from benchmarks.rivals import Function, Settings
from benchmarks.rivals.ours import circuit, pipeline, retrying
from benchmarks.rounds import shuffled
from benchmarks.servers import BODY, http, serving
from resilience import Bulkhead, Pipeline, Timeout
from resilience.modes import Engine
from resilience.testing import engine

__all__ = ["main", "run"]

_BARE = "bare"
_ENGINES: tuple[Engine, ...] = ("linked", "express")
_CONNECTIONS = 50


def _guards() -> dict[str, Pipeline]:
    settings = Settings(kind="time", seconds=60.0)
    return {
        "three layers": pipeline(retrying(settings), circuit(settings), Timeout(60.0)),
        "canonical five": pipeline(
            Timeout(600.0), retrying(settings), circuit(settings), Bulkhead(10_000), Timeout(60.0)
        ),
    }


def _contenders(ask: Function) -> dict[str, Function]:
    made: dict[str, Function] = {_BARE: ask}
    for name in _ENGINES:
        with engine(name):
            made |= {f"{shape}, {name}": guard.wrap(ask) for shape, guard in _guards().items()}
    return made


async def _turn(fn: Function, requests: int) -> float:
    """Microseconds of this process that a request takes, as many at once as there are connections."""
    left = iter(range(requests))

    async def worker() -> None:
        for _ in left:
            await fn()

    started = time.process_time_ns()
    await asyncio.gather(*(worker() for _ in range(_CONNECTIONS)))
    return (time.process_time_ns() - started) / requests / 1_000


async def _suspends() -> None:
    """In the place of a request, where the guard's own cost is to be seen."""
    await asyncio.sleep(0)


async def _alone(rounds: int, calls: int) -> dict[str, float]:
    """Microseconds that each guard adds by itself: far less than a request differs from the next."""
    contenders = _contenders(_suspends)
    times = [
        {name: await _turn(contenders[name], calls) for name in shuffled([*contenders], turn)}
        for turn in range(rounds)
    ]
    return {
        name: statistics.median(taken[name] - taken[_BARE] for taken in times)
        for name in contenders
    }


async def _measured(port: int, options: Options) -> Table:
    import httpx2  # noqa: PLC0415 - of the extra; nothing else here needs it

    rounds, requests = (4, 100) if options.quick else (50, 200)
    limits = httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
    async with httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", limits=limits, trust_env=False
    ) as client:

        async def ask() -> Any:
            response = await client.get("/price")
            if response.content != BODY:
                raise ConnectionError
            return response

        contenders = _contenders(ask)
        for fn in contenders.values():
            await _turn(fn, requests)
        times: list[dict[str, float]] = []
        gc.collect()
        gc.disable()  # whose turn it falls in is chance, and what it collects is httpx2's
        try:
            for turn in range(rounds):
                options.say(f"service: round {turn + 1} of {rounds}")
                order = shuffled([*contenders], turn)
                times.append({name: await _turn(contenders[name], requests) for name in order})
                gc.collect()
        finally:
            gc.enable()
    alone = await _alone(4 if options.quick else 40, 2_000)
    return _table(times, rounds * requests, alone)


def _table(times: list[dict[str, float]], requests: int, alone: dict[str, float]) -> Table:
    def added(name: str) -> list[float]:
        return sorted(taken[name] - taken[_BARE] for taken in times)

    rows: list[list[Any]] = []
    shares: dict[str, float] = {}
    bare = statistics.median(taken[_BARE] for taken in times)
    for name, own in alone.items():
        each = statistics.median(taken[name] for taken in times)
        if name == _BARE:
            rows.append([name, requests, each, None, "", None, None])
            continue
        more = added(name)
        shares[name] = 100 * own / (bare + own)
        spread = f"{more[len(more) // 4]:.1f} to {more[3 * len(more) // 4]:.1f}"
        found = statistics.median(more)
        rows.append([name, requests, each, found, spread, own, shares[name]])
    shapes = dict.fromkeys(name.rpartition(", ")[0] for name in shares)
    return Table(
        name="service",
        title="A service: CPU time of a client of httpx2, guarded and bare",
        columns={
            "request": "",
            "requests": ",d",
            "µs of CPU": ".1f",
            "added µs": ".1f",
            "middle half of the rounds": "",
            "guard alone µs": ".2f",
            "share %": ".3f",
        },
        rows=rows,
        notes=[
            f"{_CONNECTIONS} requests at once, each over a connection that is kept. Share: of the CPU time that "
            "the client's process spends on a request, what the guard takes by itself, around a call that suspends "
            "once; the difference between guarded and bare requests is less than they differ by chance. "
            + " ".join(
                f"Express saves {shares[f'{shape}, linked'] - shares[f'{shape}, express']:.3f} % of it "
                f"with {shape}."
                for shape in shapes
            )
        ],
    )


def run(options: Options) -> list[Table]:
    """Each engine, with three layers and with five, against bare requests."""
    with serving(http) as port:
        return [asyncio.run(_measured(port, options))]


def main() -> int:
    """This table alone."""
    from benchmarks.field import gather  # noqa: PLC0415 - the rivals are not needed to import this

    quick = "--quick" in sys.argv[1:]
    (table,) = run(Options(quick=quick, field=gather()))
    sys.stdout.write(table.markdown() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
