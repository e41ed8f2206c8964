"""
`@p` and `@breaker` as bare decorators would run the function once and leave a coroutine in its place: they are refused.

It is told by the instruction before the call, so the calls that look alike are here too: none of them is refused, not
under a tracer either.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilience import Pipeline, Timeout
from tests.doors.kit import GUARDS, breaker

p = Timeout(60)
guard = breaker()


def _trace(frame: types.FrameType, event: str, argument: Any) -> Any:
    frame.f_lineno  # noqa: B018 - as a debugger looks
    return _trace


def _trace_everything(frame: types.FrameType, event: str, argument: Any) -> Any:
    frame.f_trace_opcodes = True
    return _trace_everything


TRACERS = {"none": None, "lines": _trace, "opcodes": _trace_everything}


@pytest.fixture(params=TRACERS)
def tracer(request: pytest.FixtureRequest) -> Iterator[str]:
    """With a tracer as coverage and debuggers install one, and without."""
    before = sys.gettrace()
    if TRACERS[request.param] is not None:
        sys.settrace(TRACERS[request.param])
    try:
        yield request.param
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("name", GUARDS)
def test_a_function_is_refused_with_the_right_spelling(name):
    """Api, Doors: ``use @p.wrap``, for pipelines and for policies on their own."""
    guarded = GUARDS[name]()

    with pytest.raises(
        TypeError, match=r"use @p\.wrap, not @p: a pipeline called with lookup runs it"
    ):

        @guarded
        async def lookup(sku: str) -> str:
            """With arguments."""
            return sku


def test_functions_of_every_shape_are_refused(tracer):
    """Api, Doors: defaults, closures, annotations, a plain function, a method, and one inside of another."""
    outside = "outside"

    with pytest.raises(TypeError, match=r"use @p\.wrap"):

        @p
        async def without() -> None: ...

    with pytest.raises(TypeError, match=r"use @p\.wrap"):

        @p
        async def defaults(a: int = 1, /, b: int = 2, *, c: int = 3) -> None: ...

    with pytest.raises(TypeError, match=r"use @p\.wrap"):

        @p
        async def closure() -> str:
            return outside

    with pytest.raises(TypeError, match=r"use @p\.wrap"):

        @guard
        def plain() -> Any:
            return asyncio.sleep(0)

    with pytest.raises(TypeError, match=r"use @p\.wrap"):

        class Shop:
            @p
            async def find(self, sku: str) -> str:
                return sku

    def make() -> None:
        @p
        async def inner() -> None: ...

    with pytest.raises(TypeError, match=r"use @p\.wrap, not @p: a pipeline called with inner"):
        make()


def test_one_of_several_decorators_is_refused(tracer):
    """Api, Doors: next to the function it is seen; above another decorator nobody can tell it from a call."""
    with pytest.raises(TypeError, match=r"use @p\.wrap"):

        @functools.lru_cache
        @p
        async def lookup() -> None: ...


def test_at_the_top_of_a_module_it_is_refused():
    """Api, Doors: where decorators usually stand."""
    module = "@p\nasync def lookup(sku): ...\n"

    with pytest.raises(TypeError, match=r"use @p\.wrap"):
        exec(compile(module, "shop.py", "exec"), {"p": p})  # noqa: S102 - a module


async def _answer() -> str:
    return "answer"


def _made() -> Callable[[], Any]:
    async def made() -> str:
        return "answer"

    return made


async def _called_with_one_made_elsewhere() -> list[Any]:
    async def nested() -> str:
        return "answer"

    outside = "answer"

    async def closure() -> str:
        return outside

    functions = [nested, closure]
    answers = [
        await p(nested),
        await p(closure),
        await p(functions[0]),
        await p(functions.pop()),
    ]
    del functions
    answers.append(await p(nested))

    async def at_once() -> str:
        return "answer"

    answers.append(await p(at_once))
    coroutine = p(at_once)
    answers.append(await coroutine)
    return answers


async def _called_with_what_was_just_made() -> list[Any]:
    return [
        await p(_made()),
        await p(lambda: _answer()),  # noqa: PLW0108 - a lambda is what this is about
        await p((lambda make: make())(_made)),  # noqa: PLC3002 - made by a lambda in place
        await p(functools.partial(_answer)),
        await p(functools.partial(_made())),
        await p(_made() or _made()),
        await p({"a": _made()}["a"]),
        await p([_made()][0]),
        await p(_made() if p else _answer),
        await p(*[_made()]),
        await p(_answer),
        await p(Answer().answer),
        await p(Answer()),
        await p(types.FunctionType(_answer.__code__, globals())),
    ]


class Answer:
    async def answer(self) -> str:
        return "answer"

    async def __call__(self) -> str:
        return "answer"


async def _with_arguments() -> list[Any]:
    async def echo(value: str) -> str:
        return value

    return [await p(echo, "answer"), await p(echo, value="answer")]


async def _in_comprehensions_and_branches() -> list[Any]:
    answers = [await p(fn) for fn in (_made(), _made())]
    for attempt in range(2):

        async def looped(number: int = attempt) -> str:
            return "answer"

        answers.append(await p(looped))
    if (walrus := _made()) is not None:
        answers.append(await p(walrus))
    with_walrus = await p(again := _made())
    answers.append(with_walrus)
    assert again is not None
    return answers


@pytest.mark.parametrize(
    "calls",
    [
        _called_with_one_made_elsewhere,
        _called_with_what_was_just_made,
        _with_arguments,
        _in_comprehensions_and_branches,
    ],
)
def test_an_ordinary_call_is_not_refused(calls, tracer):
    """Api, Doors: functions, lambdas, partials, factories and nested functions are called, whoever looks on."""
    answers = asyncio.run(calls())

    assert ["answer"] * len(answers) == answers
    assert len(answers) >= 2


def test_a_call_from_c_is_not_refused(tracer):
    """Api, Doors: where no Python frame called the pipeline, the one around it is no decorator."""

    async def main() -> list[str]:
        return [await coroutine for coroutine in map(p, [_made(), _made()])]

    assert ["answer", "answer"] == asyncio.run(main())
    assert "answer" == asyncio.run(functools.partial(p, _made())())


def test_a_function_with_arguments_of_its_own_needs_no_guessing():
    """Only a call with nothing but a function can be a decorator."""

    async def needs(_: str) -> None: ...

    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        asyncio.run(p(needs))


def test_an_old_reference_is_enough_to_be_called():
    """A function somebody keeps has been decorated already, or is called: the bytecode is not even read."""
    kept = []

    async def keep() -> str:
        return "answer"

    kept.append(keep)

    assert "answer" == asyncio.run(Pipeline()(keep))
