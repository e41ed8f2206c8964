"""
What every door gives, as a type checker sees it: never run, only checked (``nox -s types``).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Protocol, assert_type

import aiohttp
import httpx
import httpx2
import tenacity
from sqlalchemy.ext.asyncio import AsyncSession

from resilience import (
    AIMD,
    Bulkhead,
    BulkheadSnapshot,
    Call,
    Chaos,
    CircuitBreaker,
    CircuitOpenError,
    CircuitState,
    ConcurrencyLimit,
    ConcurrencyLimitSnapshot,
    ConfigurationError,
    ConsecutiveFailures,
    CountWindow,
    Failure,
    FailureRate,
    Fallback,
    Gradient2,
    Hedge,
    LastGood,
    Permit,
    Pipeline,
    Place,
    Quantile,
    RateLimit,
    RateLimitSnapshot,
    RejectedError,
    ResilienceError,
    Retry,
    RetryBudget,
    SingleFlight,
    SlowRate,
    Success,
    Throttle,
    ThrottleSnapshot,
    Timeout,
    TimeoutExceededError,
    TimeWindow,
    Vegas,
    deadline,
    remaining,
)
from resilience.config import Config, InfrastructureConfigValidator, Report, get_config, load
from resilience.deadlines import Deadline, from_timeout_header, to_timeout_header
from resilience.events import CallFinished, Event, Subscription, listen
from resilience.integrations.aiohttp import GuardMiddleware
from resilience.integrations.asgi import Answer, OperationsApp, ResilienceMiddleware, answer_of
from resilience.integrations.asgi.types import App, Receive, Scope, Send
from resilience.integrations.httpx import GuardedTransport, HttpOptions
from resilience.integrations.httpx2 import GuardedTransport as GuardedTransport2
from resilience.integrations.llm import Answer as ModelAnswer
from resilience.integrations.llm import Providers
from resilience.integrations.sqlalchemy import DatabaseManager
from resilience.registry import LivePipeline, Registry, Summary
from resilience.telemetry import (
    Alerts,
    EventLog,
    EventQueue,
    Installation,
    LowSuccess,
    opentelemetry,
    prometheus,
    structlog,
)
from resilience.telemetry import logging as telemetry_logging
from resilience.telemetry.alerts import Tally


class Item:
    """What a callee returns."""


async def lookup(sku: str, *, fresh: bool = False) -> Item:
    raise NotImplementedError(sku, fresh)


async def attempt(call: Call, sku: str) -> Item:
    raise NotImplementedError(call.attempt, sku)


async def rows(query: str) -> AsyncGenerator[Item, None]:
    yield await lookup(query)


@asynccontextmanager
async def connect(host: str) -> AsyncIterator[Item]:
    yield await lookup(host)


class Looks(Protocol):
    """The signature of ``lookup``, names and defaults included."""

    def __call__(self, sku: str, *, fresh: bool = False) -> Coroutine[Any, Any, Item]: ...


# Every way to write an option.
breaker = CircuitBreaker("catalogue", on=OSError)
CircuitBreaker("a", on=(OSError, ValueError), ignore=TimeoutError, trip=ConsecutiveFailures(3))
CircuitBreaker("b", on=lambda error: error.errno == 1 if isinstance(error, OSError) else False)
CircuitBreaker("c", on=OSError, on_result=lambda result: result is None, clock=lambda: 0.0)
CircuitBreaker("d", on=OSError, trip=FailureRate(0.5, TimeWindow(30), minimum_calls=10))
CircuitBreaker(
    "e",
    on=OSError,
    trip=FailureRate(0.5, CountWindow(100), minimum_calls=10)
    | SlowRate(0.5, 1.0, TimeWindow(timedelta(seconds=30), buckets=30), minimum_calls=10)
    & ConsecutiveFailures(2),
    break_duration=timedelta(seconds=5),
    probes=2,
    successes_to_close=3,
    probe_lease=10,
    overdue_after=timedelta(seconds=1),
)
CircuitBreaker("f", on=OSError, break_duration=lambda opening: 2.0**opening)
CircuitBreaker("g", on=OSError, break_duration=tenacity.wait_exponential())
retry = Retry(on=OSError)
Retry(
    5, on=(ConnectionError, TimeoutError), wait=tenacity.wait_random(0, 1) + tenacity.wait_fixed(1)
)
Retry(on=tenacity.retry_if_exception_type(OSError), stop=tenacity.stop_after_delay(10))
Retry(
    on=OSError,
    stop=tenacity.stop_after_attempt(3) | tenacity.stop_after_delay(timedelta(minutes=1)),
)
Retry(on=OSError, on_result=lambda result: result is None, wait=lambda _: 0.1)
Retry(on=OSError, max_delay=timedelta(minutes=1), retry_after=False)
budget = RetryBudget(0.1, minimum_per_second=1, ttl=timedelta(seconds=30), name="catalogue")
Retry(on=OSError, budget=budget)
assert_type(budget.spend(), bool)
assert_type(deadline(timedelta(seconds=2)), Deadline)
Hedge(timedelta(seconds=1), idempotent=True)
Hedge(lambda call: call.remaining() / 2, 2, idempotent=True, on=OSError, budget=budget)
hedged = Hedge(Quantile(0.9, minimum_calls=5), idempotent=True).wrap(lookup)
assert_type(remaining(), float)
assert_type(to_timeout_header(), str | None)
assert_type(from_timeout_header(b"1S", cap=5), float | None)
assert_type(budget.snapshot().available, int)
bulkhead = Bulkhead(10, queue=20, max_wait=timedelta(seconds=5), name="db")
Bulkhead(10, max_wait=None, weight=lambda call: call.attempt, clock=lambda: 0.0)
limit = RateLimit(10, per=timedelta(minutes=1), burst=2, max_wait=1, weight=3)
RateLimit(0.5, max_wait=timedelta(seconds=2), weight=lambda call: call.attempt)
throttle = Throttle(2.0, ignore=KeyError, window=timedelta(minutes=2), priority=3)
Throttle(on=(OSError, ValueError), priority=lambda call: call.attempt, rng=None)
adaptive = ConcurrencyLimit(Vegas(initial=10, decrease=lambda limit: limit / 2))
ConcurrencyLimit(
    AIMD(timeout=timedelta(seconds=1)), partitions={"a": 0.5}, bypass=lambda call: True
)
ConcurrencyLimit(Gradient2(maximum=50), partition=lambda call: None, on=OSError)
timeout = Timeout(2)
Timeout(timedelta(seconds=2))
Timeout(lambda call: call.remaining() / 2)

pipeline = Pipeline(Timeout(10), retry, breaker, timeout)
Pipeline()
Pipeline(retry, Pipeline(timeout, name="inner"), name="outer", key="tenant", enabled=True)
assert_type(pipeline.replace(Timeout(5)), Pipeline)


async def calls() -> None:
    """`await p(fn, *args, **kwargs)`: any callable that returns an awaitable."""
    assert_type(await pipeline(lookup, "1"), Item)
    assert_type(await pipeline(lookup, "1", fresh=True), Item)
    assert_type(await pipeline(partial(lookup, "1")), Item)
    assert_type(await pipeline(lambda: lookup("1")), Item)
    assert_type(await pipeline(Shop().find, "1"), Item)
    assert_type(await timeout(lookup, "1"), Item)
    assert_type(await retry(lookup, "1"), Item)
    assert_type(await breaker(lookup, "1"), Item)


# `p.wrap(fn)`: the same signature, names and defaults included, for functions and methods.
wrapped: Looks = pipeline.wrap(lookup)
wrapped_by_a_policy: Looks = timeout.wrap(lookup)


class Shop:
    """Decorated methods."""

    @pipeline.wrap
    async def find(self, sku: str) -> Item:
        raise NotImplementedError(sku)

    @pipeline.informed
    async def find_again(self, call: Call, sku: str) -> Item:
        raise NotImplementedError(call.attempt, sku)


@Retry(on=OSError).wrap
async def decorated(sku: str) -> Item:
    raise NotImplementedError(sku)


async def wraps() -> None:
    """What the wrapped functions give."""
    assert_type(await wrapped("1", fresh=True), Item)
    assert_type(await decorated("1"), Item)
    assert_type(await decorated(sku="1"), Item)
    assert_type(await Shop().find("1"), Item)


async def informed() -> None:
    """`p.informed(fn)`: the `Call` is the library's to pass, `self` is not."""
    assert_type(await pipeline.informed(attempt)("1"), Item)
    assert_type(await pipeline.informed(attempt)(sku="1"), Item)
    assert_type(await Shop().find_again("1"), Item)


async def replica(error: Exception, call: Call) -> bytes:
    """Makes another answer."""
    raise NotImplementedError(error, call)


async def replica_of_a_result(error: Exception | None, call: Call) -> bytes:
    raise NotImplementedError(error, call)


or_none = Fallback(None, on=OSError)
or_bytes = Fallback.using(replica, replica, on=(OSError, CircuitOpenError))
last_good = LastGood(timedelta(minutes=1), on=OSError, key=lambda sku: sku, max_keys=5, name="skus")
assert_type(or_none, Fallback[None])
assert_type(or_bytes, Fallback[bytes])
assert_type(
    Fallback.using(replica_of_a_result, on=OSError, on_result=lambda result: result is None),
    Fallback[bytes],
)
assert_type(last_good.snapshot().served, int)


async def flights() -> None:
    """Entered, it gives itself; a flight gives what its callee returns."""
    async with SingleFlight(key=lambda sku: sku, max_flights=5, name="skus") as entered:
        assert_type(entered, SingleFlight)
        assert_type(await entered(lookup, "1"), Item)
        assert_type(entered.snapshot().in_flight, int)


async def evict(call: Call) -> None:
    raise NotImplementedError(call)


Chaos(0.1, fault=OSError, latency=timedelta(seconds=2), when=lambda call: call.attempt == 1)
Chaos(lambda call: 0.1, fault=lambda call: OSError(call.attempt), enabled=lambda: True)
Chaos(0.1, latency=lambda call: call.remaining() / 2, behaviour=evict, enabled=True, name="drill")
chaos = Chaos(0.1, result=None)
assert_type(chaos.active, bool)


async def drill() -> None:
    """Chaos gives what the callee gives; what it injects is the test's own doing."""
    with chaos.switched_on():
        assert_type(await chaos(lookup, "1"), Item)


class Quotes:
    """Methods with a fallback."""

    @or_none.wrap
    async def find(self, sku: str) -> Item:
        raise NotImplementedError(sku)


async def fallbacks() -> None:
    """A fallback's answer is one of the types a call gives, through every door and in any pipeline: ``T | F``."""
    assert_type(await or_none(lookup, "1"), Item | None)
    assert_type(await or_none.wrap(lookup)("1", fresh=True), Item | None)
    assert_type(await Quotes().find("1"), Item | None)
    assert_type(await or_none.informed(attempt)("1"), Item | None)
    assert_type(await or_bytes(lookup, "1"), Item | bytes)
    assert_type(await last_good(lookup, "1"), Item)
    assert_type(await or_none.outcome(lookup, "1"), Success[Item | None] | Failure)
    async with or_none.opening(connect)("host") as connection:
        assert_type(connection, Item | None)
    async with or_none.stream(rows)("query") as items:
        async for item in items:
            assert_type(item, Item | None)

    assert_type(Pipeline(retry, timeout), Pipeline)
    guarded = Pipeline(or_none, last_good, retry, Pipeline(breaker, timeout, name="inner"))
    assert_type(guarded, Pipeline[None])
    assert_type(await guarded(lookup, "1"), Item | None)
    assert_type(await guarded.wrap(lookup)("1"), Item | None)
    assert_type(await Pipeline(or_none, or_bytes, retry)(lookup, "1"), Item | bytes | None)
    assert_type(await Pipeline(retry, Pipeline(or_bytes, name="inner"))(lookup, "1"), Item | bytes)
    assert_type(await guarded.replace(Timeout(5))(lookup, "1"), Item | None)
    assert_type(await Pipeline(timeout).replace(or_bytes)(lookup, "1"), Item | bytes)
    assert_type(await Pipeline(Fallback(Item(), on=OSError), timeout)(lookup, "1"), Item)
    live = Registry().pipeline("items", or_none, retry, timeout)
    assert_type(await live(lookup, "1"), Item | None)
    assert_type(await Registry().pipeline("items", retry)(lookup, "1"), Item)


def about_a_call(call: Call) -> None:
    """What an informed function may ask."""
    assert_type(call.attempt, int)
    assert_type(call.deadline, float | None)
    assert_type(call.remaining(), float)
    assert_type(call.previous_error, Exception | None)


async def opening() -> None:
    """`p.opening(cm_fn)`."""
    assert_type(pipeline.opening(connect)("host"), AbstractAsyncContextManager[Item])
    async with pipeline.opening(connect)(host="host") as connection:
        assert_type(connection, Item)


async def stream() -> None:
    """`p.stream(agen_fn)`."""
    async with pipeline.stream(rows)("query") as items:
        async for item in items:
            assert_type(item, Item)
    async with pipeline.stream(rows, hold=True)(query="query") as items:
        assert_type(await anext(items), Item)


async def outcome() -> None:
    """`p.outcome(fn, ...)`: `.ok` tells the two apart."""
    ended = await pipeline.outcome(lookup, "1", fresh=True)
    assert_type(ended, Success[Item] | Failure)
    assert_type(ended.ok, bool)
    assert_type(ended.unwrap(), Item)
    assert_type(ended.attempts, int)
    assert_type(ended.elapsed, float)
    assert_type(ended.exhausted, bool)
    assert_type(ended.from_fallback, bool)
    assert_type(ended.rejection, RejectedError | None)
    if ended.ok is True:  # a bare `if ended.ok:` tells mypy, but not pyright
        assert_type(ended, Success[Item])
        assert_type(ended.value, Item)
    else:
        assert_type(ended, Failure)
        assert_type(ended.error, Exception)
    match ended:
        case Success(value=value):
            assert_type(value, Item)
        case Failure(error=error):
            assert_type(error, Exception)


def by_hand() -> None:
    """The breaker without a pipeline."""
    permit = breaker.admit()
    assert_type(permit, Permit)
    permit.success()
    permit.failure()
    permit.failure(OSError())
    permit.ignore()
    with breaker.admit() as held:
        assert_type(held, Permit)
    with breaker.isolate() as handle:
        handle.release()
    breaker.disable()
    breaker.observe()
    breaker.reset()
    assert_type(breaker.name, str)
    assert_type(breaker.state, CircuitState)
    assert_type(breaker.generation, int)
    assert_type(breaker.retry_after, float | None)
    assert_type(breaker.snapshot().state, CircuitState)


async def gates() -> None:
    with bulkhead.admit() as place:
        assert_type(place, Place)
    with await bulkhead.acquire(2) as place:
        assert_type(place.weight, int)
    async with bulkhead.acquire() as place:
        assert_type(place, Place)
        assert_type(place.release(), None)
    bulkhead.change(limit=5, queue=0)
    assert_type(bulkhead.snapshot(), BulkheadSnapshot)
    assert_type((bulkhead.in_flight, bulkhead.available, bulkhead.waiting), tuple[int, int, int])
    assert_type(await bulkhead(lookup, "1"), Item)
    assert_type(limit.admit(), None)
    assert_type(await limit.acquire(3), None)
    limit.change(rate=5, per=timedelta(seconds=1), max_wait=timedelta(seconds=1))
    limit.drain()
    assert_type(limit.snapshot(), RateLimitSnapshot)
    assert_type((limit.available, limit.retry_after, limit.waiting), tuple[float, float, int])
    assert_type(throttle.snapshot(), ThrottleSnapshot)
    assert_type(adaptive.snapshot(), ConcurrencyLimitSnapshot)
    assert_type((adaptive.limit, adaptive.in_flight), tuple[int, int])
    assert_type(await adaptive(lookup, "1"), Item)
    assert_type(await throttle(lookup, "1"), Item)
    assert_type(await Pipeline(timeout, limit, bulkhead)(lookup, "1"), Item)


def errors(rejected: RejectedError, opened: CircuitOpenError, cut: TimeoutExceededError) -> None:
    """What the errors carry, and what they also are."""
    assert_type(rejected.policy, str)
    assert_type(rejected.retry_after, float | None)
    assert_type(rejected.reason, str)
    assert_type(opened.breaker, str)
    assert_type(opened.state, str)
    assert_type(opened.last_failure, str | None)
    assert_type(cut.seconds, float)
    as_builtin: TimeoutError = cut
    as_ours: ResilienceError = cut
    as_value_error: type[ValueError] = ConfigurationError
    del as_builtin, as_ours, as_value_error


async def http() -> None:
    """What guards a client is what the client takes."""
    options = HttpOptions(attempts=2, total_timeout=timedelta(seconds=5), retry_statuses={503})
    for_httpx = GuardedTransport(httpx.AsyncHTTPTransport(), options=options, mode="observe")
    client = httpx.AsyncClient(transport=for_httpx)
    assert_type(await client.get("https://example.org"), httpx.Response)
    assert_type(for_httpx.breakers, tuple[CircuitBreaker, ...])
    client2 = httpx2.AsyncClient(
        transport=GuardedTransport2(name="catalogue", pipeline=lambda _: pipeline)
    )
    assert_type(await client2.get("https://example.org"), httpx2.Response)
    async with aiohttp.ClientSession(middlewares=[GuardMiddleware(options=options)]) as session:
        assert_type((await session.get("https://example.org")).status, int)


async def databases(session_of: AsyncSession) -> None:
    """What a unit returns, and what answers for it."""

    async def unit(session: AsyncSession) -> int:
        return 1 if session is session_of else 2

    async def answer(error: Exception) -> str:
        return type(error).__name__

    async with DatabaseManager("sqlite+aiosqlite://", name="typed", drain=5) as database:
        assert_type(await database.read(unit), int)
        assert_type(await database.read(unit, fallback=None), int | None)
        assert_type(await database.read(unit, fallback=answer), int | str)
        assert_type(await database.write(unit, idempotent=True), int)
        assert_type((await database.check()).ok, bool)
        assert_type(database.snapshot().breakers[0].state, CircuitState)
        assert_type(await database.aclose(), bool)


async def insight(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Listening, what telemetry installs, and what stands in an ASGI service."""
    with listen(lambda event: None) as subscription:
        assert_type(subscription, Subscription)
    for installed in (
        opentelemetry.install(breakers=Registry()),
        prometheus.install(),
        structlog.install(),
        telemetry_logging.install("resilience", levels={CallFinished: None}),
    ):
        assert_type(installed, Installation)
        installed.remove()
    async with EventQueue(limit=10, drop="newest") as events:
        async for event in events:
            assert_type(event, Event)
    for entry in EventLog():
        assert_type(entry.event, Event)

    def own(event: Event, tally: Tally, now: float) -> str | None:
        return None if tally.answered(now) else event.policy

    subscription = listen(Alerts(lambda alert: alert.subject, rules=[own, LowSuccess()]))
    middleware: App = ResilienceMiddleware(app, shed=Timeout(2), exempt=lambda scope: True)
    operations: App = OperationsApp(Registry(), guard=lambda scope: scope["path"] == "/")
    await middleware(scope, receive, send)
    await operations(scope, receive, send)
    assert_type(answer_of(OSError()), Answer | None)


async def names_and_files(registry: Registry) -> None:
    assert_type(
        registry.breaker("catalogue", on=OSError, break_duration=timedelta(seconds=5)),
        CircuitBreaker,
    )
    assert_type(registry.policy(Bulkhead, "db", limit=5), Bulkhead)
    assert_type(registry.summary(domain="db"), Summary)
    assert_type(await registry.remove("catalogue", timeout=None), bool)
    config = load("resilience.toml", {"breakers": {}}, errors={"httpx": httpx.TransportError})
    assert_type(config, Config)
    assert_type(get_config(reload=True), Config)
    assert_type(config.breaker("catalogue"), CircuitBreaker)
    assert_type(config.reload(), tuple[str, ...])
    live: LivePipeline[Any] = config.pipeline("catalogue")
    assert_type(await live(lookup, "1"), Item | Any)
    assert_type(InfrastructureConfigValidator("resilience.toml").validate(), Report)


async def models() -> None:
    asked = Providers(("one", lookup), ("two", lookup), attempt_timeout=timedelta(seconds=5))
    answer = await asked("1", fresh=True)
    assert_type(answer, ModelAnswer[Item])
    assert_type(answer.value, Item)
    async with Providers(("rows", rows)).stream("query") as streamed:
        assert_type(streamed.value, AsyncIterator[Any])


# A helper of a user's that keeps the types of what it guards.
def guarded(
    fn: Callable[[str], Coroutine[Any, Any, Item]],
) -> Callable[[str], Coroutine[Any, Any, Item]]:
    return pipeline.wrap(fn)
