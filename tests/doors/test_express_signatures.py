"""
What is wrapped takes arguments as the function itself does, on both engines.

The lane and the linked door are written as text for each signature, and the text must not show.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import types
from typing import Any

import pytest
import tenacity

from resilience import Pipeline, Retry, Timeout
from resilience._fronts import LANE
from resilience.testing import Script, engine, run
from tests.doors.kit import pipeline, plain_breaker
from tests.doors.lanes import ENGINES, by_hand, cells, has_lane, quick_retry, unwrapped, wrapped_on
from tests.doors.test_express_shapes import LANES

DEFAULT: list[object] = []


async def nothing():
    return locals()


async def one(a):
    return locals()


async def default(a, b=DEFAULT):
    return locals()


async def named(a, *, b, c=DEFAULT):
    return locals()


async def all_named(*, a=1, b):
    return locals()


async def positional(a, b=DEFAULT, /):
    return locals()


async def partly_positional(a, /, b, c=3, *, d=DEFAULT):
    return locals()


async def rest(*args):
    return locals()


async def named_after_rest(a, *args, b, c=DEFAULT):
    return locals()


async def more(**kwargs):
    return locals()


async def same_name_in_more(a, /, **b):
    return locals()


async def everything(a, b=DEFAULT, /, c=3, *args, d, e=DEFAULT, **kwargs):
    return locals()


FUNCTIONS = [
    nothing, one, default, named, all_named, positional, partly_positional, rest, named_after_rest,
    more, same_name_in_more, everything,
]  # fmt: skip
CALLS = [
    (tuple(range(count)), dict.fromkeys(names, "k"))
    for count in range(5)
    for names in itertools.chain.from_iterable(
        itertools.combinations("abcdez", size) for size in range(5)
    )
]


def guard() -> Pipeline:
    return pipeline(quick_retry(), plain_breaker())


def answer(fn: Any, args: Any, kwargs: Any) -> Any:
    """What the call comes to; a refusal must come before there is a coroutine."""
    try:
        coroutine = fn(*args, **kwargs)
    except TypeError as error:
        return str(error)
    return by_hand(coroutine)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda fn: fn.__name__)
def test_arguments_arrive_or_are_refused_as_by_the_function_itself(name, fn):
    """
    Issue 7.1: the exact signature; a wrong call is the function's own TypeError, at the call, word for word.
    """
    wrapped = wrapped_on(name, guard(), fn)
    for args, kwargs in CALLS:
        assert answer(fn, args, kwargs) == answer(wrapped, args, kwargs), (args, kwargs)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda fn: fn.__name__)
def test_the_second_attempt_gets_the_arguments_of_the_first(name, fn):
    """
    Issue 7.1: what a failing call packs up for the linked steps is what it was called with.
    """
    script = Script(OSError, lambda got: got)
    namespace: dict[str, Any] = {"script": script, "DEFAULT": DEFAULT}
    written = str(inspect.signature(fn)).replace("[]", "DEFAULT")
    exec(f"async def flaky{written}:\n    return await script(locals())", namespace)  # noqa: S102 - any signature
    wrapped = wrapped_on(name, guard(), namespace["flaky"])

    async def story() -> None:
        for args, kwargs in CALLS:
            expected = answer(fn, args, kwargs)
            if not isinstance(expected, str):
                script.history.clear()
                assert expected == await wrapped(*args, **kwargs)
                assert [(expected,), (expected,)] == [call.args for call in script.history]

    run(story)


@pytest.mark.parametrize("name", ENGINES)
def test_a_mutable_default_is_the_functions_own(name):
    """
    Trap 8: defaults are passed as objects, never by their repr.
    """
    wrapped = wrapped_on(name, guard(), everything)
    got = by_hand(wrapped(1, d=2))
    assert got["b"] is DEFAULT
    assert got["e"] is DEFAULT
    assert inspect.signature(everything) == inspect.signature(wrapped)
    assert inspect.signature(everything) == inspect.signature(wrapped, follow_wrapped=False)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda fn: fn.__name__)
def test_it_looks_like_the_function(name, fn):
    """
    api.md: signature, name, docs, annotations, and the function itself below; it is a coroutine function.
    """
    wrapped = wrapped_on(name, guard(), fn)
    assert inspect.signature(fn) == inspect.signature(wrapped)
    assert inspect.signature(fn) == inspect.signature(wrapped, follow_wrapped=False)
    assert fn is wrapped.__wrapped__
    assert (fn.__name__, fn.__qualname__, fn.__module__) == (
        wrapped.__name__,
        wrapped.__qualname__,
        wrapped.__module__,
    )
    assert inspect.iscoroutinefunction(wrapped)
    assert inspect.getsource(fn) == inspect.getsource(wrapped)


class Shop:
    """Methods of every kind."""

    async def find(self, a, b=DEFAULT, *, c=3):
        return self, a, b, c

    async def bound_in_rest(*args, c=3):
        return args, c

    async def positional(self, a, /, b=2):
        return self, a, b

    async def alone(self, /):
        return self

    async def defaulted(self=None, a=1):
        return self, a

    async def __call__(self, a):
        return self, a


@pytest.mark.parametrize("name", ENGINES)
def test_bound_methods_are_wrapped_without_their_first_parameter(name):
    """
    Issue 7.1: a bound method has its lane, too, and a wrong call of it is refused at the call.
    """
    shop = Shop()
    find = wrapped_on(name, guard(), shop.find)
    assert (shop, 1, DEFAULT, 3) == by_hand(find(1))
    assert (shop, 1, 2, 4) == by_hand(find(1, b=2, c=4))
    assert ["a", "b", "c"] == list(inspect.signature(find).parameters)
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'a'"):
        find()

    wrapped = functools.partial(wrapped_on, name, guard())
    assert ((shop, 1, 2), 4) == by_hand(wrapped(shop.bound_in_rest)(1, 2, c=4))
    assert (shop, 1, 2) == by_hand(wrapped(shop.positional)(1))
    assert (shop, 1, 3) == by_hand(wrapped(shop.positional)(1, b=3))
    with pytest.raises(TypeError):
        wrapped(shop.positional)(a=1)
    assert shop is by_hand(wrapped(shop.alone)())
    assert (shop, 1) == by_hand(wrapped(shop.defaulted)())
    assert (shop, 2) == by_hand(wrapped(shop.defaulted)(2))
    assert (shop, 1) == by_hand(wrapped(shop)(1))
    assert (shop, 1) == by_hand(wrapped(shop.__call__)(1))


@pytest.mark.parametrize("name", ENGINES)
def test_methods_are_wrapped_where_they_are_defined(name):
    """
    api.md: methods, class methods and static methods, with `wrap` below the other decorator.
    """
    with engine(name):
        gate = guard()

        class Store:
            @gate.wrap
            async def method(self, __secret, b=2):  # noqa: PYI063 - mangled
                return self, __secret, b

            @classmethod
            @gate.wrap
            async def of(cls, a, /, *rest):
                return cls, a, rest

            @staticmethod
            @gate.wrap
            async def static(*, a):
                return a

    class Branch(Store):
        pass

    store = Branch()
    assert (store, 1, 2) == by_hand(store.method(1))
    assert (store, 1, 3) == by_hand(store.method(_Store__secret=1, b=3))
    assert (Branch, 1, (2,)) == by_hand(store.of(1, 2))
    assert 5 == by_hand(Store.static(a=5))


@pytest.mark.parametrize("name", ENGINES)
def test_other_callables_are_asked_with_what_was_passed(name):
    """
    api.md: partials, callable objects, and functions that a decorator has wrapped.
    """
    gate = guard()

    @functools.wraps(everything)
    async def decorated(*args, **kwargs):
        return args, kwargs

    wrapped = wrapped_on(name, gate, decorated)
    assert ((1, 2), {"x": 3}) == by_hand(wrapped(1, 2, x=3))
    assert inspect.signature(everything) == inspect.signature(wrapped)

    partial = functools.partial(everything, 1, d=4)
    got = by_hand(wrapped_on(name, gate, partial)(2, 3, e=5))
    assert (1, 2, 3, 4, 5) == tuple(got[each] for each in "abcde")
    assert "everything" == by_hand(wrapped_on(name, gate, Script("everything"))(1))

    async def twice(a):
        return a

    assert 1 == by_hand(wrapped_on(name, gate, wrapped_on(name, guard(), twice))(1))


# ------------------------------------------------------------------------------ names


def _names_of(code: types.CodeType) -> set[str]:
    """Every name that stands in a text: variables of any kind, globals and attributes."""
    names = {*code.co_varnames, *code.co_freevars, *code.co_cellvars, *code.co_names, code.co_name}
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            names |= _names_of(each)
    return names


def names_in_the_texts() -> list[str]:
    """With the prefix and without, of every role and of the door."""
    found: set[str] = set()
    for make in LANES.values():
        for name in ENGINES:
            found |= _names_of(wrapped_on(name, make(), one).__code__)
    found |= {each.removeprefix(LANE) for each in found}
    found |= {each.rstrip("0123456789") for each in found}
    return sorted(each for each in found if each.isidentifier())


def test_the_names_are_found():
    """
    A control: the names below are those of the texts.
    """
    found = names_in_the_texts()
    assert {"fn", "task", "loop", "held", "BaseException", "KeyError", f"{LANE}fn"} <= {*found}
    assert len(found) > 100


@pytest.mark.parametrize("name", ENGINES)
def test_a_parameter_may_have_any_name_that_the_texts_have(name):
    """
    Trap 8: a parameter called like a variable of the lane, or like a builtin it uses, is the callee's all the same.
    """

    async def story() -> None:
        for each in names_in_the_texts():
            for form in ("{0}", "{0}, /", "*, {0}", "*{0}", "**{0}", "x=0, *{0}, y=1"):
                await _passes(name, each, form.format(each))

    run(story)


def _callee(parameters: str, body: str, **names: Any) -> Any:
    """A function with any parameters."""
    exec(f"async def callee({parameters}):\n    {body}", names)  # noqa: S102 - any name
    return names["callee"]


async def _passes(name: Any, parameter: str, written: str) -> None:
    """In the lane, in a second attempt, as a failure, and where a cut was swallowed."""
    other = "script" if parameter != "script" else "program"
    script = Script(OSError, 1, 2, ConnectionError)
    body = f"return await {other}(), {parameter}"
    gate = pipeline(Timeout(20), quick_retry(attempts=2), plain_breaker(9), Timeout(5))
    wrapped = wrapped_on(name, gate, _callee(written, body, **{other: script}))
    if written.startswith("**"):
        args, kwargs, got = (), {"k": 1}, {"k": 1}
    elif written.startswith("*, "):
        args, kwargs, got = (), {parameter: 5}, 5
    elif "*" in written:
        args, kwargs, got = (5, 6), {}, (6,) if written.startswith("x") else (5, 6)
    else:
        args, kwargs, got = (5,), {}, 5
    assert (1, got) == await wrapped(*args, **kwargs)
    assert (2, got) == await wrapped(*args, **kwargs)
    with pytest.raises(ConnectionError):
        await wrapped(*args, **kwargs)
    body = f"await {other}(); return {parameter}"
    cut = wrapped_on(name, Timeout(1), _callee(written, body, **{other: _until_cut}))
    assert got == await cut(*args, **kwargs)


async def _until_cut() -> None:
    try:
        await asyncio.sleep(5)
    except asyncio.CancelledError:
        return


async def test_a_parameter_with_the_prefix_is_taken_as_any_other(backend):
    """
    Trap 8: where a parameter has the impossible prefix, the text names none; the rest works as always.
    """
    callee = _callee(
        f"{LANE}task, /, {LANE}fn=2, *, {LANE}args=3", f"return {LANE}task, {LANE}fn, {LANE}args"
    )
    wrapped = wrapped_on("express", Pipeline(Timeout(9), quick_retry()), callee)
    assert has_lane(wrapped)
    assert (1, 2, 3) == await wrapped(1)
    assert (1, 4, 5) == await wrapped(1, 4, **{f"{LANE}args": 5})
    with pytest.raises(TypeError):
        await wrapped()


# ------------------------------------------------------------------------------ as passed


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("door", ["wrap", "call"])
async def test_a_strategy_sees_the_arguments_as_they_were_passed(backend, name, door):
    """
    Law 28: tenacity's state has ``fn``, ``args`` and ``kwargs`` as tenacity has them, and no defaults among them.
    """
    seen: list[Any] = []

    def note(state: Any) -> bool:
        seen.append((state.fn, state.args, state.kwargs))
        return state.attempt_number >= 2

    async def callee(a, b=2, *rest, c=3, **more):
        raise ConnectionError

    with engine(name):
        gate = Retry(on=OSError, stop=note, wait=tenacity.wait_none())
        call = gate.wrap(callee) if door == "wrap" else functools.partial(gate, callee)
    with engine(name), pytest.raises(ConnectionError):
        await call(1, c=4)
    with engine(name), pytest.raises(ConnectionError):
        await call(b=5, a=6)
    assert 2 * [(callee, (1,), {"c": 4})] + 2 * [(callee, (), {"b": 5, "a": 6})] == seen


@pytest.mark.parametrize("door", ["wrap", "call"])
def test_a_key_sees_the_arguments_as_they_were_passed(door):
    """
    api.md: ``key`` is called with a call's arguments, and finds no default among them.
    """
    gate = pipeline(
        Timeout(9), quick_retry(), plain_breaker(), key=lambda *args, **kwargs: (args, kwargs)
    )

    async def callee(a, b=2):
        """Not called."""

    with engine("express"):
        made = gate.wrap(callee) if door == "wrap" else unwrapped(gate)
    assert has_lane(made)
    assert made.__code__.co_flags & inspect.CO_VARARGS
    assert made.__code__.co_flags & inspect.CO_VARKEYWORDS
    call_of = cells(made)["call_of"].cell_contents
    assert ((1,), {"b": 3}) == call_of(callee, (1,), {"b": 3}).key


@pytest.mark.parametrize("name", ENGINES)
def test_a_method_and_its_function_are_two_signatures(name):
    """
    Issue 7.1: what was written for the one is not taken for the other.
    """
    shop = Shop()
    assert (shop, 1, DEFAULT, 3) == by_hand(wrapped_on(name, guard(), Shop.find)(shop, 1))
    assert (shop, 1, DEFAULT, 3) == by_hand(wrapped_on(name, guard(), shop.find)(1))
    assert (shop, 2, DEFAULT, 3) == by_hand(wrapped_on(name, guard(), Shop.find)(shop, 2))
