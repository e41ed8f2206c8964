"""
A group of clients, and the one request all of them send.

Open loop: calls arrive at their appointed times, whether or not earlier ones have been answered, so a slow service does
not slow the arrivals down. What a group may have in flight is bounded; a call that arrives beyond the bound is dropped
and counted as such. Latency runs from the appointed time, so a late start is the caller's wait and not forgotten.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

from resilience.demo.records import Attempt, Call, Fate, Outcome
from resilience.demo.server import HOST
from resilience.errors import RejectedError

__all__ = [
    "BARE_TIMEOUT",
    "BrokenAnswerError",
    "Group",
    "Guard",
    "SendOnce",
    "ServiceError",
    "bare",
    "fetch",
]

BARE_TIMEOUT = 5.0
"""Seconds. What many clients come with (httpx: 5), and all that most services set."""

_ANSWER_LIMIT = 65536
_BROKEN = (
    anyio.EndOfStream,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.IncompleteRead,
    anyio.DelimiterNotFound,
    ValueError,
)

SendOnce = Callable[[Call], Awaitable[None]]
"""Makes one attempt of a call."""
Guard = Callable[[SendOnce, Call], Awaitable[None]]
"""Runs one call: makes its attempts, or none."""


class ServiceError(Exception):
    """The service answered with a status other than 200."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class BrokenAnswerError(ConnectionError):
    """The connection ended before the answer was complete."""


async def fetch(port: int, group: str, call: int, attempt: int) -> bytes:
    """
    One request over a connection of its own.

    Raises:
        ServiceError: the answer is complete and its status is not 200.
        BrokenAnswerError: the connection was reset or ended too early, or what came is not HTTP.
        OSError: there was no connection.
    """
    request = (
        f"GET /item HTTP/1.1\r\nHost: {HOST}:{port}\r\n"
        f"X-Group: {group}\r\nX-Call: {call}\r\nX-Attempt: {attempt}\r\n\r\n"
    )
    async with await anyio.connect_tcp(HOST, port) as stream:
        try:
            await stream.send(request.encode())
            received = BufferedByteReceiveStream(stream)
            head = (await received.receive_until(b"\r\n\r\n", _ANSWER_LIMIT)).decode("latin-1")
            status_line, *rest = head.split("\r\n")
            status = int(status_line.split(" ")[1])
            fields = {
                name.strip().lower(): value
                for name, _, value in (line.partition(":") for line in rest)
            }
            body = await received.receive_exactly(int(fields["content-length"]))
        except (*_BROKEN, LookupError) as error:
            raise BrokenAnswerError(type(error).__name__) from error
    if status != HTTPStatus.OK:
        raise ServiceError(status)
    return body


async def bare(send: SendOnce, call: Call) -> None:
    """The call as most services make it: one attempt, and one long timeout."""
    with anyio.fail_after(BARE_TIMEOUT):
        await send(call)


class Group:
    """
    Clients that call one service in one way.

    Args:
        name: The group's name, sent with each request.
        guard: How a call is made.
        port: Of the service.
        limit: Calls in flight at once.
        clock: Seconds since the run began.
    """

    def __init__(
        self, name: str, guard: Guard, *, port: int, limit: int, clock: Callable[[], float]
    ) -> None:
        self.name = name
        self.calls: list[Call] = []
        self.attempts: list[Attempt] = []
        self.in_flight: int = 0
        self._guard = guard
        self._port = port
        self._limit = limit
        self._clock = clock

    async def run(self, arrivals: Sequence[float]) -> None:
        """Make a call at each of these times, and return when all have ended."""
        async with anyio.create_task_group() as tasks:
            for number, at in enumerate(arrivals):
                await anyio.sleep(max(0.0, at - self._clock()))
                call = Call(number, at)
                self.calls.append(call)
                if self.in_flight >= self._limit:
                    call.outcome, call.end = Outcome.DROPPED, at
                    continue
                self.in_flight += (
                    1  # here and not in the task: arrivals that are due together are bounded too
                )
                tasks.start_soon(self._call, call)

    async def _call(self, call: Call) -> None:
        try:
            await self._guard(self._attempt, call)
        except RejectedError as error:
            call.outcome, call.error = Outcome.REJECTED, type(error).__name__
        except (OSError, ServiceError) as error:  # a timeout is an OSError too
            call.outcome, call.error = Outcome.FAILED, type(error).__name__
        else:
            call.outcome = Outcome.ANSWERED
        finally:
            self.in_flight -= 1
        call.end = self._clock()

    async def _attempt(self, call: Call) -> None:
        call.attempts += 1
        attempt = Attempt(call.number, call.attempts, self._clock())
        self.attempts.append(attempt)
        try:
            await fetch(self._port, self.name, attempt.call, attempt.number)
        except ServiceError:
            attempt.fate = Fate.ERROR
            raise
        except BrokenAnswerError:
            attempt.fate = Fate.BROKEN
            raise
        except OSError:
            attempt.fate = Fate.REFUSED
            raise
        attempt.fate = Fate.ANSWERED
