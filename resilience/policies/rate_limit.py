"""
RateLimit: so many calls in a time and no more, because the dependency says so or would break.

The tokens and the queue are `resilience.core.buckets`, the waiting is `_waiting`. Where a token is there, a call spends
it in one statement. What is spent is spent, however the call ends; only who leaves the queue spends nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, ClassVar, final

import attrs

from resilience._fronts import Part
from resilience.bounds import Around, Inner, Reach, merged
from resilience.call import GRAIN, Call, Step
from resilience.clock import PROCESS_CLOCK, Clock, Rng, loop_time
from resilience.core.buckets import BUCKET, Bucket
from resilience.doors import Stateful
from resilience.errors import RateLimitedError, made_of
from resilience.events import CallQueued, CallRejected, Hub, by_hand
from resilience.policies._places import Weight, weigher, weight_option
from resilience.policies._waiting import Waiter, stand_in_line, waiter_here
from resilience.validation import (
    Allowed,
    as_clock,
    as_seconds,
    check,
    clock,
    count,
    duration,
    name,
    one_of,
    refuse,
    rng,
)
from resilience.values import Value

__all__ = ["RateLimit", "RateLimitSnapshot"]

"""Where there is no pipeline: whoever listens to the whole process hears of it."""

_FASTEST = 1e9


def _rate() -> Allowed:
    return one_of(
        f"a number > 0, at most {_FASTEST:,.0f}",
        lambda value: (
            isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _FASTEST
        ),
        {
            "text": "5",
            "boolean": True,
            "none": None,
            "not a number": math.nan,
            "infinite": math.inf,
            "zero": 0,
            "negative": -1.0,
            "above": 2 * _FASTEST,
        },
    )


@final
class RateLimitSnapshot(Value):
    """
    A rate limit at one instant; it does not change afterwards.

    Attributes:
        name: Of the limit, or None.
        rate, per: So many calls in so many seconds.
        burst: Tokens it holds when full.
        available: Tokens it holds, those for which somebody waits included; at most ``burst``.
        waiting: Callers that wait.
        rejected: Callers turned away since it was made.
        retry_after: Seconds until a call would be let in without a wait; 0.0: now.
    """

    name: str | None
    rate: float
    per: float
    burst: int
    available: float
    waiting: int
    rejected: int
    retry_after: float


@final
@attrs.frozen(eq=False, repr=False)
class RateLimit(Stateful):
    """
    Let so many calls start in a time, as a token bucket: a burst at once, then at a steady rate.

    With ``burst=1`` calls are spaced out evenly (GCRA). It holds state and has identity: used in two pipelines it is
    shared. The numbers are per process. One object serves any number of tasks, loops and threads without a lock. Who
    waits is served in order, and nobody who comes later overtakes. Pickle and copy are refused.

    Args:
        rate: Calls in ``per`` seconds, > 0; may be a fraction.
        per: Seconds, > 0. Default 1.
        burst: Calls at once after a time of rest, >= 1. Default: ``rate``, rounded down, at least 1.
        max_wait: Seconds a caller waits for its turn at most, >= 0. Who would have to wait longer, or longer than the
            deadline around, is turned away at once, and nothing is reserved for it. Default 0: nobody waits.
        weight: Tokens a call costs, >= 1, or a function of the `Call` that returns it. Default 1.
        name: For events and metrics: 1 to 256 printable characters. Default: as it is written.
        clock: Monotonic clock. Default: the process-wide one.
        rng: Nothing here is left to chance; taken so that every policy that holds state takes the same.

    Raises:
        RateLimitedError: its turn would come too late; ``retry_after``, seconds, is when it would be served at once if
            nobody else came, None if never. The call never ran.

    Names follow resilience4j and failsafe-go. ITU-T I.371; Turner, "New directions in communications" (1986).
    """

    laned: ClassVar[bool] = True

    rate: float = attrs.field(validator=_rate())
    per: float = attrs.field(default=1.0, kw_only=True, converter=as_seconds, validator=duration())
    burst: int | None = attrs.field(default=None, kw_only=True, validator=count(none=True))
    max_wait: float = attrs.field(
        default=0.0, kw_only=True, converter=as_seconds, validator=duration(zero=True)
    )
    weight: Weight = attrs.field(default=1, kw_only=True, validator=weight_option())
    name: str | None = attrs.field(default=None, kw_only=True, validator=name(none=True))
    clock: Clock | Callable[[], float] | None = attrs.field(
        default=None, kw_only=True, converter=as_clock, validator=clock()
    )
    rng: Rng | None = attrs.field(default=None, kw_only=True, validator=rng())
    _core: _Core = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_core", _Core(self))

    def link(self, step: Step, hub: Hub) -> Step:
        hub.gates.append(self._core.foresee)
        core = self._core
        lane = core.bucket.plain and core.weigh is None
        objects = {"bucket": core.bucket, "clock": core.clock, "weight": core.weight}
        hub.parts.append(Part("tokens", objects) if lane else None)
        return _linked(core, step, hub)

    def worst(self, inner: Inner, around: Around) -> Inner:  # noqa: ARG002
        wait = self.max_wait
        if wait == 0:
            return inner

        def reach(starts: Sequence[Reach], deadline: float) -> Sequence[Reach]:
            waited = (each._replace(last=min(each.last + wait, deadline)) for each in starts)
            return inner(merged(waited), deadline)

        return reach

    # ------------------------------------------------------------------ state

    @property
    def available(self) -> float:
        """Tokens in the bucket now."""
        core = self._core
        return core.bucket.level(core.now())

    @property
    def waiting(self) -> int:
        """Callers that wait now."""
        return self._core.bucket.waiting

    @property
    def retry_after(self) -> float:
        """Seconds until a call would be let in without a wait; 0.0: now. Reading it takes nothing."""
        core = self._core
        return core.bucket.wait(1, core.now())

    def snapshot(self) -> RateLimitSnapshot:
        """Everything there is to know at this instant, frozen."""
        core, now = self._core, self._core.now()
        bucket = core.bucket
        return RateLimitSnapshot(
            name=self.name,
            rate=self.rate,
            per=self.per,
            burst=bucket.burst,
            available=bucket.level(now),
            waiting=bucket.waiting,
            rejected=bucket.rejected,
            retry_after=bucket.wait(1, now),
        )

    def change(
        self,
        *,
        rate: float | None = None,
        per: float | timedelta | None = None,
        burst: int | None = None,
        max_wait: float | timedelta | None = None,
    ) -> None:
        """
        Another rate from now on, as one step and from any thread; what is not given stays.

        What is in the bucket stays in it, as far as it has room. Who waits keeps its place and gets its turn at the new
        rate; whose turn would now come later than it can wait is turned away.

        Raises:
            ConfigurationError: as for a new limit.
        """
        kinds = attrs.fields(RateLimit)
        given: dict[str, Any] = {
            "rate": rate,
            "per": None if per is None else as_seconds(per),
            "burst": burst,
            "max_wait": None if max_wait is None else as_seconds(max_wait),
        }
        given = {each: value for each, value in given.items() if value is not None}
        for each, value in given.items():
            check(f"RateLimit.{each}", value, getattr(kinds, each).validator)
        _speed(given.get("rate", self.rate), given.get("per", self.per))
        for each, value in given.items():
            object.__setattr__(self, each, value)
        core = self._core
        core.label, core.max_wait = repr(self), self.max_wait
        core.bucket.change(_speed(self.rate, self.per), _burst(self), core.now())

    def drain(self) -> None:
        """Empty the bucket now, as when a server says "slow down"; it fills again at its rate. Empty: nothing."""
        core = self._core
        core.bucket.drain(core.now())

    # ---------------------------------------------------------------- by hand

    def admit(self, weight: int = 1) -> None:
        """
        Leave to make one call now, without a wait.

        Raises:
            RateLimitedError: the call must not be made.
        """
        check("RateLimit.admit.weight", weight, count())
        core = self._core
        if not core.bucket.take(weight, core.now()):
            raise core.rejection(by_hand(), weight)

    async def acquire(self, weight: int = 1) -> None:
        """
        Leave to make one call, after a wait of at most ``max_wait`` seconds.

        Raises:
            RateLimitedError: its turn would come too late; the call must not be made.
        """
        check("RateLimit.acquire.weight", weight, count())
        core = self._core
        if not core.bucket.take(weight, core.now()):
            if core.in_vain(None):
                raise core.rejection(by_hand(), weight)
            await core.enter(None, weight, by_hand())


def _speed(rate: float, per: float) -> float:
    speed = rate / per
    if not 0 < speed <= _FASTEST:
        raise refuse(
            "RateLimit.per", per, f"long enough for at most {_FASTEST:,.0f} calls a second"
        )
    return speed


def _burst(options: RateLimit) -> int:
    return options.burst or max(1, math.floor(options.rate))


@final
class _Core:
    """What a rate limit's steps hold on to; not the limit, so that nothing here is a cycle."""

    __slots__ = ("bucket", "clock", "label", "max_wait", "name", "weigh", "weight")

    def __init__(self, options: RateLimit) -> None:
        self.label: str = repr(options)
        self.name: str | None = options.name
        self.max_wait: float = options.max_wait
        self.clock: Any = options.clock or PROCESS_CLOCK
        speed = _speed(options.rate, options.per)
        self.bucket: Bucket = BUCKET(speed, _burst(options), self.now())
        given = options.weight
        self.weight: int = given if isinstance(given, int) else 1
        self.weigh: Callable[[Call], int] | None = (
            None if isinstance(given, int) else weigher("RateLimit", given)
        )

    def now(self) -> float:
        return self.clock.now()  # type: ignore[no-any-return]

    def foresee(self) -> RateLimitedError | None:
        """The rejection that a call would meet now; None where it may pass. It would be let in to wait, too."""
        early = self.bucket.wait(self.weight, self.now()) - self.max_wait
        return RateLimitedError(policy=self.label, retry_after=early) if early > GRAIN else None

    def in_vain(self, call: Call | None) -> bool:
        """Whether no wait would help, asked before a waiter or a coroutine is made."""
        patience = self._patience(call)
        return patience < 0 or (patience == 0 and not self.bucket.waiting)

    def _patience(self, call: Call | None) -> float:
        if call is None or call.until == math.inf:
            return self.max_wait
        # An attempt starts only if time remains.
        return min(self.max_wait, call.until - loop_time() - 2 * GRAIN)

    async def enter(self, call: Call | None, weight: int, hub: Hub) -> None:
        """Wait for its turn, if it comes in time."""
        bucket, patience = self.bucket, self._patience(call)
        began = self.now()
        waiter = waiter_here(weight)
        waiter.latest = began + self.max_wait
        waiter.look_at = began + bucket.wait(weight, began)
        if not bucket.join(waiter, began, patience):
            raise self.rejection(hub, weight)
        handed = False
        try:
            handed = await stand_in_line(bucket, waiter, lambda: self._left(waiter), self.now)
        finally:
            if (waited := self.now() - began) > 0 and hub.wants(CallQueued):
                hub.emit(
                    CallQueued(
                        policy=self.name or self.label,
                        pipeline=hub.pipeline,
                        at=began + waited,
                        waited=waited,
                        admitted=handed,
                    )
                )
        if not handed:
            raise self.rejection(hub, weight)

    def _left(self, waiter: Waiter) -> float:
        """How long it may sleep before it looks again. What is due by now, for whomever, is handed out."""
        bucket, now = self.bucket, self.now()
        bucket.advance(now)
        if waiter.latest - now <= GRAIN:
            return 0.0
        if bucket.first() is waiter:
            waiter.look_at = now + bucket.due(waiter.weight, now)
        elif waiter.look_at - now <= GRAIN:
            # It was due, and is not served yet. Whoever becomes the first is told to look.
            waiter.look_at = math.inf
        return max(GRAIN, min(waiter.look_at, waiter.latest) - now)

    def rejection(self, hub: Hub, weight: int) -> RateLimitedError:
        """Counted, and told to *hub*."""
        self.bucket.reject()
        at = self.now()
        retry_after = self.bucket.retry_after(weight, at, self.max_wait)
        if hub.wants(CallRejected):
            hub.emit(
                CallRejected(
                    policy=self.name or self.label,
                    pipeline=hub.pipeline,
                    at=at,
                    reason=RateLimitedError.reason,
                    retry_after=retry_after,
                )
            )
        return made_of(RateLimitedError, {"policy": self.label, "retry_after": retry_after})


def _linked(core: _Core, step: Step, hub: Hub) -> Step:
    bucket, clock, usual, weigh, plain = (
        core.bucket,
        core.clock,
        core.weight,
        core.weigh,
        core.bucket.plain,
    )

    async def guarded(call: Call) -> Any:
        if call.lane is not None:
            call.take_over()
            return await step(call)
        now = clock.now()
        if plain and weigh is None:
            # `Bucket.take`, written out: this is the path every call takes.
            bucket.at += (
                spent := 0.0
                if bucket.waiting
                or usual > bucket.room
                or bucket.at + usual > (here := now * bucket.speed) + bucket.room
                else usual
                if bucket.at > here
                else here - bucket.at + usual
            )
            weight = usual
        else:
            weight = usual if weigh is None else weigh(call)
            spent = bucket.take(weight, now)
        if not spent:
            if core.in_vain(call):
                raise core.rejection(hub, weight)
            await core.enter(call, weight, hub)
        return await step(call)

    return guarded
