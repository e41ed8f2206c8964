"""
`p.wrap(fn)`: the same for good, with the signature, name and docs of the function, and what it refuses.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from unittest.mock import AsyncMock

import pytest

from resilience import (
    Call,
    FullJitter,
    Pipeline,
    Retry,
)

retry = Retry(3, on=OSError, wait=FullJitter(0, 0))


async def lookup(sku: str, /, size: int = 1, *rest: int, fresh: bool = False, **more: str) -> tuple:
    """Looks it up."""
    return sku, size, rest, fresh, more


class Shop:
    """A service with methods."""

    @retry.wrap
    async def find(self, sku: str) -> tuple:
        return self, sku

    @classmethod
    @retry.wrap
    async def of(cls, sku: str) -> tuple:
        return cls, sku

    @staticmethod
    @retry.wrap
    async def plain(sku: str) -> str:
        return sku

    @retry.informed
    async def attempt(self, call: Call, sku: str) -> tuple:
        return self, call.attempt, sku

    async def __call__(self, sku: str) -> str:
        return sku


@pytest.fixture(params=["pipeline", "policy"])
def guarded(request):
    return Pipeline(retry) if request.param == "pipeline" else retry


async def test_a_wrapped_function_keeps_its_signature(backend, guarded):
    """
    api.md: `wrap` gives a coroutine function with the exact signature, name and docs.
    """
    wrapped = guarded.wrap(lookup)
    assert inspect.iscoroutinefunction(wrapped)
    assert inspect.signature(lookup) == inspect.signature(wrapped)
    assert ("lookup", "Looks it up.") == (wrapped.__name__, wrapped.__doc__)
    assert ("a", 2, (3,), True, {"x": "y"}) == await wrapped("a", 2, 3, fresh=True, x="y")
    assert (await wrapped("a"))[1] == 1


async def test_methods_of_every_kind_are_wrapped(backend):
    """
    api.md: methods included; `wrap` stands below classmethod and staticmethod.
    """
    shop = Shop()
    assert (shop, "a") == await shop.find("a")
    assert (shop, "a") == await Shop.find(shop, "a")
    assert (Shop, "a") == await Shop.of("a")
    assert "a" == await Shop.plain("a")
    assert (shop, 1, "a") == await shop.attempt("a")
    assert ["self", "sku"] == list(inspect.signature(Shop.attempt).parameters)


@pytest.mark.parametrize(
    "fn",
    [functools.partial(lookup, "a"), Shop(), AsyncMock(return_value=("a",))],
    ids=["partial", "object", "mock"],
)
async def test_callables_without_a_name_are_wrapped(backend, guarded, fn):
    """
    api.md: `wrap` takes partials and callable objects.
    """
    arguments = () if isinstance(fn, functools.partial) else ("a",)
    assert "a" == (await guarded.wrap(fn)(*arguments))[0]


async def rows() -> AsyncIterator[int]:
    yield 1


@asynccontextmanager
async def connect(value: int = 1) -> AsyncIterator[int]:
    yield value


def plain(sku: str) -> str:
    return sku


def future(sku: str) -> Awaitable[str]:
    return Shop()(sku)


@pytest.mark.parametrize("door", ["wrap", "informed"])
@pytest.mark.parametrize(
    ("fn", "hint"),
    [
        (rows, r"use p\.stream\(rows\)"),
        (connect, r"use p\.opening\(connect\)"),
        (classmethod(lookup), r"put @p\.wrap below @classmethod"),
        (staticmethod(lookup), r"put @p\.wrap below @staticmethod"),
        (plain, r"nobody can tell whether plain .* await p\(plain, \.\.\.\)"),
        (len, "nobody can tell whether len"),
        (5, "a callable that returns an awaitable is needed, got int"),
    ],
    ids=["generator", "manager", "classmethod", "staticmethod", "plain", "builtin", "number"],
)
def test_what_cannot_be_wrapped_is_refused_with_the_right_spelling(guarded, door, fn, hint):
    """
    api.md, H17: refused when decorated, in words that name the spelling that works.
    """
    with pytest.raises(TypeError, match=hint):
        getattr(guarded, door)(fn)


async def test_a_plain_function_that_says_it_returns_an_awaitable_is_wrapped(backend, guarded):
    """
    api.md: a plain function is undecidable only if its annotation says nothing.
    """
    assert "a" == await guarded.wrap(future)("a")
