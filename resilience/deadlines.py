"""
A deadline for a block: every guarded call inside plans with it, and is cut off when it is over.

Why not a cancel scope: a deadline belongs to a request, and what it has to bound are the calls to others. A block of
ours may be entered in one task and hold for those that are started in it; it holds nothing open across a ``yield``, and
code between the calls is never interrupted.

Where no block is open anywhere in the process, a call does not look for one (`resilience.modes`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, final

from resilience.call import GRAIN, Call, Step
from resilience.clock import PROCESS_CLOCK, loop_time
from resilience.core.headers import as_deadline, as_timeout, read_deadline, read_timeout
from resilience.doors import Guard
from resilience.errors import DeadlineExpiredError, TimeoutExceededError
from resilience.events import CallRejected, Hub, TimedOut
from resilience.modes import MODES
from resilience.policies._wheel import Wheels
from resilience.policies.timeout import cut_off
from resilience.validation import as_optional_seconds, check, duration

__all__ = [
    "Deadline",
    "deadline",
    "from_deadline_header",
    "from_timeout_header",
    "remaining",
    "to_deadline_header",
    "to_timeout_header",
]

_SECONDS = duration(zero=True, none=True)
_CAP = duration()


@final
class Deadline:
    """
    The deadline of one block; see `deadline`. Entered once, with ``with`` or ``async with``.

    It counts from the moment in which the block is entered, and holds until the block is left: for the calls in it and
    in the tasks that were started in it.
    """

    __slots__ = ("__weakref__", "_at", "_label", "_open", "_outer", "_wheels", "seconds")

    def __init__(self, seconds: float | None) -> None:
        self.seconds: float | None = seconds
        self._label = f"deadline({seconds!r})"
        self._at: float | None = None
        self._open = False
        self._outer: Deadline | None = None
        self._wheels = Wheels(self._here)

    def __repr__(self) -> str:
        return self._label

    def remaining(self) -> float:
        """Seconds until this one is over, 0.0 when it is; infinity for no deadline, all of it before the block."""
        if self.seconds is None:
            return math.inf
        if self._at is None:
            return self.seconds
        left = self._at - PROCESS_CLOCK.now()
        return left if left > GRAIN else 0.0

    def __enter__(self) -> Self:
        if self._at is not None:
            raise RuntimeError(f"{self._label} was entered before; make one for each block")
        seconds = math.inf if self.seconds is None else self.seconds
        self._at = PROCESS_CLOCK.now() + seconds
        outer: Deadline | None = MODES.block.get()
        # One that was left in another context is still found here.
        while outer is not None and not outer._open:  # noqa: SLF001 - our own class
            outer = outer._outer  # noqa: SLF001 - (as above)
        self._outer = outer
        self._open = True
        MODES.in_use += 1
        MODES.block.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open = False
        MODES.in_use -= 1
        self._wheels.rest()
        # Not by its token: the block may be left in another context, as that of a generator is.
        if MODES.block.get() is self:
            MODES.block.set(self._outer)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def around(self, step: Step, guard: Guard[Any]) -> Step:
        """The step that the earliest open deadline of this context bounds."""
        first = self._earliest()
        return step if first is None else first._guarded(step, guard)  # noqa: SLF001 - our own class

    def _earliest(self) -> Deadline | None:
        """The one that is over first, at a tie the outer; None if all have no end or are closed."""
        first: Deadline | None = None
        block: Deadline | None = self
        while block is not None:
            if block._open and block._at is not None and block._at < math.inf:  # noqa: SLF001
                at = first._at if first is not None else None  # noqa: SLF001
                if at is None or block._at <= at:  # noqa: SLF001
                    first = block
            block = block._outer  # noqa: SLF001
        return first

    def _here(self) -> float:
        """Its instant on the clock of the running loop."""
        at = self._at or 0.0
        now, here = PROCESS_CLOCK.now(), loop_time()
        return at if now == here else at + (here - now)

    def _guarded(self, step: Step, guard: Guard[Any]) -> Step:
        def expired(call: Call) -> Exception:
            return self._error(guard, ran=call.entered > 0)

        if not self.remaining():
            return _refusing(expired)
        return cut_off(step, 0.0, self._wheels, self._label, expired, instant=self._here)

    def _error(self, guard: Guard[Any], *, ran: bool) -> Exception:
        """What a call gets that it cut off, or that it did not let begin; and whoever listens hears of it."""
        pipeline, _ = guard._told_as  # noqa: SLF001 - our own
        hub = Hub(pipeline, guard._own_listeners)  # noqa: SLF001 - (as above)
        seconds, at = self.seconds or 0.0, PROCESS_CLOCK.now()
        if ran:
            if hub.wants(TimedOut):
                hub.emit(TimedOut(policy=self._label, pipeline=pipeline, at=at, seconds=seconds))
            return TimeoutExceededError(seconds, policy=self._label)
        if hub.wants(CallRejected):
            hub.emit(CallRejected(policy=self._label, pipeline=pipeline, at=at, reason="deadline"))
        return DeadlineExpiredError(policy=self._label)


def _refusing(expired: Callable[[Call], Exception]) -> Step:
    async def refused(call: Call) -> Any:
        raise expired(call)

    return refused


def deadline(seconds: float | timedelta | None) -> Deadline:
    """
    Give a block so many seconds.

    It is entered with ``with deadline(2):`` or ``async with deadline(2):``. Every call that goes through a policy or a
    pipeline inside the block, in a task that was started in it as well, is cut off when the time is over, and plans
    with what is left: no attempt, no wait and no place in a queue that does not fit. Of nested deadlines, timeouts
    included, the earliest wins and is named. Code of the block that is not guarded is not interrupted;
    ``Pipeline()(fn)`` guards a call by the deadline alone.

    Args:
        seconds: Time the block has, >= 0, or a timedelta; None: no deadline, as where a header did not say one.

    Raises:
        TimeoutExceededError: (by the calls inside) the call ran and was cut off; it names the deadline.
        DeadlineExpiredError: (by the calls inside) the time was over before an attempt ran.
        ConfigurationError: *seconds* is no such number.
    """
    given = as_optional_seconds(seconds)
    check("deadline.seconds", given, _SECONDS)
    return Deadline(given)


def remaining() -> float:
    """Seconds until the earliest deadline around this code is over, 0.0 when it is, infinity without one."""
    block: Deadline | None = MODES.block.get() if MODES.in_use else None
    first = None if block is None else block._earliest()  # noqa: SLF001 - our own class
    return math.inf if first is None else first.remaining()


def to_timeout_header() -> str | None:
    """What remains, in the notation of ``grpc-timeout``, such as ``1500m``; None without a deadline."""
    left = remaining()
    return None if left == math.inf else as_timeout(left)


def from_timeout_header(value: object, *, cap: float | timedelta = 3600.0) -> float | None:
    """
    Seconds that a ``grpc-timeout`` header says, for `deadline`; None if there is none or nobody can read it.

    Args:
        value: The header's text or bytes; anything else, and what is longer than 64 characters, says nothing.
        cap: Seconds that a stranger may ask for at most, > 0. Default an hour.
    """
    return read_timeout(value, _cap("from_timeout_header.cap", cap))


def to_deadline_header() -> str | None:
    """When the deadline is over, in Unix time, such as ``1700000001.500``; None without a deadline."""
    left = remaining()
    return None if left == math.inf else as_deadline(left, PROCESS_CLOCK.wall())


def from_deadline_header(value: object, *, cap: float | timedelta = 3600.0) -> float | None:
    """
    Seconds until the Unix time that a header says, 0.0 if it has passed; for `deadline`, as `from_timeout_header`.

    Both sides' clocks must agree; a relative timeout does not ask that of them.
    """
    return read_deadline(value, PROCESS_CLOCK.wall(), _cap("from_deadline_header.cap", cap))


def _cap(path: str, cap: float | timedelta) -> float:
    given = as_optional_seconds(cap)
    check(path, given, _CAP)
    return given  # type: ignore[return-value]  # checked
