"""
Connections that come back: the `websockets` library's own reconnection, with waits, a breaker and close codes of ours.

The library decides when to connect again; here is decided how soon, whether at all, and who may try. Why a wait after a
drop too, where the library has none: a server that restarts drops everybody at once, and would get everybody back at
once. Why short-lived connections count as failures: a server that accepts and closes would be asked in a loop.

asyncio only, as the library is.
"""

from __future__ import annotations

import asyncio
import enum
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import aclosing
from typing import Any, TypeAlias, final

import attrs
from websockets.asyncio.client import ClientConnection, connect
from websockets.client import process_exception
from websockets.exceptions import ConnectionClosed

from resilience.clock import PROCESS_CLOCK, RNG, Rng
from resilience.core.backoff import FullJitter
from resilience.core.trips import ConsecutiveFailures
from resilience.errors import RejectedError
from resilience.events import hook_failed
from resilience.policies.circuit_breaker import CircuitBreaker
from resilience.validation import (
    as_optional_seconds,
    as_seconds,
    check,
    duration,
    instance,
    is_function,
    name,
    one_of,
    rng,
)

__all__ = ["Closed", "Session", "WebSocketManager", "closed_by", "is_transient"]


class Closed(enum.Enum):
    """What a close code asks for."""

    AGAIN = "again"
    """Connect again."""
    DONE = "done"
    """The other side had no more to say: the loop ends."""
    FATAL = "fatal"
    """Another connection would end the same way: the loop raises what the library raises."""


_FATAL = frozenset({
    1002,  # protocol error
    1003,  # unsupported data
    1007,  # invalid frame payload
    1008,  # policy violation
    1009,  # message too big
    1010,  # mandatory extension
    1015,  # TLS handshake
    3000,  # unauthorized
    3003,  # forbidden
})  # fmt: skip


def closed_by(code: int | None) -> Closed:
    """
    What a close code asks for, by the registry of RFC 6455 and IANA.

    1000 is the end. Errors that are ours, or that another try cannot mend (1002, 1003, 1007 to 1010, 1015, 3000, 3003)
    are fatal. All others connect again: 1001 going away, 1006 no close frame, 1011 server error, 1012 restart, 1013 try
    again later, 1014 bad gateway, 3008 timeout, and what applications define (4000 to 4999).
    """
    if code == 1000:  # noqa: PLR2004 - its name in the registry is its number
        return Closed.DONE
    return Closed.FATAL if code in _FATAL else Closed.AGAIN


def is_transient(error: Exception) -> bool:
    """Whether connecting may succeed another time: the library's own judgement (network, timeout, 500, 502 to 504)."""
    return process_exception(error) is None


@attrs.define
class Session:
    """
    One logical connection, over any number of real ones. It goes away with its loop.

    Attributes:
        connections: How many were made, the present one included.
        last_code: Close code of the one before, or None.
        memory: Yours: what a resumption needs, such as the last event's id.
    """

    connections: int = 0
    last_code: int | None = None
    memory: dict[str, Any] = attrs.field(factory=dict, repr=False)


@attrs.frozen(kw_only=True)
class WebSocketSnapshot:
    """
    A manager at one instant.

    Attributes:
        sessions: Loops that run.
        connected: Of them, those with a connection.
        connections: Made since the manager was.
        failures: Attempts to connect that failed, rejected ones not counted.
        rejected: Attempts that the circuit turned away.
    """

    sessions: int
    connected: int
    connections: int
    failures: int
    rejected: int


Resume: TypeAlias = Callable[[ClientConnection, Session], Awaitable[None]]
Wait: TypeAlias = "FullJitter | Callable[[int], float]"

_WAIT = one_of(
    "a FullJitter or a function of the number of the try that returns seconds, not async",
    lambda value: isinstance(value, FullJitter) or is_function(value),
    {"number": 5.0, "none": None, "class": FullJitter, "async": asyncio.sleep},
)
_HOOK = one_of(
    "None or an async function of the connection and the session",
    lambda value: value is None or callable(value),
    {"number": 1, "text": "resume"},
)
_CLASSIFY = one_of(
    "a function of a close code that returns a Closed, not async",
    is_function,
    {"none": None, "number": 1000, "class": Closed, "async": asyncio.sleep},
)


@final
class WebSocketManager:
    """
    Connections to one service: ``async for connection in manager.connect(uri):``.

    The body of the loop gets each connection in turn; when it is closed, the body ends or catches ``ConnectionClosed``
    and goes on, and the next turn has the next connection.

    Args:
        name: For the breaker and logs.
        wait: Seconds before the n-th try in a row, n from 1, the first after a drop included: a `FullJitter` or a
            function of n. Default ``FullJitter(initial=5, cap=60)``, so that 1,000 dropped at once come back over 5 s.
        breaker: Around connecting, the handshake and ``resume``. Default: 5 failures in a row, 5 s, one probe.
        resume: Called with each new connection and its `Session` before the body gets it: to authenticate, subscribe
            again, ask for what was missed. What it raises counts as a failure to connect.
        classify: What a close code asks for. Default `closed_by`.
        open_timeout: Seconds for connecting and the handshake; None: no limit. Default 10.
        heartbeat: Seconds between pings; None: none. Default 20.
        heartbeat_timeout: Seconds an answer may take; then the connection is dropped. Default 20.
        stable_after: Seconds after which a connection counts as a success; one that ends before continues the row of
            failures, so that waits grow. Default 30.
        rng: Where a ``FullJitter`` draws from. Default: the library's own.

    One manager serves any number of loops of one event loop.
    """

    def __init__(
        self,
        name: str,
        *,
        wait: Wait | None = None,
        breaker: CircuitBreaker | None = None,
        resume: Resume | None = None,
        classify: Callable[[int | None], Closed] = closed_by,
        open_timeout: float | None = 10.0,
        heartbeat: float | None = 20.0,
        heartbeat_timeout: float | None = 20.0,
        stable_after: float = 30.0,
        rng: Rng | None = None,
    ) -> None:
        given: dict[str, Any] = {
            "name": name,
            "wait": FullJitter(initial=5.0, cap=60.0) if wait is None else wait,
            "breaker": breaker,
            "resume": resume,
            "classify": classify,
            "open_timeout": as_optional_seconds(open_timeout),
            "heartbeat": as_optional_seconds(heartbeat),
            "heartbeat_timeout": as_optional_seconds(heartbeat_timeout),
            "stable_after": as_seconds(stable_after),
            "rng": rng,
        }
        for field, allowed in FIELDS.items():
            check(f"WebSocketManager.{field}", given[field], allowed)
        self.name: str = name
        self.breaker: CircuitBreaker = breaker or CircuitBreaker(
            name,
            on=is_transient,
            trip=ConsecutiveFailures(5),
            break_duration=5.0,
            probe_lease=max(60.0, given["open_timeout"] or 0.0),
        )
        self._wait: Any = given["wait"]
        self._rng = rng or RNG
        self._resume = resume
        self._classify = classify
        self._stable_after: float = given["stable_after"]
        self._options: dict[str, Any] = {
            "open_timeout": given["open_timeout"],
            "ping_interval": given["heartbeat"],
            "ping_timeout": given["heartbeat_timeout"],
        }
        self._sessions: weakref.WeakSet[_Connecting] = weakref.WeakSet()
        self.connections: int = 0
        self.failures: int = 0
        self.rejected: int = 0

    def __repr__(self) -> str:
        return f"WebSocketManager({self.name!r})"

    async def connect(
        self, uri: str, /, *, session: Session | None = None, **options: Any
    ) -> AsyncIterator[ClientConnection]:
        """
        The connections, one after the other, until a close code says that it is over.

        Args:
            uri: Where to. It is not logged here; the library logs failures without it.
            session: What to go on with; default: a new one.
            options: Of ``websockets.asyncio.client.connect``, such as ``additional_headers`` or ``ssl``.

        Raises:
            ConnectionClosed: a close code was fatal.
            Exception: connecting failed for good, such as a 403.
        """
        connecting = _Connecting(self, session or Session(), uri, self._options | options)
        self._sessions.add(connecting)
        try:
            async with aclosing(connecting.__aiter__()) as connections:  # type: ignore[type-var]
                async for connection in connections:
                    yield connection
        except _Over:
            return
        finally:
            self._sessions.discard(connecting)

    def snapshot(self) -> WebSocketSnapshot:
        """Its figures now."""
        sessions = list(self._sessions)
        return WebSocketSnapshot(
            sessions=len(sessions),
            connected=sum(each.connected for each in sessions),
            connections=self.connections,
            failures=self.failures,
            rejected=self.rejected,
        )

    def delay(self, attempt: int) -> float:
        """Seconds before the n-th try in a row."""
        wait = self._wait
        if isinstance(wait, FullJitter):
            return wait.draw(attempt, wait.rng or self._rng)
        try:
            seconds = float(wait(attempt))
        except Exception as error:  # noqa: BLE001 - law 6
            hook_failed("WebSocketManager.wait", wait, error)
            seconds = -1.0
        return seconds if 0 <= seconds < 86_400 else _DEFAULT_WAIT.draw(attempt, self._rng)  # noqa: PLR2004 - a day

    def verdict(self, code: int | None) -> Closed:
        """What a close code asks for; where the user's function fails, what `closed_by` says."""
        try:
            found = self._classify(code)
        except Exception as error:  # noqa: BLE001 - law 6
            hook_failed("WebSocketManager.classify", self._classify, error)
            return closed_by(code)
        return found if isinstance(found, Closed) else closed_by(code)


_DEFAULT_WAIT = FullJitter(initial=5.0, cap=60.0)

FIELDS = {
    "name": name(),
    "wait": _WAIT,
    "breaker": instance(CircuitBreaker, "a CircuitBreaker", none=True),
    "resume": _HOOK,
    "classify": _CLASSIFY,
    "open_timeout": duration(none=True),
    "heartbeat": duration(none=True),
    "heartbeat_timeout": duration(none=True),
    "stable_after": duration(zero=True),
    "rng": rng(),
}
"""What each argument of `WebSocketManager` takes."""


class _Over(Exception):  # noqa: N818 - no error
    """The other side said that it is over."""


@final
class _Connecting(connect):
    """The library's loop; each of its tries comes through `connect`."""

    def __init__(
        self, manager: WebSocketManager, session: Session, uri: str, options: dict[str, Any]
    ) -> None:
        super().__init__(
            uri,
            process_exception=self._judged,
            reconnect_delays=self._delays,
            **options,
        )
        self._manager = manager
        self._session = session
        self._row = 0  # tries in a row that have not led to a stable connection
        self._last: ClientConnection | None = None
        self._since = 0.0
        self._retry_after = 0.0

    @property
    def connected(self) -> bool:
        return self._last is not None and self._last.close_code is None

    async def connect(self) -> ClientConnection:
        await self._after_a_drop()
        manager = self._manager
        try:
            with manager.breaker.admit():
                connection = await super().connect()
                await self._resumed(connection)
        except RejectedError as rejected:
            manager.rejected += 1
            self._retry_after = rejected.retry_after or 0.0
            raise
        except Exception:
            manager.failures += 1
            raise
        manager.connections += 1
        self._last, self._since = connection, PROCESS_CLOCK.now()
        return connection

    async def _resumed(self, connection: ClientConnection) -> None:
        self._session.connections += 1
        if self._manager._resume is None:  # noqa: SLF001 - our own
            return
        try:
            await self._manager._resume(connection, self._session)  # noqa: SLF001
        except BaseException:
            await connection.close()
            raise

    async def _after_a_drop(self) -> None:
        """The connection before has ended: whether and when another one follows."""
        last, self._last = self._last, None
        if last is None:
            return
        await last.wait_closed()
        code = self._session.last_code = last.close_code
        verdict = self._manager.verdict(code)
        if verdict is Closed.DONE and last.protocol.close_rcvd_then_sent is not False:
            raise _Over  # not where the body ended first, and the other side only agreed
        if verdict is Closed.FATAL:
            raise last.protocol.close_exc
        lived = PROCESS_CLOCK.now() - self._since
        self._row = 1 if lived >= self._manager._stable_after else self._row + 1  # noqa: SLF001
        await asyncio.sleep(self._manager.delay(self._row))

    def _judged(self, error: Exception) -> Exception | None:
        """The library's question: None to try again."""
        if isinstance(error, RejectedError):
            return None
        if isinstance(error, _Over | ConnectionClosed):
            return error
        return process_exception(error)

    def _delays(self) -> Generator[float]:
        while True:
            self._row += 1
            delay = self._manager.delay(self._row)
            # Who was turned away comes back after the break, and not all at its end.
            floor, self._retry_after = self._retry_after, 0.0
            yield floor + delay
