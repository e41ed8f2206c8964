"""
Cost: what one call pays, for each policy, for compositions, on the paths that fail, through each door.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs
import trio

from benchmarks import floors, instructions
from benchmarks.compare import HEADLINE
from benchmarks.field import Field
from benchmarks.outcomes.contenders import STATED
from benchmarks.report import Options, Table
from benchmarks.rivals import OURS, Adapter, Function, Kind, Settings
from benchmarks.rivals.ours import circuit, pipeline, retrying
from benchmarks.rounds import Contender, cost_table, measure
from resilience import (
    AIMD,
    Bulkhead,
    Call,
    Chaos,
    CircuitState,
    ConcurrencyLimit,
    FailureRate,
    Fallback,
    Gradient2,
    Hedge,
    LastGood,
    Quantile,
    RateLimit,
    RetryBudget,
    SingleFlight,
    SlowRate,
    Throttle,
    Timeout,
    Vegas,
    deadline,
)
from resilience.events import CallRejected, CircuitStateChanged, RetryScheduled
from resilience.testing import engine

__all__ = ["again", "run"]

_NEVER = 10**9  # failures that nobody reaches: a breaker that never opens
_FOREVER = 3600.0
_KINDS: dict[Kind, str] = {
    "consecutive": "failures in a row",
    "count": "rate of 100 calls",
    "time": "rate of 30 s",
}


@attrs.frozen
class Group:
    """One table: contenders that are compared with one another."""

    name: str
    title: str
    contenders: Callable[[Field], Mapping[str, Contender] | Any]
    unit: str = attrs.field(default="W", kw_only=True)
    ours: str | None = attrs.field(default=None, kw_only=True)
    notes: tuple[str, ...] = attrs.field(default=(), kw_only=True)


def _units() -> dict[str, Contender]:
    return {"bare await": floors.callee, "W": floors.w}


def _breakers(field: Field) -> dict[str, Contender]:
    found = _units()
    for name, adapter in field.having("breaker"):
        for kind in adapter.kinds:
            breaker = adapter.breaker(Settings(kind=kind))
            found[f"{name}, {_KINDS[kind]}"] = breaker.wrap(floors.callee)
    counting = circuit(Settings(kind="count"))
    found["resilience, rate of 100 calls, any arguments"] = pipeline(counting).wrap(
        floors.any_callee
    )
    slow = circuit(Settings(), trip=FailureRate() | SlowRate(0.5, 2.0))
    found["resilience, rate of 30 s or slow rate"] = pipeline(slow).wrap(floors.callee)
    watched = circuit(Settings(kind="time"), overdue_after=2.0)
    found["resilience, rate of 30 s and overdue_after"] = pipeline(watched).wrap(floors.callee)
    return found


def _retries(field: Field) -> dict[str, Contender]:
    made = {name: each.retry(floors.callee, Settings()) for name, each in field.having("retry")}
    with_budget = attrs.evolve(retrying(Settings()), budget=RetryBudget())
    made["resilience, with a budget"] = with_budget.wrap(floors.callee)
    return _units() | made


def _hedges(field: Field) -> dict[str, Contender]:
    def made(after: Any, **options: Any) -> Contender:
        return pipeline(Hedge(after, idempotent=True, **options)).wrap(floors.callee)

    return _units() | {
        "resilience, a fixed delay": made(5.0),
        "resilience, only on failure": made(math.inf),
        "resilience, a quantile": made(Quantile()),
        "resilience, a fixed delay and a budget": made(5.0, budget=RetryBudget()),
    }


def _blocks(field: Field) -> dict[str, Contender]:
    guarded = _three().wrap(floors.callee)

    async def in_a_block(value: int) -> int:
        with deadline(5.0):
            return await guarded(value)  # type: ignore[no-any-return]

    async def opened(value: int) -> int:
        with deadline(5.0):
            return await floors.callee(value)

    return _units() | {
        "three layers, no block open anywhere": guarded,
        "three layers in a block of their own": in_a_block,
        "a block around the bare call": opened,
    }


def _timeouts(field: Field) -> dict[str, Contender]:
    made = {name: each.timeout(floors.callee, Settings()) for name, each in field.having("timeout")}
    return (
        _units()
        | made
        | {
            "asyncio.timeout": floors.asyncio_timeout,
            "anyio.fail_after": floors.anyio_fail_after,
        }
    )


def _default(adapter: Adapter) -> Settings:
    return Settings(kind=adapter.kinds[0])


def _stacks(field: Field) -> dict[str, Contender]:
    made = {name: each.layers(floors.callee, _default(each)) for name, each in field.stacks()}
    return _units() | made


def _suspending_stacks(field: Field) -> dict[str, Contender]:
    made = {name: each.layers(floors.suspending, _default(each)) for name, each in field.stacks()}
    return {"bare await": floors.suspending, "W": floors.w_suspending} | made


def _three(settings: Settings | None = None, **options: Any) -> Any:
    settings = settings or Settings(kind="time")
    return pipeline(retrying(settings), circuit(settings), Timeout(settings.seconds), **options)


def _doors(field: Field) -> dict[str, Contender]:
    guarded = _three()

    async def informed(call: Call, value: int) -> int:
        return value

    @asynccontextmanager
    async def connect(value: int) -> AsyncIterator[int]:
        yield value

    async def rows(value: int) -> AsyncIterator[int]:
        yield value

    async def bare_connection(value: int) -> None:
        async with connect(value):
            pass

    async def bare_stream(value: int) -> None:
        async for _ in rows(value):
            pass

    opening, stream = guarded.opening(connect), guarded.stream(rows)

    async def opened(value: int) -> None:
        async with opening(value):
            pass

    async def streamed(value: int) -> None:
        async with stream(value) as items:
            async for _ in items:
                pass

    return _units() | {
        "p.wrap(fn)": guarded.wrap(floors.callee),
        "await p(fn, x)": lambda value: guarded(floors.callee, value),
        "p.informed(fn)": guarded.informed(informed),
        "await p.outcome(fn, x)": lambda value: guarded.outcome(floors.callee, value),
        "an async context manager, bare": bare_connection,
        "p.opening(cm_fn)": opened,
        "a stream of one item, bare": bare_stream,
        "p.stream(agen_fn)": streamed,
    }


def _policies(field: Field) -> dict[str, Contender]:
    """Every policy alone, as a pipeline of one."""
    settings = Settings(kind="time")
    alone = {
        "Timeout": Timeout(settings.seconds),
        "Retry": retrying(settings),
        "Retry with a RetryBudget": attrs.evolve(retrying(settings), budget=RetryBudget()),
        "CircuitBreaker": circuit(settings),
        "Bulkhead": Bulkhead(100),
        "RateLimit": RateLimit(1e9),
        "Throttle": Throttle(),
        "Hedge": Hedge(1.0, idempotent=True),
        "SingleFlight": SingleFlight(key=lambda value: value),
        "Fallback": Fallback(None, on=settings.on),
        "LastGood": LastGood(60.0, key=lambda value: value),
    }
    return _units() | {name: pipeline(policy).wrap(floors.callee) for name, policy in alone.items()}


def _compositions(field: Field) -> dict[str, Contender]:
    settings = Settings(kind="time")
    with engine("linked"):
        linked = _three().wrap(floors.callee)
    return _units() | {
        "Pipeline()": pipeline().wrap(floors.callee),
        "Retry + CircuitBreaker": pipeline(retrying(settings), circuit(settings)).wrap(
            floors.callee
        ),
        "Retry + CircuitBreaker + Timeout": _three().wrap(floors.callee),
        "Retry + CircuitBreaker + Timeout, linked steps": linked,
        "Timeout + Retry + CircuitBreaker + Timeout": pipeline(Timeout(60.0), _three()).wrap(
            floors.callee
        ),
        "Timeout + Retry + CircuitBreaker + Bulkhead + Timeout": pipeline(
            Timeout(60.0), retrying(settings), circuit(settings), Bulkhead(100), Timeout(5.0)
        ).wrap(floors.callee),
        "the stated pipeline": pipeline(
            Timeout(60.0),
            attrs.evolve(retrying(settings), budget=RetryBudget()),
            circuit(settings, **STATED),
            Timeout(settings.seconds),
        ).wrap(floors.callee),
    }


async def _answers(field: Field) -> dict[str, Contender]:
    kept = LastGood(60, key="one")
    await kept.wrap(floors.callee)(1)
    return _units() | {
        "Fallback, the call succeeds": Fallback(None, on=OSError).wrap(floors.callee),
        "LastGood, the answer is kept": LastGood(60).wrap(floors.callee),
        "LastGood, with a key of its own": LastGood(60, key="one").wrap(floors.callee),
        "Chaos, off": Chaos(0.1, fault=OSError).wrap(floors.callee),
        "Chaos, on, the call is spared": Chaos(1e-9, fault=OSError, enabled=True).wrap(
            floors.callee
        ),
        "SingleFlight, one caller": SingleFlight().wrap(floors.callee),
        "asyncio.create_task, awaited": _in_a_task,
        "raised and caught": floors.raised_and_caught,
        "Fallback, a value": Fallback(None, on=Exception).wrap(floors.failing),
        "LastGood, an old answer": kept.wrap(floors.failing),
        "Chaos, a fault": _caught(Chaos(1, fault=OSError, enabled=True).wrap(floors.callee)),
    }


async def _in_a_task(value: int) -> int:
    return await asyncio.create_task(floors.callee(value))


async def _gates(field: Field) -> dict[str, Contender]:
    full, used_up = Bulkhead(0), RateLimit(1, per=_FOREVER)
    used_up.admit()
    return _units() | {
        "Bulkhead, a place is free": Bulkhead(10, queue=10).wrap(floors.callee),
        "Bulkhead, a weight by function": Bulkhead(10, weight=lambda call: 1).wrap(floors.callee),
        "RateLimit, a token is there": RateLimit(1e9).wrap(floors.callee),
        "RateLimit, a weight by function": RateLimit(1e9, weight=lambda call: 1).wrap(
            floors.callee
        ),
        "Throttle, nobody is turned away": Throttle().wrap(floors.callee),
        "ConcurrencyLimit, AIMD": ConcurrencyLimit(AIMD()).wrap(floors.callee),
        "ConcurrencyLimit, Vegas": ConcurrencyLimit(Vegas()).wrap(floors.callee),
        "ConcurrencyLimit, Gradient2": ConcurrencyLimit(Gradient2()).wrap(floors.callee),
        "anyio.CapacityLimiter": _limited(anyio.CapacityLimiter(10)),
        "anyio.Semaphore": _limited(anyio.Semaphore(10)),
        "asyncio.Semaphore": _limited(asyncio.Semaphore(10)),
        "raised and caught": floors.raised_and_caught,
        "Bulkhead, full": _caught(full.wrap(floors.callee)),
        "RateLimit, used up": _caught(used_up.wrap(floors.callee)),
    }


def _limited(limiter: Any) -> Contender:
    async def call(value: int) -> int:
        async with limiter:
            return await floors.callee(value)

    return call


def _listener(*kinds: type[Any]) -> Any:
    def listener(event: object) -> None:
        pass

    if kinds:
        listener.listens_to = kinds  # type: ignore[attr-defined]
    return listener


def _listeners(field: Field) -> dict[str, Contender]:
    some = _listener(CircuitStateChanged, RetryScheduled, CallRejected)
    found = _units() | {
        "resilience, three layers, no listener": _three().wrap(floors.callee),
        "resilience, a listener for transitions, retries and rejections": _three(
            listeners=[some]
        ).wrap(floors.callee),
        "resilience, a listener for every call": _three(listeners=[_listener()]).wrap(
            floors.callee
        ),
    }
    for name in ("interlock-cb", "pyresilience", "aiobreaker"):
        if adapter := field.rivals.get(name):
            settings = _default(adapter)
            found[f"{name}, breaker, no listener"] = adapter.breaker(settings).wrap(floors.callee)
            heard = adapter.breaker(settings, lambda *args, **kwargs: None)
            found[f"{name}, breaker, a listener"] = heard.wrap(floors.callee)
    return found


def _caught(fn: Function) -> Contender:
    async def call(value: int) -> None:
        with contextlib.suppress(Exception):
            await fn(value)

    return call


async def _failed(fn: Function, times: int) -> None:
    for _ in range(times):
        with contextlib.suppress(Exception):
            await fn(1)


async def _rejections(field: Field) -> dict[str, Contender]:
    found: dict[str, Contender] = {"raised and caught": floors.raised_and_caught, "W": floors.w}
    for name, adapter in field.having("breaker"):
        settings = Settings(kind=adapter.kinds[0], break_seconds=_FOREVER)
        breaker = adapter.breaker(settings)
        guarded = breaker.wrap(floors.failing)
        await _failed(guarded, settings.failures)
        if breaker.state() != "open":
            raise RuntimeError(f"{name} is {breaker.state()}; its rejections cannot be measured")
        found[name] = _caught(guarded)
    opened = circuit(Settings(break_seconds=_FOREVER))
    guarded = pipeline(opened)
    await _failed(guarded.wrap(floors.failing), 5)
    if opened.state is not CircuitState.OPEN:
        raise RuntimeError("ours is not open")
    found["resilience, as an outcome"] = lambda value: guarded.outcome(floors.failing, value)
    isolated = circuit(Settings())
    isolated.isolate()
    found["resilience, isolated"] = _caught(pipeline(isolated).wrap(floors.failing))
    return found


def _patient(adapter: Adapter) -> Settings:
    """A breaker that never opens; in a count window only counting in a row can be told so."""
    kinds = [kind for kind in adapter.kinds if kind != "count"] or ["count"]
    return Settings(kind=kinds[0], failures=_NEVER)


def _failing_breakers(field: Field) -> dict[str, Contender]:
    return {"raised and caught": floors.raised_and_caught} | {
        name: _caught(adapter.breaker(_patient(adapter)).wrap(floors.failing))
        for name, adapter in field.having("breaker")
    }


def _failing_retries(field: Field) -> dict[str, Contender]:
    return {"the bare loop": floors.three_failing_attempts} | {
        name: _caught(adapter.retry(floors.failing, Settings()))
        for name, adapter in field.having("retry")
    }


def _failing_stacks(field: Field) -> dict[str, Contender]:
    return {"the bare loop": floors.three_failing_attempts} | {
        name: _caught(adapter.layers(floors.failing, _patient(adapter)))
        for name, adapter in field.stacks()
    }


_OURS = OURS.name
GROUPS = (
    Group("floors", "Floors", lambda _: floors.on_asyncio()),
    Group(
        "breaker",
        "Circuit breaker alone, the call succeeds at once",
        _breakers,
        ours=f"{_OURS}, {_KINDS['time']}",
    ),
    Group("retry", "Retry alone, the call succeeds at once", _retries, ours=_OURS),
    Group("hedge", "Hedge alone, the call succeeds at once", _hedges),
    Group("deadline", "Deadlines, the call succeeds at once", _blocks),
    Group("timeout", "Timeout alone, the call succeeds at once", _timeouts, ours=_OURS),
    Group(
        "layers",
        "Retry, circuit breaker and timeout, the call succeeds at once",
        _stacks,
        ours=_OURS,
        notes=(
            "Each library's own way of composing the three; breakers count as they do by default.",
        ),
    ),
    Group("layers_suspending", "The same, the call suspends once", _suspending_stacks, ours=_OURS),
    Group("policies", "Policies of ours alone", _policies),
    Group("compositions", "Compositions of ours", _compositions),
    Group(
        "gates",
        "Bulkhead, rate limit, throttle and adaptive limit alone, the call succeeds at once",
        _gates,
        ours="Bulkhead, a place is free",
        notes=("A rejection is caught; its floor is an error that is raised and caught.",),
    ),
    Group(
        "answers",
        "Fallback, last good answer, single flight and chaos alone",
        _answers,
        ours="Fallback, the call succeeds",
        notes=(
            "The last four do not get an answer of the callee; their floor is an error that is raised and caught.",
        ),
    ),
    Group("doors", "Doors of ours, Retry + CircuitBreaker + Timeout", _doors),
    Group("listeners", "Listeners", _listeners),
    Group(
        "rejected",
        "Rejected by an open circuit",
        _rejections,
        unit="raised and caught",
        ours=_OURS,
        notes=("The rejection is caught, as the error of the unit is.",),
    ),
    Group(
        "failing",
        "One failing call through a circuit breaker",
        _failing_breakers,
        unit="raised and caught",
        ours=_OURS,
    ),
    Group(
        "failing_retry",
        "Three failing attempts of a retry, no wait",
        _failing_retries,
        unit="the bare loop",
        ours=_OURS,
    ),
    Group(
        "failing_layers",
        "Three failing attempts through all three layers, no wait",
        _failing_stacks,
        unit="the bare loop",
        ours=_OURS,
    ),
)


async def trio_fail_after(value: int) -> int:
    with trio.fail_after(5):
        return await floors.callee(value)


async def trio_scope(value: int) -> int:
    with trio.CancelScope(deadline=trio.current_time() + 5):
        return await floors.callee(value)


async def trio_bare_scope(value: int) -> int:
    with trio.CancelScope():
        return await floors.callee(value)


def _on_trio(field: Field) -> dict[str, Contender]:
    found = _units() | {
        "trio.CancelScope without a deadline": trio_bare_scope,
        "trio.CancelScope with a deadline": trio_scope,
        "trio.fail_after": trio_fail_after,
        "anyio.fail_after": floors.anyio_fail_after,
    }
    for name, adapter in field.having("timeout"):
        if adapter.on_trio:
            found[f"{name}, timeout"] = adapter.timeout(floors.callee, Settings())
            found[f"{name}, three layers"] = adapter.layers(floors.callee, _default(adapter))
    return found


_TRIO = Group(
    "trio",
    "On trio, the call succeeds at once",
    _on_trio,
    ours=f"{_OURS}, three layers",
    notes=("Of the rivals with a timeout, nopanic alone runs on trio.",),
)


async def _table(group: Group, options: Options) -> Table:
    options.say(f"cost: {group.name}")
    contenders = group.contenders(options.field)
    if asyncio.iscoroutine(contenders):
        contenders = await contenders
    rounds, seconds = (7, 0.002) if options.quick else (31, 0.004)
    rows = await measure(contenders, rounds=rounds, seconds=seconds, unit=group.unit)
    return cost_table(
        group.name, group.title, rows, unit=group.unit, ours=group.ours, notes=group.notes
    )


async def _asyncio_tables(groups: Iterable[Group], options: Options) -> list[Table]:
    return [await _table(group, options) for group in groups]


def again(options: Options) -> list[Table]:
    """The tables with the headline ratios, for a second run."""
    headline = {table for table, _ in HEADLINE}
    return asyncio.run(_asyncio_tables((g for g in GROUPS if g.name in headline), options))


def run(options: Options) -> list[Table]:
    """The tables of asyncio, the one of trio, and the instruction counts if they were asked for."""
    tables = asyncio.run(_asyncio_tables(GROUPS, options))
    tables.append(trio.run(_table, _TRIO, options))
    if options.instructions:
        tables.append(instructions.table(options))
    return tables
