"""
A guard for each host a httpx client talks to: a transport around the client's own.

    client = httpx.AsyncClient(transport=GuardedTransport())
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, final

import httpx

from resilience.events import Listener
from resilience.integrations._http.guard import Mode
from resilience.integrations._http.options import HttpOptions
from resilience.integrations._http.transport import Guarded, Library
from resilience.pipeline import Pipeline
from resilience.registry import Registry

__all__ = ["GuardedTransport", "HttpOptions"]

_LIBRARY = Library(httpx)


@final
class GuardedTransport(Guarded, httpx.AsyncBaseTransport):
    """
    Send requests through a guard for each host: timeouts, retries, a circuit breaker.

    Repeated are requests of idempotent methods or with an idempotency key, whose body can be sent again. What a retry
    refused is closed before it waits. ``Retry-After`` is honoured. No body is buffered: an attempt ends with the
    headers. An exhausted pool counts for nothing. On asyncio and on trio.

    Args:
        transport: What sends. Default: a new ``httpx.AsyncHTTPTransport()``. Limits, proxies, certificates and HTTP/2
            are its affair: a client that is given a transport leaves them to it.
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
        CircuitOpenError, and all other `RejectedError`: also a ``httpx.TransportError``.
        TimeoutExceededError, DeadlineExpiredError: also a ``httpx.TimeoutException``.
        ConfigurationError: an argument that is not allowed.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport | None = None,
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
            _LIBRARY,
            httpx.AsyncHTTPTransport() if transport is None else transport,
            options,
            name=name,
            pipeline=pipeline,
            max_hosts=max_hosts,
            listeners=listeners,
            registry=registry,
            mode=mode,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._handle(request)  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        await self._aclose()
