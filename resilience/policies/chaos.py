"""
Chaos: what a dependency may do one day, done to some calls now.

It stands innermost, where the dependency would be, so that everything around it meets what it injects as if it were
real. It is off until somebody switches it on: a pipeline that carries it into production does nothing there.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, Literal, TypeAlias, final

import anyio
import attrs

from resilience.bounds import Around, Inner, Reach, merged
from resilience.call import Call, Step
from resilience.clock import PROCESS_CLOCK, RNG, Clock, Rng
from resilience.doors import Stateful
from resilience.errors import ConfigurationError
from resilience.events import ChaosInjected, Hub, hook_failed
from resilience.validation import (
    BY_TYPE,
    Allowed,
    as_clock,
    clock,
    duration,
    in_seconds,
    is_function,
    name,
    one_of,
    rng,
)
from resilience.values import Value

__all__ = ["Chaos", "ChaosSnapshot"]


class _Nothing:
    """In the place of a result that is not to be injected: None would be one."""


NOTHING: Final = _Nothing()
Fault: TypeAlias = "type[Exception] | Exception | Callable[[Call], Exception | None]"
Latency: TypeAlias = "float | Callable[[Call], float | timedelta | None]"
Behaviour: TypeAlias = "Callable[[Call], Awaitable[object]]"


def _is_error(value: object) -> bool:
    return isinstance(value, Exception) or (
        isinstance(value, type) and issubclass(value, Exception)
    )


def _rate() -> Allowed:
    return one_of(
        "a share in [0, 1], or a function of the call that returns one, not async",
        lambda value: (
            is_function(value)
            or (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1)
        ),
        {
            "none": None,
            "text": "0.5",
            "boolean": True,
            "negative": -0.1,
            "above one": 1.01,
            "percent": 50,
            "not a number": math.nan,
            "class": float,
        },
    )


_FAULT = one_of(
    "None, an exception class or instance, or a function of the call that returns one or None, not async",
    lambda value: value is None or _is_error(value) or is_function(value),
    {"text": "OSError", "number": 503, "other class": int, "cancellation": KeyboardInterrupt},
)
_BEHAVIOUR = one_of(
    "None or an async function of the call",
    lambda value: value is None or (callable(value) and not isinstance(value, type)),
    {"text": "drop", "number": 1, "class": dict},
)
_RESULT = one_of(
    "a result, no error and no coroutine",
    lambda value: not _is_error(value) and not hasattr(value, "__await__"),
    {"error": OSError("down"), "error class": OSError},
)
_WHEN = one_of(
    "None or a predicate of the call, not async",
    lambda value: value is None or is_function(value),
    {"number": 1, "text": "always", "class": bool},
)
_ENABLED = one_of(
    "True, False, or a function without arguments that returns one, not async",
    lambda value: isinstance(value, bool) or is_function(value),
    {"none": None, "number": 1, "text": "yes", "class": bool},
)


def _latency(
    value: float | timedelta | Callable[[Call], float | timedelta | None] | None,
) -> Latency | None:
    return in_seconds(value)  # type: ignore[no-any-return]


@final
class ChaosSnapshot(Value):
    """
    A `Chaos` at one instant.

    Attributes:
        name: The policy's.
        active: Whether it is switched on.
        calls: Calls that came through while it was on.
        injected: Those that something was done to.
    """

    name: str | None
    active: bool
    calls: int
    injected: int


@final
class _Core:
    """The switch and the counters of one `Chaos`; they are added to in straight lines, see core/circuit."""

    __slots__ = ("calls", "clock", "forced", "injected", "policy", "rng")

    def __init__(self, policy: Chaos) -> None:
        self.policy = policy
        self.clock: Any = policy.clock or PROCESS_CLOCK
        self.rng: Any = policy.rng or RNG
        self.forced: bool | None = None
        self.calls = self.injected = 0

    def active(self) -> bool:
        if self.forced is not None:
            return self.forced
        enabled = self.policy.enabled
        if isinstance(enabled, bool):
            return enabled
        try:
            return bool(enabled())
        except Exception as error:  # noqa: BLE001 - law 6; the safe end is to do nothing
            hook_failed("Chaos.enabled", enabled, error)
            return False

    def strikes(self, call: Call) -> bool:
        """Whether this call is one of those; chance is asked last, and only where it decides."""
        self.calls += 1
        policy = self.policy
        when = policy.when
        try:
            if when is not None and not when(call):
                return False
        except Exception as error:  # noqa: BLE001 - (as above)
            hook_failed("Chaos.when", when, error)
            return False
        rate = self._rate(call)
        if rate <= 0.0:
            return False
        return rate >= 1.0 or self.rng.random() < rate

    def _rate(self, call: Call) -> float:
        rate: Any = self.policy.rate
        if not callable(rate):
            return rate  # type: ignore[no-any-return]
        try:
            found: Any = rate(call)
        except Exception as error:  # noqa: BLE001 - (as above)
            hook_failed("Chaos.rate", rate, error)
            return 0.0
        # What is no number is no rate; what is outside is cut off by the comparisons.
        return found if isinstance(found, int | float) and found == found else 0.0  # noqa: PLR0124 - NaN

    def delay(self, call: Call) -> float:
        """Seconds of latency; what a function of the user's returns is mended."""
        latency = self.policy.latency
        if not callable(latency):
            return latency or 0.0
        try:
            found = in_seconds(latency(call))
        except Exception as error:  # noqa: BLE001 - (as above)
            hook_failed("Chaos.latency", latency, error)
            return 0.0
        return found if isinstance(found, float) and found > 0 else 0.0

    def fault(self, call: Call) -> Exception | None:
        """The error to raise, without the traceback of the last time."""
        given: Any = self.policy.fault
        if given is None:
            return None
        if not _is_error(given):
            try:
                given = given(call)
            except Exception as error:  # noqa: BLE001 - (as above)
                hook_failed("Chaos.fault", given, error)
                return None
            if not _is_error(given):
                return None
        made: Exception = given() if isinstance(given, type) else given.with_traceback(None)
        return made


@final
@attrs.frozen(eq=False, repr=False)
class Chaos(Stateful):
    """
    Do to some calls what a dependency may do one day: ``Chaos(0.1, fault=ConnectionError)``.

    Off until it is switched on: by ``enabled``, by `enable`, or for a block by `switched_on`. Put it innermost, so that
    all that is around it meets what it does. Of what it is given, in this order: the behaviour runs, the latency
    passes, the fault is raised or the result returned in the place of the call. Each counts as an entry of the callee
    while it lasts: a deadline that falls into it is a failure.

    Args:
        rate: Share of the calls, in [0, 1]; or a function of the `Call` that returns one, cut to that range.
        fault: An exception class, an instance, or a function of the call that returns one, or None for no fault.
        latency: Seconds that pass before the call, > 0; or a function of the call that returns them.
        result: What is returned instead of calling; of the callee's type, no checker can tell.
        behaviour: An async function of the call, awaited before all else. What it raises is a fault.
        when: A predicate of the call: only calls for which it is true. Default all.
        enabled: True, False or a function that is asked at each call. Default False. If it raises, it is off.
        name: For events and logs.
        clock: Monotonic clock, for events. Default: the process-wide one.
        rng: Where chance is drawn from; only for calls that the rate alone decides. Default: the library's own.

    Raises:
        The fault, or what the behaviour raises.

    Names follow Polly's chaos strategies (Simmy).
    """

    rate: float | Callable[[Call], float] = attrs.field(validator=_rate())
    fault: Fault | None = attrs.field(
        default=None, kw_only=True, validator=_FAULT, metadata=BY_TYPE
    )
    latency: Latency | None = attrs.field(
        default=None,
        kw_only=True,
        converter=_latency,
        validator=duration(none=True, function=True),
    )
    result: Any = attrs.field(default=NOTHING, kw_only=True, validator=_RESULT, metadata=BY_TYPE)
    behaviour: Behaviour | None = attrs.field(default=None, kw_only=True, validator=_BEHAVIOUR)
    when: Callable[[Call], object] | None = attrs.field(default=None, kw_only=True, validator=_WHEN)
    enabled: bool | Callable[[], bool] = attrs.field(
        default=False, kw_only=True, validator=_ENABLED
    )
    name: str | None = attrs.field(default=None, kw_only=True, validator=name(none=True))
    clock: Clock | Callable[[], float] | None = attrs.field(
        default=None, kw_only=True, converter=as_clock, validator=clock()
    )
    rng: Rng | None = attrs.field(default=None, kw_only=True, validator=rng())
    _core: _Core = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        given = [
            each for each in ("behaviour", "latency", "fault") if getattr(self, each) is not None
        ]
        if self.result is not NOTHING:
            given.append("result")
        if not given or {"fault", "result"} <= {*given}:
            raise ConfigurationError(
                "Chaos",
                got=" and ".join(given) or "none of them",
                allowed="given a fault, a latency, a result or a behaviour, and not both a fault and a result",
            )
        object.__setattr__(self, "_core", _Core(self))

    def link(self, step: Step, hub: Hub) -> Step:
        return _linked(self, self._core, step, hub)

    def worst(self, inner: Inner, around: Around) -> Inner:  # noqa: ARG002
        """As if it were switched on: it can be at any time."""
        latency = self.latency if isinstance(self.latency, float) else 0.0
        endless = self.behaviour is not None or callable(self.latency)

        def reach(starts: Sequence[Reach], deadline: float) -> Sequence[Reach]:
            delayed = [
                Reach(
                    each.attempts,
                    each.first,
                    deadline if endless else min(each.last + latency, deadline),
                )
                for each in starts
            ]
            # An injected attempt counts as one; it may end as soon as the latency is over.
            injected = [Reach(each.attempts + 1, each.first, each.last) for each in delayed]
            return merged([*inner(delayed, deadline), *injected])

        return reach

    # ------------------------------------------------------------- at run time

    @property
    def active(self) -> bool:
        """Whether it is switched on now."""
        return self._core.active()

    def enable(self) -> None:
        """Switch it on, whatever ``enabled`` says, until `disable` or `reset`."""
        self._core.forced = True

    def disable(self) -> None:
        """Switch it off, whatever ``enabled`` says, until `enable` or `reset`."""
        self._core.forced = False

    def reset(self) -> None:
        """Back to what ``enabled`` says."""
        self._core.forced = None

    @contextmanager
    def switched_on(self) -> Iterator[Chaos]:
        """Switch it on for a block, for every task and thread; afterwards it is as before."""
        before, self._core.forced = self._core.forced, True
        try:
            yield self
        finally:
            self._core.forced = before

    def snapshot(self) -> ChaosSnapshot:
        """How many calls came through while it was on, and how many were struck."""
        core = self._core
        return ChaosSnapshot(
            name=self.name, active=core.active(), calls=core.calls, injected=core.injected
        )


def _linked(policy: Chaos, core: _Core, step: Step, hub: Hub) -> Step:
    label = policy.name or repr(policy)
    behaviour, result = policy.behaviour, policy.result

    async def guarded(call: Call) -> Any:
        if not (core.active() and core.strikes(call)):
            return await step(call)
        core.injected += 1
        # In the place of the callee: what falls into this time falls into a call.
        call.entered += 1
        if behaviour is not None:
            tell("behaviour")
            await behaviour(call)
        if (seconds := core.delay(call)) > 0:
            tell("latency", seconds=seconds)
            await anyio.sleep(seconds)
        if (error := core.fault(call)) is not None:
            tell("fault", error=type(error).__name__)
            try:
                raise error
            finally:
                error = None  # this frame is in its traceback
        if result is not NOTHING:
            tell("result")
            return result
        call.entered -= 1
        return await step(call)

    def tell(
        kind: Literal["behaviour", "latency", "fault", "result"],
        *,
        seconds: float | None = None,
        error: str | None = None,
    ) -> None:
        if hub.wants(ChaosInjected):
            at = core.clock.now()
            hub.emit(
                ChaosInjected(
                    policy=label,
                    pipeline=hub.pipeline,
                    at=at,
                    kind=kind,
                    seconds=seconds,
                    error=error,
                )
            )

    return guarded
