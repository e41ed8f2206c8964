"""
One call on its way through a pipeline, and the one word the policies have for what is inside them: a *step*.

A policy turns a step into a step; the innermost step enters the callee. A `Call` belongs to the task that makes it.

Why permits are parked: inside a cut call nobody can tell our own deadline from a caller who leaves. So a cancellation
leaves the permits it passes here. The `Timeout` that turns it into an error settles them as failures, if the callee had
been entered since they were issued; a cancellation that leaves the pipeline settles them as ignored.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any, Protocol, TypeAlias, final

from resilience.clock import PROCESS_CLOCK, loop_time
from resilience.errors import RejectedError

__all__ = [
    "GRAIN",
    "Call",
    "Parked",
    "Step",
    "dress",
    "handed",
    "informed_at",
    "invoke",
    "new_call",
    "resumed",
    "through",
    "twin",
]

GRAIN = 1e-6
"""Seconds; less than any deadline means. A loop's timer may come this much early, and then the deadline has passed."""


class Parked(Protocol):
    """A permit whose verdict waits for somebody who knows why the call was cancelled, or for a stream's end."""

    def cut_off(self) -> None:
        """Our deadline cut the call off."""

    def ignore(self) -> None:
        """The caller left, or the dependency was never asked."""

    def ended(self, error: BaseException | None) -> None:
        """A stream whose permit was held came to its end."""


class _Seldom:
    """What a plain success does not touch: defaults on the class, so that making a call does not store them."""

    attempt: int = 1
    previous_error: Exception | None = None
    rejection: RejectedError | None = None
    exhausted: bool = False
    from_fallback: bool = False
    # Seconds since a callee returned the answer, where it is kept from an earlier call.
    age: float | None = None
    # What doors put between the call and its callee, and the callee itself, where ``fn`` is more than that.
    clothes: tuple[Callable[[Call, Callable[..., Any]], Callable[..., Any]], ...] = ()
    callee: Callable[..., Any] | None = None
    key_of: Any = None
    # Permits that a stream keeps to its end; permits that a cancellation left behind, see above.
    held: list[Parked] | None = None
    # What the express lane took for the steps that go on in its place, see `resume`.
    lane: Any = None  # list[Any] | None
    # Gives back what a refused result holds; awaited by a retry before it waits for the next attempt.
    release: Any = None  # Callable[[result], Awaitable[object]] | None
    parked: Any = None  # list[tuple[Parked, bool]] | None; a step may park, which no checker sees

    def _leave(self, parked: list[tuple[Parked, bool]] | None) -> None:
        self.parked = parked

    def _keep_lane(self, lane: list[Any] | None) -> None:
        self.lane = lane

    def _keep_key(self, key: Hashable) -> None:
        self.key_of = key


@final
class Call(_Seldom):
    """
    What a policy, and a callee of ``informed``, may know of the call.

    Attributes:
        attempt: Number of the attempt that runs, from 1.
        previous_error: What the attempt before raised, or None.
    """

    # ``entered``: times the callee was entered. ``until``: the earliest deadline, on the loop's clock. ``task``: whom
    # it cuts off, on asyncio.
    __slots__ = ("args", "entered", "fn", "kwargs", "task", "until")

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    entered: int
    until: float
    task: Any
    rejection: RejectedError | None
    exhausted: bool
    from_fallback: bool
    age: float | None

    def __repr__(self) -> str:
        return f"<Call attempt={self.attempt}>"

    @property
    def deadline(self) -> float | None:
        """The earliest deadline around, on the process-wide monotonic clock; None without one."""
        return None if self.until == math.inf else PROCESS_CLOCK.now() + self.until - loop_time()

    def remaining(self) -> float:
        """Seconds until the earliest deadline around, 0.0 when it has passed, infinity without one."""
        if self.until == math.inf:
            return math.inf
        left = self.until - loop_time()
        return left if left > GRAIN else 0.0

    @property
    def key(self) -> Hashable | None:
        """The pipeline's ``key``, or what its function makes of the call's arguments."""
        if callable(self.key_of):
            self._keep_key(self.key_of(*self.args, **self.kwargs))
        return self.key_of  # type: ignore[no-any-return]

    def begin_again(self) -> None:
        """Another attempt starts: how the one before ended is not how this one will."""
        if self.exhausted or self.from_fallback or self.rejection is not None:
            self.rejection = self.age = None
            self.exhausted = self.from_fallback = False

    def end_like(self, other: Call) -> None:
        """It has ended as *other* did, which was made for it."""
        if other.exhausted or other.from_fallback or other.rejection is not None:
            self.exhausted = other.exhausted
            self.from_fallback = other.from_fallback
            self.age = other.age
            self.rejection = other.rejection

    def hand_over(self, other: Call) -> None:
        """What a cancellation parked here is for whoever settles it in *other*."""
        if self.parked is not None:
            other._leave([*(other.parked or ()), *self.parked])
            self._leave(None)

    def resume(self, taken: list[Any]) -> None:
        """
        It has begun in the express lane, which took for each step what that would have taken itself.

        Args:
            taken: The earliest deadline, then a thing for each step, innermost first.
        """
        self._keep_lane(taken)
        if len(taken) == 1:
            self._begun()

    def take_over(self) -> Any:
        """What the lane took for the step that asks, outermost first."""
        lane: list[Any] = self.lane
        taken = lane.pop()
        if len(lane) == 1:
            self._begun()
        return taken

    def _begun(self) -> None:
        (self.until,) = self.lane
        self._keep_lane(None)

    def park(self, permit: Parked, entered_before: int) -> None:
        """Leave a permit for whoever finds out why the call was cancelled."""
        parked: list[tuple[Parked, bool]] = self.parked or []
        parked.append((permit, self.entered > entered_before))
        self._leave(parked)

    def settle_parked(self, *, cut: bool) -> None:
        """Settle what a cancellation parked: our own deadline *cut* the call, or the caller left."""
        parked = self.parked
        self._leave(None)
        for permit, entered in parked or ():
            if cut and entered:
                permit.cut_off()
            else:
                permit.ignore()


def new_call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """A call at the door. A function and no ``__init__``: stores into slots are a third cheaper so."""
    call = Call()
    call.fn = fn
    call.args = args
    call.kwargs = kwargs
    call.entered = 0
    call.until = math.inf
    return call


def dress(call: Call, make: Callable[[Call, Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put something of a door's between the call and its callee: *make* gets both."""
    call.clothes = (*call.clothes, make)
    if call.callee is None:
        call.callee = call.fn
    call.fn = make(call, call.fn)


def informed_at(place: int) -> Callable[[Call, Callable[..., Any]], Callable[..., Any]]:
    """For `dress`: the callee gets the call, at that place among its arguments."""
    return lambda call, fn: lambda *args, **kwargs: fn(*args[:place], call, *args[place:], **kwargs)


Step: TypeAlias = Callable[[Call], Awaitable[Any]]


@final
class _Replay:
    """In the place of the callee, once: it ends as the callee has just ended."""

    __slots__ = ("_call", "_error", "_fn")

    def __init__(self, call: Call, fn: Callable[..., Any], error: BaseException) -> None:
        self._call = call
        self._fn = fn
        self._error: list[BaseException] = [error]

    def __call__(self, /, *_: Any, **__: Any) -> Any:
        self._call.fn = self._fn
        error = self._error.pop()
        context = error.__context__
        try:
            raise error
        finally:
            # What is handled around the guarded call would take the place of the error's own context.
            error.__context__ = context
            del error, context


def resumed(call: Call, error: BaseException, taken: list[Any]) -> Call:
    """A call whose callee has failed in the express lane, as the steps go on with it; *taken*: see `Call.resume`."""
    call.callee = call.fn
    call.fn = _Replay(call, call.fn, error)
    call.resume(taken)
    return call


def handed(call: Call, taken: list[Any]) -> Call:
    """A call whose first attempt has failed in the express lane, as a retry goes on with it; *taken* ends there."""
    call.entered = 1
    call.resume(taken)
    return call


async def through(step: Step, call: Call) -> Any:
    """Run the steps as a door does."""
    try:
        return await step(call)
    except BaseException:
        if call.parked is not None:
            call.settle_parked(cut=False)
        raise


def twin(call: Call) -> Call:
    """The same call once more, for a task of its own: no deadline around it yet, and nothing of it has happened."""
    other = new_call(call.callee or call.fn, call.args, call.kwargs)
    other.key_of = call.key_of
    other.attempt = call.attempt
    for make in call.clothes:
        dress(other, make)
    return other


def invoke(call: Call) -> Awaitable[Any]:
    """The innermost step: enter the callee, in the caller's task and context."""
    call.entered += 1
    if not call.kwargs:  # a merge of nothing is not free
        return call.fn(*call.args)  # type: ignore[no-any-return]
    return call.fn(*call.args, **call.kwargs)  # type: ignore[no-any-return]
