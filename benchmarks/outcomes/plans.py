"""
What goes wrong with the server, and when.

Pure data. A plan is a warm-up, one or more faulty phases and a calm; the warm-up is longer than the default window of a
breaker, because that is what it is full of when the fault comes.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

__all__ = ["PLANS", "Phase", "Plan", "Span"]


@attrs.frozen(kw_only=True)
class Phase:
    """
    How the server behaves for some seconds. Shares are of the requests, from 0 to 1.

    Attributes:
        seconds: How long.
        refused: Share whose connection is refused at once. At 1 the server has died: what it held is reset.
        silent: Share that never gets an answer and holds nothing (packets that vanish).
        errors: Share answered with an error after the usual work.
        slots: Share of the service slots that work.
        slower: Factor on the work at the start and at the end of the phase, linear between.
        tail: Share, and seconds from and to, of requests that take that long instead.
        spent: The quota is spent: 429 with ``Retry-After``, whole seconds to the end of the phase, rounded up.
        fault: Whether it belongs to the fault.
    """

    seconds: float
    refused: float = 0.0
    silent: float = 0.0
    errors: float = 0.0
    slots: float = 1.0
    slower: tuple[float, float] = (1.0, 1.0)
    tail: tuple[float, float, float] = (0.0, 0.0, 0.0)
    spent: bool = False
    fault: bool = True

    @property
    def troubled(self) -> bool:
        """Whether anything is wrong in this phase; between two outages of a fault there is nothing."""
        return attrs.evolve(self, fault=True) != Phase(seconds=self.seconds)


@attrs.frozen
class Span:
    """A phase at its place: from `start` to `end`, seconds since the plan began."""

    phase: Phase
    start: float
    end: float


@attrs.frozen(kw_only=True)
class Plan:
    """
    A named sequence of phases, and the server that goes through them at 100 calls per second.

    Attributes:
        name, text: What it is called, and one sentence on what happens.
        phases: In order; the last one goes on for as long as anybody asks.
        slots: Requests worked on at once.
        queue: Requests that may wait for a slot; the next one is answered 503 at once.
        work: Mean seconds of work of one request.
        quiet: No circuit should open in it: the server is well, or a retry is enough.
    """

    name: str
    text: str
    phases: tuple[Phase, ...]
    slots: int = 25
    queue: int = 500
    work: float = 0.1
    quiet: bool = False

    @property
    def seconds(self) -> float:
        """Length of the whole plan."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def capacity(self) -> float:
        """Requests per second that the server can answer when it is well."""
        return self.slots / self.work

    def spans(self) -> tuple[Span, ...]:
        """The phases with their places."""

        def placed() -> Iterator[Span]:
            start = 0.0
            for phase in self.phases:
                yield Span(phase, start, start + phase.seconds)
                start += phase.seconds

        return tuple(placed())

    @property
    def fault(self) -> tuple[float, float]:
        """From the start of the first faulty phase to the end of the last one; the whole plan if there is none."""
        faulty = [span for span in self.spans() if span.phase.fault]
        return (faulty[0].start, faulty[-1].end) if faulty else (0.0, self.seconds)

    @property
    def heals(self) -> bool:
        """Whether a calm follows a fault."""
        return any(phase.fault for phase in self.phases) and not self.phases[-1].fault

    def scaled(self, factor: float) -> Plan:
        """The same plan for *factor* times the calls: slots and queue grow or shrink with them."""
        return attrs.evolve(
            self,
            slots=max(1, round(self.slots * factor)),
            queue=max(1, round(self.queue * factor)),
        )


def _well(seconds: float) -> Phase:
    return Phase(seconds=seconds, fault=False)


def _plan(
    name: str,
    text: str,
    *fault: Phase,
    warm: float = 40.0,
    calm: float = 60.0,
    **server: float | bool,
) -> Plan:
    phases = (_well(warm), *fault, *((_well(calm),) if calm else ()))
    return Plan(name=name, text=text, phases=phases, **server)  # type: ignore[arg-type]


def _restart() -> tuple[Phase, ...]:
    # One of four instances at a time: away for 2 s, then cold for 3 s.
    return (Phase(seconds=2, refused=0.25), Phase(seconds=3, slower=(2.0, 1.0)))


PLANS: dict[str, Plan] = {
    plan.name: plan
    for plan in (
        Plan(
            name="healthy",
            text="Nothing goes wrong.",
            phases=(_well(60),),
            quiet=True,
        ),
        _plan(
            "dead",
            "Every connection is refused for 30 s.",
            Phase(seconds=30, refused=1.0),
        ),
        _plan(
            "brown-out",
            "70 % of the requests are answered with an error for 30 s.",
            Phase(seconds=30, errors=0.7),
        ),
        _plan(
            "slow",
            "Work takes 15 times as long for 30 s: capacity falls to a sixth of the load.",
            Phase(seconds=30, slower=(15.0, 15.0)),
        ),
        _plan(
            "hanging",
            "No request gets an answer for 30 s, not even an error.",
            Phase(seconds=30, silent=1.0),
        ),
        _plan(
            "flapping",
            "Dead for 2 s, well for 3 s, eight times.",
            *(Phase(seconds=2, refused=1.0), Phase(seconds=3)) * 8,
        ),
        _plan(
            "overload",
            "77 % of the capacity is in use when 70 % of it fails for 20 s. The queue holds 15 s of work, and the "
            "server finishes what nobody waits for any more: retries keep it full after the cause has gone.",
            Phase(seconds=20, slots=0.3),
            slots=13,
            queue=2000,
        ),
        _plan(
            "partial",
            "One of four instances is down for 30 s: a quarter of the connections is refused.",
            Phase(seconds=30, refused=0.25),
            quiet=True,
        ),
        _plan(
            "recovering slowly",
            "Dead for 15 s, then cold: work takes 8 times as long and is back to normal 30 s later.",
            Phase(seconds=15, refused=1.0),
            Phase(seconds=30, slower=(8.0, 1.0)),
        ),
        _plan(
            "rate-limited",
            "For 3 s of every 10 s a quota is spent: 429 with Retry-After, four times.",
            *(Phase(seconds=3, spent=True), Phase(seconds=7)) * 4,
            quiet=True,
        ),
        _plan(
            "long tail",
            "2 % of the requests take 3 to 6 s, all the time.",
            Phase(seconds=60, tail=(0.02, 3.0, 6.0)),
            warm=0.0,
            calm=0.0,
            quiet=True,
        ),
        _plan(
            "rolling restart",
            "Four instances restart in turn: each refuses its quarter for 2 s, then is cold for 3 s.",
            *_restart() * 4,
            quiet=True,
        ),
    )
}
