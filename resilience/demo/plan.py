"""
What goes wrong, when, and what the service does about one request then.

Pure: no clock, no I/O. Whatever a request meets is drawn from a generator seeded with the run's seed, the number of the
call and the number of the attempt, never with the group: the same call has the same luck in both groups.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from random import Random

import attrs

__all__ = [
    "PLANS",
    "Behaviour",
    "Fault",
    "Kind",
    "Mode",
    "Phase",
    "Plan",
    "Span",
    "arrivals",
    "behave",
]


class Mode(enum.StrEnum):
    """The state of the service in one phase of a plan."""

    HEALTHY = "healthy"
    SLOW = "slow"
    FAILING = "failing"
    HANGING = "hanging"
    DEAD = "dead"
    RECOVERING = "recovering"

    @property
    def is_fault(self) -> bool:
        """Whether a phase in this mode is a fault; a warm-up is not."""
        return self not in {Mode.HEALTHY, Mode.RECOVERING}


class Kind(enum.StrEnum):
    """What the service does with one request."""

    ANSWER = "answer"
    ERROR = "error"  # a complete answer with status 503
    RESET = "reset"  # the connection is reset without an answer
    HALF = "half"  # the answer ends in the middle of its body
    HANG = "hang"  # no answer until the client leaves


@attrs.frozen
class Behaviour:
    """One request's fate: what happens to it after `seconds` of work."""

    kind: Kind
    seconds: float


@attrs.frozen
class Phase:
    """One mode, for some seconds."""

    mode: Mode
    seconds: float


@attrs.frozen
class Span:
    """A phase at its place in the run: from `start` to `end`, in seconds since the run began."""

    mode: Mode
    start: float
    end: float


@attrs.frozen
class Fault:
    """A faulty phase and the calm after it, which lasts until `calm_until`."""

    mode: Mode
    start: float
    end: float
    calm_until: float


@attrs.frozen
class Plan:
    """A named sequence of phases."""

    name: str
    phases: tuple[Phase, ...]

    @property
    def seconds(self) -> float:
        """Length of the whole plan."""
        return sum(phase.seconds for phase in self.phases)

    def lasting(self, seconds: float) -> Plan:
        """The same plan, stretched or squeezed to this length."""
        factor = seconds / self.seconds
        return attrs.evolve(
            self, phases=tuple(Phase(each.mode, each.seconds * factor) for each in self.phases)
        )

    def spans(self) -> tuple[Span, ...]:
        """The phases with their places."""

        def placed() -> Iterator[Span]:
            start = 0.0
            for phase in self.phases:
                yield Span(phase.mode, start, start + phase.seconds)
                start += phase.seconds

        return tuple(placed())

    def at(self, seconds: float) -> Span:
        """The phase at this time; the last one goes on for as long as anybody asks."""
        spans = self.spans()
        return next((span for span in spans if seconds < span.end), spans[-1])

    def faults(self) -> tuple[Fault, ...]:
        """The faulty phases, each with the calm that follows it."""
        spans = self.spans()
        return tuple(
            Fault(
                span.mode,
                span.start,
                span.end,
                next(
                    (later.start for later in spans[index:] if later.mode.is_fault), spans[-1].end
                ),
            )
            for index, span in enumerate(spans, start=1)
            if span.mode.is_fault
        )


def _plan(name: str, *phases: tuple[Mode, float]) -> Plan:
    return Plan(name, tuple(Phase(mode, seconds) for mode, seconds in phases))


def _one_fault(mode: Mode, seconds: float, calm: float) -> Plan:
    return _plan(mode.value, (Mode.HEALTHY, 3), (mode, seconds), (Mode.RECOVERING, calm))


PLANS: dict[str, Plan] = {
    plan.name: plan
    for plan in (
        _plan(
            "default",
            (Mode.HEALTHY, 3),
            (Mode.SLOW, 4),
            (Mode.RECOVERING, 3),
            (Mode.FAILING, 4),
            (Mode.RECOVERING, 2),
            (Mode.HANGING, 4),
            (Mode.RECOVERING, 3),
            (Mode.DEAD, 3),
            (Mode.RECOVERING, 3),
        ),
        _plan("healthy", (Mode.HEALTHY, 8)),
        _one_fault(Mode.SLOW, 5, 4),
        _one_fault(Mode.FAILING, 5, 4),
        _one_fault(Mode.HANGING, 5, 6),
        _one_fault(Mode.DEAD, 5, 4),
        _plan(
            "flapping",
            (Mode.HEALTHY, 2),
            *((Mode.FAILING, 1), (Mode.DEAD, 0.5), (Mode.HEALTHY, 1.5)) * 4,
        ),
    )
}

_WORK = (0.008, 0.020)
_SLOW_WORK = (0.6, 1.2)
_COLD = 5.0  # how many times longer the first request after a fault takes
_FAILING_SHARES = ((0.35, Kind.ERROR), (0.65, Kind.RESET), (0.90, Kind.HALF))


def behave(mode: Mode, progress: float, rng: Random) -> Behaviour:
    """What happens to a request in this mode; `progress` is the share of the phase that has passed, from 0 to 1."""
    work = rng.uniform(*_WORK)
    match mode:
        case Mode.SLOW:
            return Behaviour(Kind.ANSWER, rng.uniform(*_SLOW_WORK))
        case Mode.FAILING:
            luck = rng.random()
            kind = next((kind for share, kind in _FAILING_SHARES if luck < share), Kind.ANSWER)
            return Behaviour(kind, work)
        case Mode.HANGING:
            return Behaviour(Kind.HANG, 0.0)
        case Mode.RECOVERING:
            return Behaviour(Kind.ANSWER, work * (_COLD - (_COLD - 1) * min(progress, 1.0)))
        case Mode.DEAD:  # read just before the socket was closed
            return Behaviour(Kind.RESET, 0.0)
        case _:  # healthy
            return Behaviour(Kind.ANSWER, work)


def arrivals(rate: float, seconds: float, seed: int) -> tuple[float, ...]:
    """When calls arrive: a Poisson stream of `rate` per second, the same for the same seed."""
    rng = Random(seed)  # noqa: S311 - no secret

    def times() -> Iterator[float]:
        at = rng.expovariate(rate)
        while at < seconds:
            yield at
            at += rng.expovariate(rate)

    return tuple(times())
