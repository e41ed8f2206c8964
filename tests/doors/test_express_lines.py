"""
The text of the lane: written and compiled once for each shape and signature, and there for whoever debugs.
"""

from __future__ import annotations

import asyncio
import bdb
import builtins
import inspect
import itertools
import linecache
import sys
import traceback
from typing import Any

import pytest

from resilience import Bulkhead, Pipeline, RateLimit, Timeout
from resilience import _fronts as fronts
from resilience._fronts import LANE
from resilience.testing import engine
from tests.doors.kit import pipeline, plain_breaker
from tests.doors.lanes import ENGINES, has_lane, quick_retry, unwrapped, wrapped_on


def guard() -> Pipeline:
    return pipeline(Timeout(20), quick_retry(), plain_breaker(), Bulkhead(9), Timeout(5))


@pytest.fixture
def compiled(monkeypatch):
    """The texts that were compiled since the test began."""
    texts: list[str] = []
    real = builtins.compile

    def noted(source: Any, *args: Any, **kwargs: Any) -> Any:
        texts.append(source)
        return real(source, *args, **kwargs)

    monkeypatch.setattr(fronts, "compile", noted, raising=False)
    monkeypatch.setattr(fronts, "_MADE", {})
    monkeypatch.setattr(fronts, "_KNOWN", {})
    return texts


async def price(item, *, currency="EUR"):
    return item, currency


async def prices(item, *, currency="USD"):
    first, second = item, currency
    return first, second


async def weight(item, *, unit="kg"):
    return item, unit


# ------------------------------------------------------------------------------ compiled once


def test_a_shape_and_a_signature_are_compiled_once(compiled):
    """
    Issue 7.1: code is cached by shape and signature; defaults, bodies and numbers are no part of either.
    """
    with engine("express"):
        wrapped = guard().wrap(price)
        assert 2 == len(compiled), "the lane, and what it leaves for"
        others = [guard().wrap(price), guard().wrap(prices)]
        assert 2 == len(compiled)
    for other in others:
        assert wrapped.__code__ is other.__code__
    assert ["EUR", "EUR", "USD"] == [each.__kwdefaults__["currency"] for each in (wrapped, *others)]


def test_another_shape_or_signature_has_a_text_of_its_own(compiled):
    """
    Issue 7.1: what differs in either is compiled once more, and no more than that.
    """
    with engine("express"):
        guard().wrap(price)
        guard().wrap(weight)
        assert 4 == len(compiled)
        pipeline(Timeout(20), quick_retry()).wrap(price)
        assert 5 == len(compiled), "the linked function knows no shape"
        pipeline(Timeout(9), quick_retry()).wrap(price)
        assert 5 == len(compiled)


def test_a_guard_that_is_called_compiles_its_shape_once(compiled):
    """
    Issue 7.1: ``await p(fn)`` has one lane for every function.
    """
    with engine("express"):
        one, two = unwrapped(guard()), unwrapped(guard())
    assert 1 == len(compiled)
    assert one.__code__ is two.__code__


def test_the_linked_engine_compiles_one_door(compiled):
    """
    Issue 7.3: no lane is written where none is used.
    """
    with engine("linked"):
        guard().wrap(price)
        pipeline(RateLimit(5)).wrap(price)
        unwrapped(guard())
    assert 1 == len(compiled)


# ------------------------------------------------------------------------------ to be read


def lines_of(made: Any) -> list[str]:
    return linecache.getlines(made.__code__.co_filename)


@pytest.mark.parametrize("name", ENGINES)
def test_the_text_is_there_for_who_looks_a_line_up(name):
    """
    Issue 7.1: each line that the compiler knows is in linecache, after `linecache.checkcache` as well.
    """
    wrapped = wrapped_on(name, guard(), price)
    linecache.checkcache()
    linecache.checkcache(wrapped.__code__.co_filename)
    lines = lines_of(wrapped)
    assert lines
    numbers = {number for _, _, number in wrapped.__code__.co_lines() if number is not None}
    for number in numbers:
        assert lines[number - 1].strip()
    assert "async def guarded(item, *, currency)" in lines[wrapped.__code__.co_firstlineno - 1]
    assert "".join(lines[wrapped.__code__.co_firstlineno - 1 :]).startswith(
        inspect.getsource(wrapped.__code__)
    )


def test_no_two_texts_have_one_name():
    """
    A line that is looked up is the line that runs.
    """
    made = [
        wrapped_on(name, each, fn)
        for name, each, fn in itertools.product(
            ENGINES, (guard(), pipeline(Timeout(5))), (price, weight)
        )
    ]
    texts = {each.__code__.co_filename: each.__code__ for each in made}
    assert len({each.__code__ for each in made}) == len(texts)


async def fails(item):
    raise KeyError(item)


def frames_of(error: BaseException) -> list[traceback.FrameSummary]:
    return list(traceback.extract_tb(error.__traceback__))


async def test_a_traceback_shows_the_lane_and_the_callee(backend):
    """
    Issue 7.1: every frame has a line of text; the callee is last, and was entered by the line that says so.
    """
    wrapped = wrapped_on("express", pipeline(plain_breaker(), Bulkhead(3)), fails)
    with pytest.raises(KeyError) as caught:
        await wrapped("here")
    frames = frames_of(caught.value)
    assert all(frame.line for frame in frames)
    assert "fails" == frames[-1].name
    assert "raise KeyError(item)" == frames[-1].line
    lane = [frame for frame in frames if frame.filename == wrapped.__code__.co_filename]
    assert f"{LANE}result = await {LANE}fn(item)" == lane[-1].line
    printed = "".join(traceback.format_exception(caught.value))
    assert f"await {LANE}fn(item)" in printed


@pytest.mark.parametrize("name", ENGINES)
async def test_a_failed_call_shows_its_callee_once(backend, name):
    """
    Law 35: however it came out, the callee's frame is there once, and nothing is chained to the error.
    """
    wrapped = wrapped_on(name, pipeline(quick_retry(), plain_breaker(), Bulkhead(3)), fails)
    with pytest.raises(KeyError) as caught:
        await wrapped("here")
    names = [frame.name for frame in frames_of(caught.value)]
    assert 1 == names.count("fails")
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


# ------------------------------------------------------------------------------ debuggers


class Debugger(bdb.Bdb):
    """Stops at breakpoints, notes where, and goes on; at the first it makes some steps."""

    def __init__(self, steps: int = 0) -> None:
        super().__init__()
        self.stops: list[tuple[str, int, str]] = []
        self._steps = steps

    def user_line(self, frame: Any) -> None:
        file, number = frame.f_code.co_filename, frame.f_lineno
        if not self.stops and not self.break_here(frame):
            self.set_continue()
            return
        self.stops.append((file, number, linecache.getline(file, number).strip()))
        if len(self.stops) <= self._steps:
            self.set_step()
        else:
            self.set_continue()


def line_with(made: Any, text: str) -> int:
    return next(number for number, line in enumerate(lines_of(made), 1) if text in line)


def stops_of(debugger: Debugger, made: Any, text: str) -> list[tuple[str, int, str]]:
    """Where it stops while *made* runs once with a breakpoint on the line that has *text*."""
    linecache.checkcache()
    refused = debugger.set_break(made.__code__.co_filename, line_with(made, text))
    assert refused is None

    async def main() -> Any:
        return await made("a")

    measuring = sys.gettrace()
    try:
        assert ("a", "EUR") == debugger.runcall(asyncio.run, main())
    finally:
        sys.settrace(measuring)  # the debugger leaves none, and coverage would end here
        debugger.clear_all_breaks()
    return debugger.stops


def test_a_breakpoint_in_the_lane_stops_there():
    """
    Issue 7.1: it is accepted, reached, and the debugger knows the line; `linecache.checkcache` does not forget it.
    """
    wrapped = wrapped_on("express", guard(), price)
    assert has_lane(wrapped)
    ((file, _, line),) = stops_of(Debugger(), wrapped, f"await {LANE}fn(")
    assert wrapped.__code__.co_filename == file
    assert f"{LANE}result = await {LANE}fn(item, currency=currency)" == line


def test_who_steps_through_the_lane_sees_its_lines():
    """
    Issue 7.1: from the breakpoint on, line by line, into the callee and back.
    """
    wrapped = wrapped_on("express", pipeline(plain_breaker(), Bulkhead(3)), price)
    stops = stops_of(Debugger(steps=12), wrapped, f"await {LANE}fn(")
    assert all(line for _, _, line in stops)
    seen = [line for _, _, line in stops]
    assert "return item, currency" in seen
    assert any(line.endswith("successes += 1") for line in seen)
    assert f"return {LANE}result" in seen


def test_a_breakpoint_where_no_line_is_is_refused():
    """
    A control: the debugger looks the line up.
    """
    wrapped = wrapped_on("express", guard(), price)
    file = wrapped.__code__.co_filename
    assert Debugger().set_break(file, len(lines_of(wrapped)) + 1)
    assert Debugger().set_break("<resilience express 0>", 1)
