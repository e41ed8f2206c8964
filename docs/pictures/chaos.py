"""
The picture of docs/reference/chaos.md.
"""

from __future__ import annotations

import itertools
import random

import anyio

from docs.pictures.drawing import Kind, Lane, Lanes, Mark, Span, Strip, drawn
from resilience import Chaos, CircuitBreaker, CircuitState, ConsecutiveFailures, Pipeline, Timeout
from resilience.testing import run

__all__ = ["chaos_picture"]

_numbers = itertools.count(1)
_SECONDS = 15.0
_DRILL = 3.0, 8.0
_EVERY = 0.25


def chaos_picture() -> str:
    """A drill: chaos is switched on for a while, and the circuit does what it is there for."""
    calls: list[Span | Mark] = []
    struck: list[Span | Mark] = []
    states: list[Span] = []

    async def main() -> None:
        chaos = Chaos(0.7, fault=ConnectionError, rng=random.Random(7))
        breaker = CircuitBreaker(
            f"picture {next(_numbers)}",
            on=ConnectionError,
            trip=ConsecutiveFailures(3),
            break_duration=2,
        )
        guarded = Pipeline(breaker, Timeout(1), chaos)
        began = anyio.current_time()

        async def healthy() -> str:
            await anyio.sleep(0.05)
            return "page"

        at = 0.0
        while at < _SECONDS - _EVERY:
            (chaos.enable if _DRILL[0] <= at < _DRILL[1] else chaos.disable)()
            before = chaos.snapshot().injected
            outcome = await guarded.outcome(healthy)
            kind: Kind = "good" if outcome.ok else "quiet" if outcome.rejection else "bad"
            calls.append(Span(at, at + _EVERY * 0.8, kind))
            if chaos.snapshot().injected > before:
                struck.append(Mark(at + _EVERY * 0.4, "rejected"))
            state = breaker.state
            colour: Kind = "good" if state is CircuitState.CLOSED else "bad"
            if states and states[-1].text == state.name:
                states[-1] = Span(states[-1].start, at + _EVERY, colour, state.name)
            else:
                states.append(Span(at, at + _EVERY, colour, state.name))
            at = round(at + _EVERY, 6)
            await anyio.sleep(began + at - anyio.current_time())

    run(main)
    return drawn(
        "Chaos(0.7, fault=ConnectionError) in a drill from 3 s to 8 s",
        "Four calls a second to a healthy service. Seven of ten fail while the chaos is on; the circuit opens after "
        "three in a row, looks again every two seconds, and closes when the drill is over.",
        _SECONDS,
        [
            Lanes("Calls", [Lane("injected", struck), Lane("callers get", calls)]),
            Strip(
                "Chaos",
                [
                    Span(0, _DRILL[0], "quiet", "off"),
                    Span(*_DRILL, "bad", "on"),
                    Span(_DRILL[1], _SECONDS, "quiet", "off"),
                ],
            ),
            Strip("Circuit", states),
        ],
        legend={"good": "an answer", "bad": "an error", "quiet": "CircuitOpenError"},
    )
