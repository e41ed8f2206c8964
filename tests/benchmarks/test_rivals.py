"""
A rival is measured only if its adapter behaves; the check that says so must find adapters that do not.
"""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
import pytest

from benchmarks.report import found_version
from benchmarks.rivals import (
    OURS,
    RIVALS,
    Adapter,
    Breaker,
    Function,
    Missing,
    Rival,
    Settings,
    load,
)
from benchmarks.rivals.behaviour import problems_of
from benchmarks.rivals.mixes import ByHand, mixes
from benchmarks.rivals.ours import ADAPTER as OURS_ADAPTER


def loaded(rival: Rival) -> Adapter:
    """The adapter; the test is skipped where the rival, or the version it was written for, is not there."""
    found = found_version(rival.distribution)
    if rival is not OURS and found != rival.version:
        pytest.skip(f"{rival.name} {rival.version} is not installed (found: {found})")
    adapter = load(rival)
    if isinstance(adapter, Missing):
        pytest.skip(f"{rival.name}: {adapter.reason}")
    return adapter


@pytest.mark.filterwarnings("ignore")  # what a rival warns of is not ours to mend
@pytest.mark.parametrize("rival", [OURS, *RIVALS], ids=lambda rival: rival.name)
def test_every_adapter_behaves(rival):
    """
    Each adapter passes calls, opens, rejects, retries three attempts and cuts: equal settings are equal.
    """
    assert [] == asyncio.run(problems_of(loaded(rival)))


@pytest.mark.filterwarnings("ignore")
def test_every_mix_behaves():
    """
    The stacks that users put together, and the one written by hand, pass the same check.
    """

    async def found() -> dict[str, list[str]]:
        return {name: await problems_of(adapter) for name, adapter in mixes().items()}

    problems = asyncio.run(found())

    assert "one frame by hand with asyncio.timeout" in problems
    assert [] == [each for every in problems.values() for each in every]


class _Wrapper(Breaker):
    """Ours, with one fault."""

    def __init__(self, inner: Breaker, fault: str) -> None:
        self.inner = inner
        self.fault = fault

    def wrap(self, fn: Function) -> Function:
        guarded = self.inner.wrap(fn)
        if self.fault != "calls the function all the same":
            return guarded

        async def leaking(*args: Any) -> Any:
            try:
                return await guarded(*args)
            except OURS_ADAPTER.rejected:
                await fn(*args)
                raise

        return leaking

    def state(self) -> str:
        return "closed" if self.fault == "says closed" else self.inner.state()

    def failures(self) -> int:
        return self.inner.failures()


class _Faulty(OURS_ADAPTER):
    def __init__(self, fault: str) -> None:
        self.fault = fault
        if fault == "another rejection":
            self.rejected = (KeyError,)

    def breaker(self, settings, listener=None):
        if self.fault == "opens late":
            settings = attrs.evolve(settings, failures=settings.failures + 2)
        if self.fault == "never opens":
            settings = attrs.evolve(settings, kind="consecutive", failures=10**6)
        return _Wrapper(super().breaker(settings, listener), self.fault)

    def retry(self, fn, settings):
        if self.fault == "one attempt too many":
            settings = attrs.evolve(settings, attempts=settings.attempts + 1)
        if self.fault == "retries everything":
            settings = attrs.evolve(settings, on=(Exception,))
        return super().retry(fn, settings)

    def timeout(self, fn, settings):
        if self.fault == "never cuts":
            return fn if settings.seconds > 1 else super().timeout(_hurried(fn), Settings())
        return super().timeout(fn, settings)

    def layers(self, fn, settings):
        if self.fault == "layers without a breaker":
            return self.retry(self.timeout(fn, settings), settings)
        if self.fault == "layers without a timeout":
            return self.retry(self.breaker(settings).wrap(_hurried(fn)), settings)
        return super().layers(fn, settings)


def _hurried(fn: Function) -> Function:
    """*fn* that comes back with an answer although it was not cut."""

    async def call(*args: Any) -> Any:
        try:
            async with asyncio.timeout(0.1):
                return await fn(*args)
        except TimeoutError:
            return args[0]

    return call


@pytest.mark.parametrize(
    ("fault", "part"),
    [
        ("another rejection", "breaker"),
        ("calls the function all the same", "breaker"),
        ("layers without a breaker", "layers"),
        ("layers without a timeout", "layers"),
        ("never cuts", "timeout"),
        ("never opens", "breaker"),
        ("one attempt too many", "retry"),
        ("opens late", "breaker"),
        ("retries everything", "retry"),
        ("says closed", "breaker"),
    ],
)
def test_the_check_finds_a_faulty_adapter(fault, part):
    """
    An adapter with one fault is named with the part that has it, so it cannot be measured by mistake.
    """
    problems = asyncio.run(problems_of(_Faulty(fault)))

    assert any(each.startswith(part) for each in problems), problems


def test_a_rival_that_is_not_installed_is_named_with_the_reason():
    """
    A rival that cannot be had is a line in the table, never a silent gap.
    """
    absent = Rival("resilience-that-does-not-exist", "1.0", "ours")

    assert Missing(absent, "not installed") == load(absent)


def test_a_rival_without_a_part_is_not_asked_for_it():
    """
    ``has`` tells the parts a library has; the three layers need all of them, or a way of its own.
    """
    only = type("Only", (Adapter,), {"retry": lambda self, fn, settings: fn})()

    assert [True, False, False, False] == [
        only.has(part) for part in ("retry", "breaker", "timeout", "layers")
    ]
    assert ByHand().has("layers")
    assert not ByHand().has("breaker")
