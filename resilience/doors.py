"""
The doors: every way a coroutine can be taken through a step, for a pipeline and for a policy on its own.

Each door makes a `Call`, runs the linked step, and, if a cancellation leaves through it, gives back what was parked.
"""

from __future__ import annotations

import functools
import types
from abc import abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
)
from contextlib import AbstractAsyncContextManager
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Generic,
    Literal,
    Never,
    NoReturn,
    ParamSpec,
    TypeAlias,
    TypeVar,
    final,
    overload,
)  # fmt: skip

import attrs

from resilience._express import front, runner
from resilience._fronts import Laned, Part
from resilience.bounds import Around, Inner
from resilience.call import Call, Parked, Step, dress, informed_at, invoke, new_call, through
from resilience.clock import PROCESS_CLOCK
from resilience.errors import RejectedError
from resilience.events import EVERYWHERE, AttemptFinished, CallFinished, Hub, Listener
from resilience.modes import MODES
from resilience.refusals import (
    is_bare_decorator,
    place_of_the_call,
    refuse_attempts_at_once,
    refuse_shared_answers,
    refuse_what_cannot_be_wrapped,
    refuse_what_does_not_open,
    refuse_what_does_not_stream,
    require_function,
)
from resilience.validation import spelled
from resilience.watch import call_told, entries_told

__all__ = ["Failure", "Guard", "Outcome", "Policy", "Stateful", "Stream", "Success"]

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")
if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    # What a guard may answer with besides what the callee returns: a fallback's type, for most guards nothing.
    F_co = TypeVarWithDefault("F_co", covariant=True, default=Never)
else:
    F_co = TypeVar("F_co", covariant=True)


def _by_type(answer: object) -> str:
    """A repr is printed and logged, and must not carry what a call returned or an error says."""
    return f"<{type(answer).__name__}>"


# Without room for weak references, so that `_success` and `_failure` can make them on 3.11 too.
@final
@attrs.frozen(kw_only=True, weakref_slot=False)
class Success(Generic[T]):
    """
    The call returned.

    Attributes:
        value: What it returned.
        attempts: Times the callee was entered.
        elapsed: Seconds from the door and back.
        exhausted: A result was still refused when the retries ran out.
        from_fallback: The value is a fallback's, or one that was good before.
        age: Seconds since the callee returned it, where it is one that was good before; else None.
        rejection: The rejection that ended the retries before, or None.
    """

    value: T = attrs.field(repr=_by_type)
    attempts: int
    elapsed: float
    exhausted: bool = False
    from_fallback: bool = False
    age: float | None = None
    rejection: RejectedError | None = None
    ok: Literal[True] = attrs.field(default=True, init=False, repr=False)

    def unwrap(self) -> T:
        """The value."""
        return self.value


@final
@attrs.frozen(kw_only=True, weakref_slot=False)
class Failure:
    """
    The call raised an `Exception`; attributes as in `Success`, with ``error`` in the place of ``value``.

    ``rejection`` is the error itself, or the rejection that ended the retries after it.
    """

    error: Exception = attrs.field(repr=_by_type)
    attempts: int
    elapsed: float
    exhausted: bool = False
    from_fallback: bool = False
    rejection: RejectedError | None = None
    ok: Literal[False] = attrs.field(default=False, init=False, repr=False)

    def unwrap(self) -> NoReturn:
        """Raises the error."""
        raise self.error


class _Returned(Generic[T]):
    """A `Success` before it is frozen: to fill it then takes a fifth of the time."""

    __slots__ = Success.__slots__  # type: ignore[attr-defined]  # attrs made them


class _Raised:
    """A `Failure` before it is frozen."""

    __slots__ = Failure.__slots__  # type: ignore[attr-defined]  # (as above)


def _success(call: Call, value: Any, elapsed: float) -> Success[Any]:
    made: Any = _Returned()
    made.value = value
    made.attempts = call.entered
    made.elapsed = elapsed
    made.exhausted = call.exhausted
    made.from_fallback = call.from_fallback
    made.age = call.age
    made.rejection = call.rejection
    made.ok = True
    made.__class__ = Success
    return made  # type: ignore[no-any-return]


def _failure(
    error: Exception,
    attempts: int,
    elapsed: float,
    exhausted: bool,  # noqa: FBT001 - (as above)
    rejection: RejectedError | None,
) -> Failure:
    made: Any = _Raised()
    made.error = error
    made.attempts = attempts
    made.elapsed = elapsed
    made.exhausted = exhausted
    made.from_fallback = False
    made.rejection = rejection
    made.ok = False
    made.__class__ = Failure
    return made  # type: ignore[no-any-return]


Outcome: TypeAlias = Success[T] | Failure


class Guard(Generic[F_co]):
    """
    What can be awaited around a call: a `Pipeline`, or a `Policy` on its own as the pipeline of one.

    ``F_co`` is the type of a fallback's answer: a guarded call of type ``T`` gives ``T | F_co``. Without a fallback
    there is none, and ``T | Never`` is ``T``.
    """

    __slots__ = ("_gate", "_label", "_laned_parts", "_runner", "_step")

    _gate: Callable[[], RejectedError | None] | None

    _label: str
    _laned_parts: tuple[Part, ...] | None
    _runner: Callable[..., Coroutine[Any, Any, Any]]
    _step: Step

    @abstractmethod
    def _link(self) -> Step:
        """The step this guard makes of the callee."""

    @property
    def _key(self) -> Any:
        return None

    @property
    def _told_as(self) -> tuple[str | None, str]:
        """The pipeline's name and how the guard is written, for events."""
        try:
            return None, self._label
        except AttributeError:
            object.__setattr__(self, "_label", repr(self))
            return None, self._label

    @property
    def _own_listeners(self) -> tuple[Listener, ...]:
        return ()

    def _watched(self, step: Step, call: Call) -> Step:
        """The step while somebody listens to the calls or attempts of the whole process."""
        own = self._own_listeners
        told_as = self._told_as
        attempts, calls = (
            [each for each in EVERYWHERE.listeners(kind) if each not in own]
            for kind in (AttemptFinished, CallFinished)
        )
        if attempts:
            dress(call, entries_told(attempts, *told_as))
        return call_told(step, calls, *told_as) if calls else step

    def _keeper(self) -> str | None:
        """What gives one answer to several calls, as it is written; None where each call has its own."""
        return None

    def _racer(self) -> str | None:
        """What makes several attempts of one call at once, as it is written; None where they follow each other."""
        return None

    def _linked(self) -> Step:
        try:
            return self._step
        except AttributeError:
            step = self._link()
            object.__setattr__(self, "_step", step)
            return step

    def _turned_away(self) -> RejectedError | None:
        """The rejection that a call would end with, if the first gate need not see the call to know it."""
        try:
            gate = self._gate
        except AttributeError:
            self._linked()
            parts = getattr(self, "_laned_parts", None) or ()
            first = next((each for each in parts if not each.lets_pass), None)
            gate = None if first is None else first.objects.get("gate")
            object.__setattr__(self, "_gate", gate)
        return None if gate is None else gate()

    def _new_call(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Call:
        call = new_call(fn, args, kwargs)
        if (key := self._key) is not None:
            call.key_of = key
        return call

    def __call__(
        self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, T | F_co]:
        """
        Run ``fn(*args, **kwargs)`` through the policies: ``await guarded(fetch, url)``.

        Args:
            fn: Any callable that returns an awaitable. It is called once per attempt, and only when admitted.

        Raises:
            TypeError: a coroutine object in the place of a function, or use as a bare decorator.
        """
        require_function(fn)
        if not args and not kwargs and is_bare_decorator(fn):
            raise TypeError(f"use @p.wrap, not @p: a pipeline called with {fn.__name__} runs it")
        try:
            made = self._runner
        except AttributeError:
            laned = self._laned()
            made = runner(laned, _run_unwrapped) if laned.begins() else _run_unwrapped
            object.__setattr__(self, "_runner", made)
        return made(self, fn, *args, **kwargs)

    def _laned(self) -> Laned:
        """This guard as the express lane needs it."""
        step = self._linked()
        return Laned(self, step, self._key, getattr(self, "_laned_parts", None), _switched)

    def wrap(self, fn: Callable[P, Awaitable[T]], /) -> Callable[P, Coroutine[Any, Any, T | F_co]]:
        """
        The same for good: a coroutine function with *fn*'s exact signature, methods included. The fastest door.

        Raises:
            TypeError: *fn* is an async generator function (use ``stream``), a classmethod object (put ``wrap`` below
                it), or a plain function of which nobody can tell that it returns an awaitable.
        """
        refuse_what_cannot_be_wrapped(fn)
        return functools.wraps(fn)(front(self._laned(), fn))

    @overload
    def informed(
        self, fn: Callable[Concatenate[Call, P], Awaitable[T]], /
    ) -> Callable[P, Coroutine[Any, Any, T | F_co]]: ...
    @overload
    def informed(
        self, fn: Callable[Concatenate[S, Call, P], Awaitable[T]], /
    ) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T | F_co]]: ...
    def informed(self, fn: Callable[..., Awaitable[Any]], /) -> Callable[..., Any]:
        """
        Like `wrap` for a function that takes a `Call` first (after ``self`` or ``cls``): attempt, deadline, key.

        Raises:
            TypeError: as `wrap`, or *fn* has no place for the call.
        """
        refuse_what_cannot_be_wrapped(fn)
        signature, place = place_of_the_call(fn)
        guard = self

        @functools.wraps(fn)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            call = guard._new_call(fn, args, kwargs)
            dress(call, informed_at(place))
            return await _run(guard._linked(), call, guard)

        guarded.__signature__ = signature  # type: ignore[attr-defined]
        return guarded

    def opening(
        self, manager_fn: Callable[P, AbstractAsyncContextManager[T]], /
    ) -> Callable[P, AbstractAsyncContextManager[T | F_co]]:
        """
        Guard the entering of an async context manager: ``async with guarded.opening(connect)(host) as connection:``.

        The body is the caller's: no policy sees it, no deadline is left open across it. Each attempt makes a manager.

        Raises:
            TypeError: *manager_fn* is an async generator or coroutine function, or makes a synchronous manager; or a
                policy would give what was entered to several callers, or enter it in several tasks.
        """
        refuse_what_does_not_open(manager_fn)
        refuse_shared_answers(self._keeper(), "opening")
        refuse_attempts_at_once(self._racer(), "opening")

        @functools.wraps(manager_fn)
        def opened(*args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[T | F_co]:
            return _Opening(self, manager_fn, args, kwargs)

        return opened

    def stream(
        self, generator_fn: Callable[P, AsyncGenerator[T, Any]], /, *, hold: bool = False
    ) -> Callable[P, Stream[T | F_co]]:
        """
        Guard a stream up to its first item: ``async with guarded.stream(rows)(query) as items:``.

        The items are iterated inside the block. One that was delivered is never replayed, no deadline
        stays open across a yield, and a consumer who stops early is no failure. What a fallback answers is the only
        item.

        Args:
            hold: Keep the permits until the stream ends, so that its end is the verdict. Default False: the first
                item is.

        Raises:
            TypeError: *generator_fn* is a coroutine function, makes a context manager, or is a generator already; or a
                policy would give its first item to several callers, or ask several tasks for it.
        """
        refuse_what_does_not_stream(generator_fn)
        refuse_shared_answers(self._keeper(), "stream")
        refuse_attempts_at_once(self._racer(), "stream")

        @functools.wraps(generator_fn)
        def opened(*args: P.args, **kwargs: P.kwargs) -> Stream[T | F_co]:
            return Stream(self, generator_fn, args, kwargs, hold=hold)

        return opened

    async def outcome(
        self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Outcome[T | F_co]:
        """
        Run it and raise no `Exception` of the call: a `Success` or a `Failure` says what happened.

        Cancellation and other ``BaseException`` pass.
        """
        require_function(fn)
        # To raise an error and to catch it costs more than all the rest of a rejection.
        if not MODES.in_use and (rejection := self._turned_away()) is not None:
            return _failure(rejection, 0, 0.0, False, rejection)  # noqa: FBT003 - (see there)
        call = self._new_call(fn, args, kwargs)
        started = PROCESS_CLOCK.now()
        step = self._linked()
        try:
            # `_run`, written out: one coroutine less.
            value = await (_switched(step, call, self) if MODES.in_use else step(call))
        except BaseException as error:
            if call.parked is not None:
                call.settle_parked(cut=False)
            if not isinstance(error, Exception):
                raise
            return _failure(
                error,
                call.entered,
                PROCESS_CLOCK.now() - started,
                call.exhausted,
                error if isinstance(error, RejectedError) else call.rejection,
            )
        return _success(call, value, PROCESS_CLOCK.now() - started)


class Policy(Guard[F_co]):
    """
    A policy turns a step into a step.

    Attributes:
        shares_answers: What the callee returned may be given to other calls as well.
        makes_attempts_at_once: The callee may run several times at once for one call, in tasks of their own.
        laned: It adds to ``hub.parts``, when it is linked, what it has in the express lane, or None.
    """

    __slots__ = ()
    shares_answers: ClassVar[bool] = False
    makes_attempts_at_once: ClassVar[bool] = False
    laned: ClassVar[bool] = False

    def __repr__(self) -> str:
        return spelled(self)

    @abstractmethod
    def link(self, step: Step, hub: Hub) -> Step:
        """The step that guards *step*; events go to *hub*. Called once per pipeline."""

    def worst(self, inner: Inner, around: Around) -> Inner:  # noqa: ARG002 - for those that ask
        """
        What it makes of when *inner*, which it holds, can end, for ``Pipeline.explain``.

        Default: nothing.
        """
        return inner

    def _link(self) -> Step:
        hub = Hub(None)
        step = self.link(invoke, hub)
        object.__setattr__(self, "_laned_parts", hub.take_parts([self.laned]))
        return step

    def _keeper(self) -> str | None:
        return repr(self) if self.shares_answers else None

    def _racer(self) -> str | None:
        return repr(self) if self.makes_attempts_at_once else None


class Stateful(Policy):
    """A policy that holds state and has identity: used in two pipelines it is shared; pickle and copy are refused."""

    __slots__ = ()

    def __reduce_ex__(self, _: Any) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} holds the state of this process and cannot be pickled or copied"
        )

    def __copy__(self) -> NoReturn:
        self.__reduce_ex__(2)

    def __deepcopy__(self, _: Any) -> NoReturn:
        self.__reduce_ex__(2)


def _run_unwrapped(
    guard: Guard[Any], fn: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Coroutine[Any, Any, Any]:
    return _run(guard._linked(), guard._new_call(fn, args, kwargs), guard)  # noqa: SLF001 - our own class


async def _run(step: Step, call: Call, guard: Guard[Any]) -> Any:
    if MODES.in_use:
        return await _switched(step, call, guard)
    try:
        return await step(call)
    except BaseException:
        if call.parked is not None:
            call.settle_parked(cut=False)
        raise


async def _switched(step: Step, call: Call, guard: Guard[Any]) -> Any:
    """While a block has a deadline, a test has switched something, or somebody listens to every call."""
    if MODES.disabled():
        return await invoke(call)
    if (block := MODES.block.get()) is not None:
        step = block.around(step, guard)
    if EVERYWHERE.per_call:
        step = guard._watched(step, call)  # noqa: SLF001 - our own class
    return await through(step, call)


@final
class _Opening(AbstractAsyncContextManager[Any]):
    def __init__(self, guard: Guard[Any], fn: Any, args: tuple[Any, ...], kwargs: Any) -> None:
        self._guard = guard
        self._fn = fn
        self._args = args
        self._kwargs = kwargs
        self._manager: AbstractAsyncContextManager[Any] | None = None

    async def _enter(self, *args: Any, **kwargs: Any) -> Any:
        # A manager that was entered and whose value a retry refused is left before the next is made.
        await self._leave(None, None, None)
        manager = self._fn(*args, **kwargs)
        value = await manager.__aenter__()
        self._manager = manager
        return value

    async def _leave(self, *reason: Any) -> bool | None:
        manager, self._manager = self._manager, None
        return None if manager is None else await manager.__aexit__(*reason)

    async def __aenter__(self) -> Any:
        call = self._guard._new_call(self._enter, self._args, self._kwargs)  # noqa: SLF001
        try:
            return await _run(self._guard._linked(), call, self._guard)  # noqa: SLF001
        except BaseException as error:
            await self._leave(type(error), error, error.__traceback__)
            raise

    async def __aexit__(self, *reason: object) -> bool | None:
        return await self._leave(*reason)


@final
class Stream(AsyncIterator[T]):
    """A guarded stream: an async context manager that gives itself, the iterator over the items."""

    def __init__(
        self, guard: Guard[Any], fn: Any, args: tuple[Any, ...], kwargs: Any, *, hold: bool
    ) -> None:
        self._guard = guard
        self._fn = fn
        self._args = args
        self._kwargs = kwargs
        self._hold = hold
        self._held: list[Parked] | None = None
        self._entered = False
        self._generator: AsyncGenerator[T, Any] | None = None
        self._ready: list[T] = []

    async def _first(self, *args: Any, **kwargs: Any) -> Any:
        await self._close()
        self._ready.clear()
        self._generator = generator = self._fn(*args, **kwargs)
        try:
            item = await anext(generator)
        except StopAsyncIteration:
            return None
        self._ready.append(item)
        return item

    async def _close(self) -> None:
        generator, self._generator = self._generator, None
        # An async iterator that is no generator has nothing to close.
        if (close := getattr(generator, "aclose", None)) is not None:
            await close()

    def _settle(self, error: BaseException | None) -> None:
        held, self._held = self._held, None
        for permit in reversed(held or ()):
            permit.ended(error)

    async def __aenter__(self) -> Stream[T]:
        self._entered = True
        call = self._guard._new_call(self._first, self._args, self._kwargs)  # noqa: SLF001
        if self._hold:
            call.held = self._held = []
        try:
            answer = await _run(self._guard._linked(), call, self._guard)  # noqa: SLF001
        except BaseException as error:
            self._settle(error)
            await self._close()
            raise
        if call.from_fallback:
            await self._close()
            self._ready = [answer]
        return self

    async def __anext__(self) -> T:
        if self._ready:
            return self._ready.pop()
        if not self._entered:
            raise RuntimeError("enter the stream first: async with p.stream(fn)(...) as items")
        if self._generator is None:
            raise StopAsyncIteration
        try:
            return await anext(self._generator)
        except StopAsyncIteration:
            self._settle(None)
            raise
        except BaseException as error:
            self._settle(error)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        # An error of the body is not the stream's; a cancellation of it is nobody's verdict.
        self._settle(None if isinstance(error, Exception) else error)
        await self._close()
