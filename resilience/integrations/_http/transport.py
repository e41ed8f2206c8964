"""
The one implementation for httpx and httpx2: an async transport around a transport, with a guard for each host.

The two have the same shape and different classes, so what differs comes in as a `Library`. Nothing is buffered: the
verdict falls at the headers, the body is the caller's stream; or, if asked for, at the body's end, as it passes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import AsyncIterator, Callable, Mapping
from types import ModuleType
from typing import Any, Unpack

from resilience.errors import (
    DeadlineExpiredError,
    RejectedError,
    ResilienceError,
    TimeoutExceededError,
)
from resilience.integrations._http.errors import joined
from resilience.integrations._http.exchange import POOL_SHARE, Exchange
from resilience.integrations._http.guard import Adapter, Dialect, Settings
from resilience.integrations._http.options import HttpOptions

__all__ = ["Guarded", "Library"]


class Library:
    """What differs between httpx and httpx2."""

    def __init__(self, module: ModuleType) -> None:
        classes: Any = module
        self.transport_error: type[Exception] = classes.TransportError
        self.timeout: type[Exception] = classes.TimeoutException
        self.replayable: type = classes.ByteStream
        self.watched: type[Any] = _watched(classes.AsyncByteStream)
        self.held: type[Any] = _held(classes.AsyncByteStream)
        failures = (classes.TransportError, OSError)
        # An exhausted pool, and what was wrong before anything was sent.
        others = (classes.PoolTimeout, classes.UnsupportedProtocol, classes.LocalProtocolError)

        def failed(error: Exception) -> bool:
            return isinstance(error, failures) and not isinstance(error, others)

        failed.__qualname__ = "failed"  # as a pipeline's repr shows it
        self.dialect: Dialect = Dialect(failed, lambda response: response.status_code)

    def error_of(self, error: ResilienceError) -> Exception:
        """Ours, as the client's."""
        if isinstance(error, self.transport_error):
            return error  # of a guarded transport inside this one
        late = isinstance(error, (DeadlineExpiredError, TimeoutExceededError))
        return joined(error, self.timeout if late else self.transport_error, {"_request": None})


class Guarded(Adapter):
    """What the transports of both libraries do; see `resilience.integrations.httpx.GuardedTransport`."""

    def __init__(
        self,
        library: Library,
        inner: Any,
        options: HttpOptions | None,
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(library.dialect, options, **settings)
        self._library = library
        self._inner = inner

    def __repr__(self) -> str:
        return f"<GuardedTransport {self._name!r} around {type(self._inner).__name__}>"

    async def _handle(self, request: Any) -> Any:
        library = self._library
        body = (
            None
            if isinstance(request.stream, library.replayable)
            else library.watched(request.stream)
        )
        exchange = Exchange(request, self._obstacle, _close)
        exchange.body = body
        hold = self._options.verdict == "body"
        try:
            guard = self._hosts[request.url.netloc.decode("ascii")]
            response = await exchange.run(guard, self._attempt, hold=hold)
        except (RejectedError, TimeoutExceededError) as error:
            raise library.error_of(error) from error.__cause__
        if response is exchange.released:
            _empty(response, library)
        if hold:
            response.stream = library.held(response.stream, exchange.settle)
        return response

    async def _attempt(self, exchange: Exchange) -> Any:
        request = exchange.request
        given = request.extensions.get("timeout") or {}
        limits = _limits(given, exchange.remaining())
        attempt = copy.copy(request)  # without stream and extensions, which are the attempt's own
        attempt.stream = exchange.body or request.stream
        attempt.extensions = {**request.extensions, "timeout": limits}
        self._tell_the_time(attempt, exchange)
        response = await self._inner.handle_async_request(attempt)
        exchange.opened(response)
        # The connection reads the body by these: they are the caller's again, no attempt's.
        limits.clear()
        limits.update(given)
        return response

    async def _aclose(self) -> None:
        await self._inner.aclose()


def _watched(stream: type[Any]) -> type[Any]:
    class Watched(stream):  # type: ignore[misc]  # its base is known only at run time
        """A body that can be read once; it notes that reading has begun."""

        def __init__(self, body: Any) -> None:
            self.taken = False
            self._body = body

        def __aiter__(self) -> AsyncIterator[bytes]:
            self.taken = True
            return aiter(self._body)

        async def aclose(self) -> None:
            await self._body.aclose()

    return Watched


def _held(stream: type[Any]) -> type[Any]:
    class Held(stream):  # type: ignore[misc]  # its base is known only at run time
        """A response's body; its end is the verdict. No generator: one that is not read to its end would linger."""

        def __init__(self, body: Any, settle: Callable[[BaseException | None], None]) -> None:
            self._body = body
            self._settle = settle
            self._parts: Any = None

        def __aiter__(self) -> AsyncIterator[bytes]:
            self._parts = aiter(self._body)
            return self

        async def __anext__(self) -> bytes:
            try:
                return await anext(self._parts)
            except StopAsyncIteration:
                self._settle(None)
                raise
            except BaseException as error:
                self._settle(error)
                raise

        async def aclose(self) -> None:
            self._settle(None)  # a reader who has enough is no failure
            await self._body.aclose()

    return Held


async def _close(response: Any) -> None:
    await response.aclose()


def _limits(given: Mapping[str, float | None], left: float) -> dict[str, float | None]:
    """The client's timeouts, cut at what the attempt has left."""
    limits = dict(given)
    if left < math.inf:
        for phase in ("connect", "read", "write", "pool"):
            most = left * POOL_SHARE if phase == "pool" else left
            limit = limits.get(phase)
            limits[phase] = most if limit is None else min(limit, most)
    return limits


def _empty(response: Any, library: Library) -> None:
    """
    A response that was closed for a retry which then was not allowed: it is the last answer, without its body.
    """
    for header in ("content-length", "content-encoding", "transfer-encoding"):
        response.headers.pop(header, None)
    response.stream = library.replayable(b"")
    response.is_closed = False
