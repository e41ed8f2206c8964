"""
Throttle: ask less of a dependency that turns calls away, in proportion, and never quite nothing.

A circuit is open or closed; a throttle lets through about ``k`` times what the dependency accepts, so it finds out by
itself when that gets more. The numbers and the rule are `resilience.core.load`.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias, final

import attrs

from resilience._fronts import Part
from resilience.call import Call, Step
from resilience.clock import PROCESS_CLOCK, RNG, Clock, Rng
from resilience.core.load import LEVELS, Load
from resilience.doors import Stateful
from resilience.errors import ResilienceWarning, ThrottledError, TimeoutExceededError, made_of
from resilience.events import CallRejected, Hub, hook_failed
from resilience.validation import (
    Allowed,
    as_clock,
    as_seconds,
    clock,
    count,
    duration,
    is_function,
    name,
    one_of,
    ratio,
    rng,
)
from resilience.values import Value
from resilience.verdicts import (
    ErrorFilter,
    Judge,
    ResultFilter,
    Verdict,
    error_filter,
    result_filter,
)

__all__ = ["Throttle", "ThrottleSnapshot"]

Priority: TypeAlias = int | Callable[[Call], int]


def _is_priority(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LEVELS


async def _an_async_priority(_: object) -> int:  # pragma: no cover - a value to be refused
    return 1


def _priority() -> Allowed:
    return one_of(
        f"a whole number from 0 to {LEVELS - 1}, or a function of the Call that returns one, not async",
        lambda value: _is_priority(value) or is_function(value),
        {
            "none": None,
            "text": "high",
            "boolean": True,
            "fraction": 0.5,
            "negative": -1,
            "above": LEVELS,
            "class": int,
            "async function": _an_async_priority,
        },
    )


def _factor() -> Allowed:
    return one_of(
        "a number >= 1, at most 1,000",
        lambda value: (
            isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= 1000  # noqa: PLR2004
        ),
        {
            "text": "2",
            "boolean": True,
            "none": None,
            "not a number": float("nan"),
            "infinite": float("inf"),
            "below": 0.5,
            "negative": -1.0,
        },
    )


@final
class ThrottleSnapshot(Value):
    """
    A throttle at one instant; it does not change afterwards.

    Attributes:
        name: Of the throttle, or None.
        requests: Calls in the window, those turned away here included.
        accepts: Those of them that the dependency took.
        probability: Share of the calls of no particular importance that would be turned away now.
        rejected: Calls turned away since it was made.
    """

    name: str | None
    requests: int
    accepts: int
    probability: float
    rejected: int


@final
@attrs.frozen(eq=False, repr=False)
class Throttle(Stateful):
    """
    Turn away at random what a dependency would turn away itself, and let through ``k`` times what it accepts.

    It holds state and has identity: used in two pipelines it is shared. The numbers are per process. One object serves
    any number of tasks, loops and threads without a lock. Pickle and copy are refused.

    Args:
        k: Requests let through for each one accepted, >= 1. Smaller reacts earlier and turns more away. Default 2.
        on: What says that the dependency did not take a call: exception classes, a predicate of the error, or one of
            tenacity's ``retry_if_*`` objects. Our own deadline does, too. Default every `Exception`.
        ignore: What says nothing; stronger than ``on``. Default nothing.
        on_result: A predicate of the result; true: not taken. Default: every result is an answer.
        window: Seconds that are looked at, > 0. Default 120.
        minimum_calls: Calls in the window below which nobody is turned away, >= 1. Default 10.
        max_rejection: Share that is turned away at most, in (0, 1]. Default 0.9: one in ten finds out how things are.
        priority: 0 to 9, or a function of the `Call` that returns it. Those with a lower number are turned away first.
            Default 0.
        name: For events and metrics: 1 to 256 printable characters. Default: as it is written.
        clock: Monotonic clock. Default: the process-wide one.
        rng: What chance is drawn from. Default: the library's own.

    Raises:
        ThrottledError: turned away; the call never ran.

    Beyer et al., *Site Reliability Engineering*, ch. 21.
    """

    laned: ClassVar[bool] = True

    k: float = attrs.field(default=2.0, validator=_factor())
    on: ErrorFilter = attrs.field(default=Exception, kw_only=True, validator=error_filter())
    ignore: ErrorFilter = attrs.field(default=(), kw_only=True, validator=error_filter())
    on_result: ResultFilter | None = attrs.field(
        default=None, kw_only=True, validator=result_filter()
    )
    window: float = attrs.field(
        default=120.0, kw_only=True, converter=as_seconds, validator=duration()
    )
    minimum_calls: int = attrs.field(default=10, kw_only=True, validator=count())
    max_rejection: float = attrs.field(default=0.9, kw_only=True, validator=ratio())
    priority: Priority = attrs.field(default=0, kw_only=True, validator=_priority())
    name: str | None = attrs.field(default=None, kw_only=True, validator=name(none=True))
    clock: Clock | Callable[[], float] | None = attrs.field(
        default=None, kw_only=True, converter=as_clock, validator=clock()
    )
    rng: Rng | None = attrs.field(default=None, kw_only=True, validator=rng())
    _core: _Core = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_core", _Core(self))

    def link(self, step: Step, hub: Hub) -> Step:
        core = self._core
        lane = core.weigh is None and core.judge.on_result is None
        objects = {
            "load": core.load, "clock": core.clock, "level": core.level, "k": core.k, "minimum": core.minimum,
        }  # fmt: skip
        hub.parts.append(Part("load", objects) if lane else None)
        return _linked(core, step, hub)

    def snapshot(self) -> ThrottleSnapshot:
        """Everything there is to know at this instant, frozen."""
        core = self._core
        load = core.load
        if (now := core.now()) >= load.edge:
            load.roll(now)
        return ThrottleSnapshot(
            name=self.name,
            requests=load.requests,
            accepts=load.accepts,
            probability=core.probability(0 if core.weigh else core.level),
            rejected=core.rejected,
        )


@final
class _Core:
    """What a throttle's steps and permits hold on to; not the throttle, so that nothing here is a cycle."""

    __slots__ = (
        "clock", "judge", "k", "label", "level", "load", "minimum", "most", "name", "rejected",
        "rng", "warned", "weigh",
    )  # fmt: skip

    def __init__(self, options: Throttle) -> None:
        self.label: str = repr(options)
        self.name: str | None = options.name
        self.clock: Any = options.clock or PROCESS_CLOCK
        self.rng: Rng = options.rng or RNG
        self.judge: Judge = Judge(options.on, options.ignore, options.on_result)
        self.k: float = options.k
        self.minimum: int = options.minimum_calls
        self.most: float = options.max_rejection
        self.load: Load = Load(options.window, self.now())
        self.rejected: int = 0
        given = options.priority
        self.level: int = given if isinstance(given, int) else 0
        self.weigh: Callable[[Call], int] | None = None if isinstance(given, int) else given
        self.warned: list[None] = []

    def now(self) -> float:
        return self.clock.now()  # type: ignore[no-any-return]

    def level_of(self, call: Call) -> int:
        """What the user's function says, mended: what is no priority becomes 0."""
        weigh: Any = self.weigh
        try:
            level = weigh(call)
        except Exception as error:  # noqa: BLE001 - law 6: the user's function must not become the call's error
            hook_failed("Throttle.priority", weigh, error)
            return 0
        if _is_priority(level):
            return level  # type: ignore[no-any-return]
        if not self.warned:
            self.warned.append(None)
            # A filter that makes errors of warnings must not become the call's error.
            with contextlib.suppress(ResilienceWarning):
                warnings.warn(
                    f"Throttle.priority returned what is no whole number from 0 to {LEVELS - 1} "
                    f"({type(level).__name__}); 0 is taken",
                    ResilienceWarning,
                    stacklevel=2,
                )
        return 0

    def probability(self, level: int) -> float:
        if self.load.requests < self.minimum:
            return 0.0
        return self.load.probability(level, self.k, self.most)

    def settle(self, level: int, verdict: Verdict) -> None:
        if verdict is not Verdict.IGNORED:
            self.load.count(level, accepted=verdict is Verdict.SUCCESS)

    def rejection(self, level: int, hub: Hub) -> ThrottledError:
        """Counted, and told to *hub*."""
        self.load.count(level, accepted=False)
        self.rejected += 1
        if hub.wants(CallRejected):
            hub.emit(
                CallRejected(
                    policy=self.name or self.label,
                    pipeline=hub.pipeline,
                    at=self.now(),
                    reason=ThrottledError.reason,
                )
            )
        return made_of(ThrottledError, {"policy": self.label, "retry_after": None})


@final
class _Asked:
    """A call that was let through, whose answer is not known yet."""

    __slots__ = ("_core", "_level")

    def __init__(self, core: _Core, level: int) -> None:
        self._core = core
        self._level = level

    def cut_off(self) -> None:
        """Our deadline cut it off: it was not taken, unless ``ignore`` says otherwise."""
        self._core.settle(self._level, self._core.judge.error(TimeoutExceededError()))

    def ignore(self) -> None:
        """Nothing can be said."""

    def ended(self, error: BaseException | None) -> None:
        """The stream ended, with *error* or well."""
        if error is None:
            self._core.settle(self._level, Verdict.SUCCESS)
        elif isinstance(error, Exception):
            self._core.settle(self._level, self._core.judge.error(error))


def _linked(core: _Core, step: Step, hub: Hub) -> Step:
    load, clock, judge, usual, weigh = core.load, core.clock, core.judge, core.level, core.weigh
    k, minimum, draw = core.k, core.minimum, core.rng.random
    judges_results = judge.on_result is not None

    async def guarded(call: Call) -> Any:
        if call.lane is not None:
            level = usual
            call.take_over()
        else:
            if (now := clock.now()) >= load.edge:
                load.roll(now)
            level = usual if weigh is None else core.level_of(call)
            # A dependency that is well is asked without a draw.
            if (
                (requests := load.requests) > k * load.accepts
                and requests >= minimum
                and draw() < core.probability(level)
            ):
                raise core.rejection(level, hub)
        entered = call.entered
        try:
            result = await step(call)
        except Exception as error:
            core.settle(level, judge.error(error))
            raise
        except BaseException:
            call.park(_Asked(core, level), entered)
            raise
        if judges_results and judge.result(result) is Verdict.FAILURE:
            load.count(level, accepted=False)
        elif call.held is not None:
            call.held.append(_Asked(core, level))
        else:
            load.count(level, accepted=True)
        return result

    return guarded
