"""
One request on its way: what of it may be repeated, and which responses are open.

Whether a request may be repeated is no question for `Retry`, which sees only how an attempt ended. So the innermost
policy of every guard is a `Repeat`: it refuses a second attempt that would do harm, and it says so beforehand, through
a gate, so that a retry neither waits nor closes anything for it. That holds for pipelines that users bring along.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, final

import anyio
import attrs

from resilience.call import Call, Parked, Step
from resilience.doors import Guard, Policy, _run
from resilience.errors import RejectedError
from resilience.events import Hub

__all__ = ["POOL_SHARE", "Exchange", "Repeat"]

POOL_SHARE = 0.9
"""
Of the time an attempt has, what it may wait for a connection of the pool. One that came later would be of no use, and
so it is the pool that says that it is exhausted, which counts as nothing, and not the deadline, which is a failure.
"""

_CURRENT: ContextVar[Exchange | None] = ContextVar("resilience.http", default=None)
_CLOSING = 5.0  # seconds for the goodbye of a connection, which nothing else may cut short


@final
class Exchange:
    """
    A request, all its attempts, and the response that comes of them.

    Attributes:
        begun: An attempt was made.
        body: Of the request, if it can be read only once and has to be watched; else None.
        released: The response that was closed last for a retry.
        timed: The request came with a header that says how long its caller waits; None before the first attempt.

    Args:
        request: The client's.
        obstacle: Says of this exchange why the request must not be sent again now, None if it may be.
        close: Closes a response of the client's.
    """

    __slots__ = (
        "_close",
        "_held",
        "_obstacle",
        "_open",
        "begun",
        "body",
        "call",
        "released",
        "request",
        "timed",
    )

    def __init__(
        self,
        request: Any,
        obstacle: Callable[[Exchange], str | None],
        close: Callable[[Any], Awaitable[object]],
    ) -> None:
        self.request = request
        self.timed: bool | None = None
        self.body: Any = None
        self.begun = False
        self.call: Call | None = None
        self.released: Any = None
        self._obstacle = obstacle
        self._close = close
        self._open: list[Any] = []
        self._held: list[Parked] = []

    async def run(
        self, guard: Guard[Any], attempt: Callable[..., Awaitable[Any]], *, hold: bool
    ) -> Any:
        """The response that ``attempt(exchange)`` gives in the end; all others, and all before an error, are closed."""
        call = self.call = guard._new_call(attempt, (self,), {})  # noqa: SLF001 - a door of its own
        call.release = self.release
        if hold:
            call.held = self._held
        token = _CURRENT.set(self)
        try:
            response = await _run(guard._linked(), call, guard)  # noqa: SLF001 - as above
        except BaseException as error:
            self.settle(error)
            await self._close_all_but(None)
            raise
        finally:
            _CURRENT.reset(token)
            self.call = None  # which holds this object
        await self._close_all_but(response)
        return response

    def remaining(self) -> float:
        """Seconds until the deadline of the attempt that runs."""
        return math.inf if self.call is None else self.call.remaining()

    def opened(self, response: Any) -> None:
        """An attempt has a response, which holds a connection."""
        self._open.append(response)

    async def release(self, response: Any) -> None:
        """A retry refused it and is about to wait."""
        self.settle(None)
        self.released = response
        if response in self._open:
            self._open.remove(response)
            await self._close(response)

    def settle(self, error: BaseException | None) -> None:
        """The verdict of a body's end, for permits that were held for it."""
        held = self._held[::-1]
        self._held.clear()
        for permit in held:
            permit.ended(error)

    async def _close_all_but(self, response: Any) -> None:
        others = [each for each in self._open if each is not response]
        self._open.clear()
        if others:
            with anyio.move_on_after(_CLOSING, shield=True):
                for each in others:
                    with contextlib.suppress(Exception):  # it is closed, as far as it will be
                        await self._close(each)

    def obstacle(self) -> RejectedError | None:
        """Why the request must not be sent again."""
        reason = self._obstacle(self)
        if reason is None:
            return None
        return RejectedError(reason, policy="Repeat()", reason="not_repeatable")


def _foreseen() -> RejectedError | None:
    exchange = _CURRENT.get()
    return None if exchange is None else exchange.obstacle()


@final
@attrs.frozen(repr=False)
class Repeat(Policy):
    """Send a request again only if that does no harm."""

    def link(self, step: Step, hub: Hub) -> Step:
        hub.gates.append(_foreseen)

        async def guarded(call: Call) -> Any:
            exchange = _CURRENT.get()
            if exchange is not None:
                # Asked of the request, not of the call: attempts that run beside one another are calls of their own.
                if exchange.begun and (rejection := exchange.obstacle()) is not None:
                    raise rejection
                exchange.begun, exchange.call = True, call
            return await step(call)

        return guarded
