"""
A guard for each host an aiohttp session talks to: a client middleware.

    session = aiohttp.ClientSession(middlewares=[GuardMiddleware()])

aiohttp itself sends an idempotent request once more when a kept connection turns out to be closed. Below a guard that
would double its attempts, so the second time round the guard answers with the error it ended with.
"""

from __future__ import annotations

import asyncio
import copy
import math
import sys
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, final

import aiohttp
from aiohttp.payload import AsyncIterablePayload, Payload

from resilience.errors import DeadlineExpiredError, RejectedError, TimeoutExceededError
from resilience.events import Listener
from resilience.integrations._http.errors import joined
from resilience.integrations._http.exchange import POOL_SHARE, Exchange
from resilience.integrations._http.guard import Adapter, Dialect, Mode
from resilience.integrations._http.options import HttpOptions
from resilience.pipeline import Pipeline
from resilience.registry import Registry

__all__ = ["GuardMiddleware", "HttpOptions"]

_FAILURES = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError)
_NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)

_ATTEMPT: ContextVar[_Attempt | None] = ContextVar("resilience.aiohttp.attempt", default=None)
_ENDED: ContextVar[tuple[object, Exception] | None] = ContextVar(
    "resilience.aiohttp.ended", default=None
)
"""What the last call of this task ended with, by the timer that aiohttp makes for each call."""


def _failed(error: Exception) -> bool:
    attempt = _ATTEMPT.get()
    return isinstance(error, _FAILURES) and not (attempt is not None and attempt.queued)


_failed.__qualname__ = "failed"  # as a pipeline's repr shows it
_DIALECT = Dialect(_failed, lambda response: response.status)


@final
class GuardMiddleware(Adapter):
    """
    Send requests through a guard for each host: timeouts, retries, a circuit breaker.

    Repeated are requests of idempotent methods or with an idempotency key, whose body can be sent again. What a retry
    refused is released before it waits. ``Retry-After`` is honoured. No body is buffered: an attempt ends with the
    headers. An exhausted pool counts for nothing.

    Args:
        options: Default: the numbers of Microsoft's standard handler, see `HttpOptions`.
        name: What the circuits are called: ``name[host]``. Default ``http``.
        pipeline: A function of the host (``example.org``, ``localhost:8000``) that makes the pipeline of its own
            instead. ``options`` then says only what may be repeated, and when a response counts.
        max_hosts: Hosts with a guard of their own, >= 1. Beyond it the one asked longest ago is forgotten, unless it is
            open or in use; where none may go, new ones share a guard. Default 1000.
        listeners: Functions of an `Event`.
        registry: Where the circuits are found, as the family *name*. Two clients that name the same registry, name and
            settings share them. Default: one of its own.
        mode: ``enforce``; ``observe``: what would be done is told, and nothing is repeated, cut off or turned away;
            ``off``. Default: what ``RESILIENCE_<NAME>_MODE`` says when it is made, else ``enforce``.

    Raises:
        CircuitOpenError, and all other `RejectedError`: also an ``aiohttp.ClientConnectionError``.
        TimeoutExceededError, DeadlineExpiredError: also an ``aiohttp.ServerTimeoutError``.
        ConfigurationError: an argument that is not allowed.
    """

    def __init__(
        self,
        *,
        options: HttpOptions | None = None,
        name: str = "http",
        pipeline: Callable[[str], Pipeline[Any]] | None = None,
        max_hosts: int = 1000,
        listeners: Iterable[Listener] = (),
        registry: Registry | None = None,
        mode: Mode | None = None,
    ) -> None:
        super().__init__(
            _DIALECT,
            options,
            name=name,
            pipeline=pipeline,
            max_hosts=max_hosts,
            listeners=listeners,
            registry=registry,
            mode=mode,
        )

    def __repr__(self) -> str:
        return f"<GuardMiddleware {self._name!r}>"

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        timer = getattr(request, "_timer", None)
        ended = _ENDED.get()
        if ended is not None and timer is not None and ended[0] is timer:
            raise ended[1]
        _listen_to_the_pool(request.session)
        exchange = Exchange(request, self._obstacle, _release)
        body = request.body
        exchange.body = _Body(body) if isinstance(body, Payload) else None
        attempt = _Attempt(exchange, handler, self._tell_the_time)
        hold = self._options.verdict == "body"
        token = _ATTEMPT.set(attempt)
        try:
            response = await exchange.run(self._hosts[_host(request)], attempt.run, hold=hold)
        except (RejectedError, TimeoutExceededError) as error:
            if isinstance(error, aiohttp.ClientError):
                raise
            late = isinstance(error, (DeadlineExpiredError, TimeoutExceededError))
            client = aiohttp.ServerTimeoutError if late else aiohttp.ClientConnectionError
            raise joined(error, client, {}) from error.__cause__
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            # A copy: the error itself would keep its traceback, and all that hangs on it, until the next call.
            _ENDED.set((timer, copy.copy(error)))
            raise
        finally:
            _ATTEMPT.reset(token)
        if hold:
            _settle_at_the_end(response, exchange)
        return response  # type: ignore[no-any-return]


@final
class _Body:
    """Of a request; whether it can no longer be sent whole."""

    def __init__(self, payload: Payload) -> None:
        self._payload = payload
        self.sent = False

    @property
    def taken(self) -> bool:
        if isinstance(self._payload, AsyncIterablePayload):
            return self.sent
        return self._payload.consumed


@final
class _Attempt:
    """Attempts of one request; ``queued`` while one waits for a connection of the pool."""

    def __init__(
        self,
        exchange: Exchange,
        handler: aiohttp.ClientHandlerType,
        prepare: Callable[[Any, Exchange], None],
    ) -> None:
        self.queued = False
        self._exchange = exchange
        self._handler = handler
        self._prepare = prepare
        self._waiting = asyncio.timeout(None)

    async def run(self, exchange: Exchange) -> aiohttp.ClientResponse:
        request, body = exchange.request, exchange.body
        await (
            request.close()
        )  # the writer of an attempt before, which a repeat must not meet in the body
        self._prepare(request, exchange)
        self.queued = sent = False
        try:
            async with asyncio.timeout(None) as self._waiting:
                try:
                    response = await self._handler(request)
                    sent = True
                except _NEVER_SENT:
                    raise
                except BaseException:
                    sent = True
                    raise
        except TimeoutError:
            if not self._waiting.expired():
                raise
            raise aiohttp.ConnectionTimeoutError(
                f"No connection to {request.url.host} became free in time"
            ) from None
        finally:
            if body is not None:
                body.sent = sent
        exchange.opened(response)
        return response

    def queue(self) -> None:
        """The pool is exhausted: part of the attempt's time may pass here, and then it is the pool that failed."""
        self.queued = True
        left = self._exchange.remaining()
        if left < math.inf:
            self._waiting.reschedule(asyncio.get_running_loop().time() + left * POOL_SHARE)

    def go(self) -> None:
        """There is a connection."""
        self.queued = False
        self._waiting.reschedule(None)


async def _queued(*_: object) -> None:
    if (attempt := _ATTEMPT.get()) is not None:
        attempt.queue()


async def _free(*_: object) -> None:
    if (attempt := _ATTEMPT.get()) is not None:
        attempt.go()


def _pool_trace() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()
    trace.on_connection_queued_start.append(_queued)
    trace.on_connection_queued_end.append(_free)
    trace.freeze()
    return trace


_POOL_TRACE = _pool_trace()


def _listen_to_the_pool(session: aiohttp.ClientSession) -> None:
    """Aiohttp tells in no other way whether a request waits for the pool or for the server."""
    if _POOL_TRACE not in session.trace_configs:
        session.trace_configs.append(_POOL_TRACE)


def _host(request: aiohttp.ClientRequest) -> str:
    url = request.url
    host = f"[{url.raw_host}]" if ":" in (url.raw_host or "") else url.raw_host or ""
    return host if url.is_default_port() else f"{host}:{url.port}"


async def _release(response: aiohttp.ClientResponse) -> None:
    response.release()


def _settle_at_the_end(response: aiohttp.ClientResponse, exchange: Exchange) -> None:
    """The body's end is the verdict: when its connection is let go."""

    def ended() -> None:
        running = sys.exception()
        if isinstance(running, asyncio.CancelledError):
            exchange.settle(running)
            return
        error = response.content.exception()
        # Exactly this class is what aiohttp leaves in a body that the reader closed: who has enough is no failure.
        exchange.settle(None if type(error) is aiohttp.ClientConnectionError else error)

    connection = response.connection
    if connection is None:  # the whole body came with the headers
        ended()
    else:
        connection.add_callback(ended)
