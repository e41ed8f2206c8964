"""
ConcurrencyLimit: a bulkhead that finds its own size, from how long calls take.

The size is the algorithm's (`resilience.core.limits`), the places are `resilience.core.lines`. Nobody waits: a queue in
front of a limit that measures time would measure itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, final

import attrs

from resilience._fronts import Part
from resilience.call import Call, Step
from resilience.clock import PROCESS_CLOCK, RNG, Clock, Rng
from resilience.core.limits import AIMD, Estimate, Gradient2, Vegas
from resilience.core.lines import PLACES, Places
from resilience.doors import Stateful
from resilience.errors import ThrottledError, TimeoutExceededError, made_of
from resilience.events import CallRejected, Hub, hook_failed
from resilience.validation import (
    Allowed,
    as_clock,
    clock,
    instance,
    is_function,
    name,
    one_of,
    rng,
)
from resilience.values import Value
from resilience.verdicts import ErrorFilter, Judge, Verdict, error_filter

__all__ = ["ConcurrencyLimit", "ConcurrencyLimitSnapshot"]

_ALGORITHM = instance((AIMD, Vegas, Gradient2), "AIMD(...), Vegas(...) or Gradient2(...)")
_FUNCTION = one_of(
    "None, or a function of the Call, not async",
    lambda value: value is None or is_function(value),
    {"text": "live", "number": 1, "class": str},
)


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def _are_partitions(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    return (
        all(isinstance(each, str) and each for each in value)
        and all(_is_share(share) for share in value.values())
        and sum(value.values()) <= 1 + 1e-9
    )


_PARTITIONS: Allowed = one_of(
    "a mapping of names to their shares in (0, 1], at most 1 together",
    _are_partitions,
    {
        "none": None,
        "list": ["live"],
        "too much": {"live": 0.7, "batch": 0.5},
        "nothing": {"live": 0},
        "negative": {"live": -0.1},
        "boolean": {"live": True},
        "number as name": {1: 0.5},
        "empty name": {"": 0.5},
    },
)


@final
class ConcurrencyLimitSnapshot(Value):
    """
    A limit at one instant; it does not change afterwards.

    Attributes:
        name: Of the limit, or None.
        limit: Calls it lets run at once now.
        in_flight: Calls that run.
        rejected: Callers turned away since it was made.
        partitions: For each partition, what it is guaranteed and how many of its calls run.
    """

    name: str | None
    limit: int
    in_flight: int
    rejected: int
    partitions: Mapping[str, tuple[int, int]]


@final
@attrs.frozen(eq=False, repr=False)
class ConcurrencyLimit(Stateful):
    """
    Let as many calls run at once as the dependency can bear, and find out how many that is.

    It holds state and has identity: used in two pipelines it is shared. The numbers are per process. One object serves
    any number of tasks, loops and threads without a lock. Pickle and copy are refused.

    Args:
        algorithm: ``AIMD(...)``, ``Vegas(...)`` or ``Gradient2(...)``. Default ``Gradient2()``.
        on: What says that the dependency did not answer: exception classes, a predicate of the error, or one of
            tenacity's ``retry_if_*`` objects. Our own deadline does, too. Default ``ConnectionError`` and
            ``TimeoutError``. Every other error is an answer, and its time is a sample.
        ignore: What says nothing; stronger than ``on``. Default nothing.
        partitions: Names and their guaranteed shares, at most 1 together. What a partition does not use others may
            have; its own share it gets even when the limit is used up. Default none.
        partition: A function of the `Call` that returns the name; calls of no known name get what is left over.
        bypass: A function of the `Call`; true: it is let in whatever the limit is, and counts.
        name: For events and metrics: 1 to 256 printable characters. Default: as it is written.
        clock: Monotonic clock. Default: the process-wide one.
        rng: When Vegas measures anew. Default: the library's own.

    Raises:
        ThrottledError: as many as it can bear run already; the call never ran.

    After Netflix's concurrency-limits.
    """

    laned: ClassVar[bool] = True

    algorithm: AIMD | Vegas | Gradient2 = attrs.field(factory=Gradient2, validator=_ALGORITHM)
    on: ErrorFilter = attrs.field(
        default=(ConnectionError, TimeoutError), kw_only=True, validator=error_filter()
    )
    ignore: ErrorFilter = attrs.field(default=(), kw_only=True, validator=error_filter())
    partitions: Mapping[str, float] = attrs.field(factory=dict, kw_only=True, validator=_PARTITIONS)
    partition: Callable[[Call], str | None] | None = attrs.field(
        default=None, kw_only=True, validator=_FUNCTION
    )
    bypass: Callable[[Call], object] | None = attrs.field(
        default=None, kw_only=True, validator=_FUNCTION
    )
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
        lane = core.places.plain and core.partition is None and core.bypass is None
        objects = {"places": core.places, "clock": core.clock, "succeeded": core.succeeded}
        hub.parts.append(Part("flight", objects) if lane else None)
        return _linked(core, step, hub)

    @property
    def limit(self) -> int:
        """Calls it lets run at once now."""
        return self._core.places.limit

    @property
    def in_flight(self) -> int:
        """Calls that run now."""
        return self._core.places.taken

    def snapshot(self) -> ConcurrencyLimitSnapshot:
        """Everything there is to know at this instant, frozen."""
        core = self._core
        parts = {each: (part.limit, part.taken) for each, part in core.parts.items()}
        return ConcurrencyLimitSnapshot(
            name=self.name,
            limit=core.places.limit,
            in_flight=core.places.taken,
            rejected=core.places.rejected,
            partitions=MappingProxyType(parts),
        )

    def reset(self) -> None:
        """Forget what was learned: the initial limit. Calls that run go on."""
        self._core.begin()


@final
class _Core:
    """What a limit's steps and permits hold on to; not the limit, so that nothing here is a cycle."""

    __slots__ = (
        "_estimate", "_turn", "algorithm", "bypass", "clock", "judge", "label", "name", "partition",
        "parts", "places", "rng", "shares",
    )  # fmt: skip

    def __init__(self, options: ConcurrencyLimit) -> None:
        self.label: str = repr(options)
        self.name: str | None = options.name
        self.clock: Any = options.clock or PROCESS_CLOCK
        self.rng: Rng = options.rng or RNG
        self.judge: Judge = Judge(options.on, options.ignore, None)
        self.algorithm = options.algorithm
        self.partition = options.partition
        self.bypass = options.bypass
        self.shares: dict[str, float] = dict(options.partitions)
        self.places: Places = PLACES(options.algorithm.initial, 0)
        self.parts: dict[str, Places] = {each: PLACES(1, 0) for each in self.shares}
        self._turn: list[None] = [None]
        self._estimate: Estimate
        self.begin()

    def now(self) -> float:
        return self.clock.now()  # type: ignore[no-any-return]

    def begin(self) -> None:
        self._estimate = self.algorithm.start(self.rng)
        self._set(self._estimate.limit)

    def _set(self, limit: int) -> None:
        self.places.limit = limit
        for each, share in self.shares.items():
            self.parts[each].limit = max(1, math.ceil(limit * share - 1e-9))

    def enter(self, call: Call, hub: Hub) -> Places | None:
        """Take a place, and one of its partition if it has one; which that is."""
        part = self._part_of(call)
        if self.bypass is not None and self._asked("bypass", self.bypass, call):
            self.places.give(-1)
            if part is not None:
                part.give(-1)
        elif part is not None and part.take():
            self.places.give(-1)  # its own share, whatever the others have taken
        elif self.places.take():
            if part is not None:
                part.give(-1)
        else:
            raise self.rejection(hub)
        return part

    def _part_of(self, call: Call) -> Places | None:
        if self.partition is None:
            return None
        asked = self._asked("partition", self.partition, call)
        return self.parts.get(asked) if isinstance(asked, str) else None

    def _asked(self, option: str, function: Callable[[Call], object], call: Call) -> object:
        try:
            return function(call)
        except Exception as error:  # noqa: BLE001 - law 6: the user's function must not become the call's error
            hook_failed(f"ConcurrencyLimit.{option}", function, error)
            return None

    def succeeded(self, in_flight: int, started: float) -> None:
        """A call of no partition ended well."""
        self.leave(None)
        self.learn(Verdict.SUCCESS, started, in_flight)

    def leave(self, part: Places | None) -> None:
        self.places.give()
        if part is not None:
            part.give()

    def learn(self, verdict: Verdict, started: float, in_flight: int) -> None:
        """What a call that ended says of the limit."""
        dropped = verdict is Verdict.FAILURE
        seconds = self.now() - started
        # A clock that stands still, or runs backwards, says nothing.
        if verdict is Verdict.IGNORED or not (dropped or seconds > 0):
            return
        try:
            self._turn.pop()
        except (
            IndexError
        ):  # pragma: no cover - another thread learns; one sample more or less says little
            return
        try:
            limit = self._estimate.sample(seconds, in_flight, dropped=dropped)
            if limit != self.places.limit:
                self._set(limit)
        except Exception as error:  # noqa: BLE001 - law 6: the algorithm's functions may be the user's
            hook_failed("ConcurrencyLimit.algorithm", self.algorithm, error)
        finally:
            self._turn.append(None)

    def rejection(self, hub: Hub) -> ThrottledError:
        """Counted, and told to *hub*."""
        self.places.reject()
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
class _Running:
    """A call that was let in and whose end is somebody else's to tell."""

    __slots__ = ("_core", "_in_flight", "_part", "_started")

    def __init__(self, core: _Core, part: Places | None, started: float, in_flight: int) -> None:
        self._core = core
        self._part = part
        self._started = started
        self._in_flight = in_flight

    def _end(self, verdict: Verdict) -> None:
        self._core.leave(self._part)
        self._core.learn(verdict, self._started, self._in_flight)

    def cut_off(self) -> None:
        """Our deadline cut it off: it would have taken longer."""
        self._end(self._core.judge.error(TimeoutExceededError()))

    def ignore(self) -> None:
        """The caller left: it says nothing."""
        self._end(Verdict.IGNORED)

    def ended(self, error: BaseException | None) -> None:
        """The stream ended; how long it took is its consumer's doing, so only a drop counts."""
        verdict = self._core.judge.error(error) if isinstance(error, Exception) else None
        self._end(Verdict.FAILURE if verdict is Verdict.FAILURE else Verdict.IGNORED)


def _linked(core: _Core, step: Step, hub: Hub) -> Step:
    places, clock, judge = core.places, core.clock, core.judge

    async def guarded(call: Call) -> Any:
        part = None
        if call.lane is not None:
            in_flight, started = call.take_over()
        else:
            part = core.enter(call, hub)
            in_flight, started = places.taken, clock.now()
        entered = call.entered
        try:
            result = await step(call)
        except Exception as error:
            core.leave(part)
            core.learn(judge.error(error), started, in_flight)
            raise
        except BaseException:
            call.park(_Running(core, part, started, in_flight), entered)
            raise
        if call.held is not None:
            call.held.append(_Running(core, part, started, in_flight))
        else:
            core.leave(part)
            core.learn(Verdict.SUCCESS, started, in_flight)
        return result

    return guarded
