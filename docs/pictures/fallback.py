"""
The pictures of docs/reference/fallback.md and docs/reference/last-good.md.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import anyio

from docs.pictures.drawing import Curve, Kind, Lane, Lanes, Mark, Plot, Span, Strip, drawn
from resilience import (
    CircuitBreaker,
    CircuitOpenError,
    ConsecutiveFailures,
    Fallback,
    LastGood,
    Outcome,
    Pipeline,
    Timeout,
)
from resilience.testing import run

__all__ = ["fallback_picture", "last_good_picture"]

_numbers = itertools.count(1)
_SECONDS = 12.0
_DOWN = 2.8, 7.8
_EVERY = 0.5
_TAKES = 0.3


class _Service:
    """It is down for a while, and keeps when it was asked."""

    def __init__(self) -> None:
        self.began = anyio.current_time()
        self.asked: list[Span | Mark] = []

    def now(self) -> float:
        return round(anyio.current_time() - self.began, 6)

    async def __call__(self) -> str:
        came = self.now()
        await anyio.sleep(_TAKES)
        bad = _DOWN[0] <= came < _DOWN[1]
        self.asked.append(Span(came, self.now(), "bad" if bad else "good"))
        if bad:
            raise ConnectionError
        return "fresh"


async def _calls(
    guarded: Pipeline[str], service: _Service
) -> AsyncIterator[tuple[float, Outcome[str]]]:
    while service.now() < _SECONDS - _EVERY:
        at = service.now()
        yield at, await guarded.outcome(service)
        await anyio.sleep(_EVERY - (service.now() % _EVERY))


def fallback_picture() -> str:
    """A circuit opens, and its rejections are answered for; errors of the dependency itself are not."""
    asked: list[Span | Mark] = []
    got: list[Span | Mark] = []
    states: list[Span] = []

    async def main() -> None:
        service = _Service()
        breaker = CircuitBreaker(
            f"picture {next(_numbers)}",
            on=ConnectionError,
            trip=ConsecutiveFailures(2),
            break_duration=2,
        )
        guarded = Pipeline(Fallback("nothing yet", on=CircuitOpenError), breaker, Timeout(1))
        async for at, outcome in _calls(guarded, service):
            kind: Kind = "good" if outcome.ok else "bad"
            if outcome.from_fallback:
                kind = "stale"
            got.append(Span(at, at + _EVERY * 0.8, kind))
            state = breaker.state.name
            if states and states[-1].text == state:
                states[-1] = Span(states[-1].start, at + _EVERY, states[-1].kind, state)
            else:
                colour: Kind = "good" if state == "CLOSED" else "bad"
                states.append(Span(at, at + _EVERY, colour, state))
        asked.extend(service.asked)

    run(main)
    return drawn(
        'Fallback("nothing yet", on=CircuitOpenError) around a circuit breaker',
        "A call every half second; the dependency is down from 2.8 s to 7.8 s. Its errors are not named and pass. "
        "Once the circuit is open, callers get the fallback's answer, at once and without a call.",
        _SECONDS,
        [
            Lanes("Calls", [Lane("dependency", asked), Lane("callers get", got)]),
            Strip("Circuit", states),
        ],
        legend={"good": "an answer", "bad": "an error", "stale": "the fallback's answer"},
    )


def last_good_picture() -> str:
    """The answer that is given grows old, until it is too old."""
    asked: list[Span | Mark] = []
    got: list[Span | Mark] = []
    ages: list[tuple[float, float]] = []

    async def main() -> None:
        service = _Service()
        async for at, outcome in _calls(Pipeline(LastGood(4), Timeout(1)), service):
            age = outcome.age if outcome.ok else None
            kind: Kind = "bad" if not outcome.ok else "good" if age is None else "stale"
            got.append(Span(at, at + _EVERY * 0.8, kind))
            if outcome.ok:
                ages.append((at, age or 0.0))
        asked.extend(service.asked)

    run(main)
    return drawn(
        "LastGood(4)",
        "A call every half second; the dependency is down from 2.8 s to 7.8 s. Callers get the last good answer for "
        "four seconds and are told its age; then they get the error.",
        _SECONDS,
        [
            Lanes("Calls", [Lane("dependency", asked), Lane("callers get", got)]),
            Plot(
                "Age of the answer, s", [Curve("age", "stale", ages, steps=True)], top=4, height=72
            ),
        ],
        legend={"good": "fresh", "stale": "the last good answer", "bad": "an error"},
    )
