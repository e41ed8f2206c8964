"""
The libraries this one is compared with, each behind one small adapter with equal settings.

An adapter is measured only after it passed `benchmarks.rivals.behaviour`: a rival set up wrongly would be fast.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Literal

import attrs

from benchmarks.report import found_version

__all__ = [
    "OURS",
    "RIVALS",
    "Adapter",
    "Breaker",
    "Function",
    "Kind",
    "Missing",
    "Rival",
    "Settings",
    "load",
]

Function = Callable[..., Awaitable[Any]]
Kind = Literal["consecutive", "count", "time"]
Hook = Callable[..., object]


@attrs.frozen(kw_only=True)
class Settings:
    """
    What every contender is set to, in its own words.

    Attributes:
        failures: Failing calls, with none that succeed between, that open the circuit.
        kind: How they are counted: in a row, or as a rate (0.5) of a window.
        window: Calls or seconds in that window.
        break_seconds: How long the circuit stays open.
        probes: Calls that may try at once while it is half-open.
        successes: Successful ones that close it.
        attempts: Attempts of a retry, the first one included; no wait between them.
        seconds: The timeout.
        on: What counts as a failure, and is retried.
        ignore: What is neither a failure nor a success, where there is such a thing.
    """

    failures: int = 5
    kind: Kind = "consecutive"
    window: int = 100
    break_seconds: float = 30.0
    probes: int = 1
    successes: int = 1
    attempts: int = 3
    seconds: float = 5.0
    on: tuple[type[Exception], ...] = (ConnectionError, TimeoutError)
    ignore: tuple[type[Exception], ...] = (ValueError,)


class Breaker(ABC):
    """One circuit breaker."""

    @abstractmethod
    def wrap(self, fn: Function) -> Function:
        """*fn*, guarded."""

    @abstractmethod
    def state(self) -> str:
        """``closed``, ``open`` or ``half-open``."""

    @abstractmethod
    def failures(self) -> int:
        """Failing calls it has counted since it closed."""

    def calls(self) -> int | None:
        """All calls it has counted, where it counts successes too."""
        return None

    def open(self) -> bool:
        """Open it by hand; False where there is no such thing."""
        return False

    def reset(self) -> bool:
        """Close it by hand; False where there is no such thing, or nobody needs it here."""
        return False


class Adapter:
    """
    One library.

    Attributes:
        rejected: What it raises in the place of a call.
        timed_out: What it raises when its timeout cuts a call off.
        kinds: The ways its breaker can count; the first is its default.
        ignores: Its breaker can be told that an error says nothing about the dependency.
        listens: Its breaker has listeners.
        counts_successes: Several successes can be asked for before it closes.
        on_trio: Its breaker, retry and timeout run on trio.
    """

    rejected: ClassVar[tuple[type[Exception], ...]] = ()
    timed_out: ClassVar[tuple[type[Exception], ...]] = (TimeoutError,)
    kinds: ClassVar[tuple[Kind, ...]] = ()
    ignores: ClassVar[bool] = True
    listens: ClassVar[bool] = True
    counts_successes: ClassVar[bool] = True
    on_trio: ClassVar[bool] = False

    def breaker(self, settings: Settings, listener: Hook | None = None) -> Breaker:
        raise NotImplementedError

    def retry(self, fn: Function, settings: Settings) -> Function:
        raise NotImplementedError

    def timeout(self, fn: Function, settings: Settings) -> Function:
        raise NotImplementedError

    def layers(self, fn: Function, settings: Settings) -> Function:
        """Retry around breaker around timeout, as the library's own documentation composes them."""
        return self.retry(self.breaker(settings).wrap(self.timeout(fn, settings)), settings)

    def has(self, part: Literal["breaker", "retry", "timeout", "layers"]) -> bool:
        """Whether the library has this part."""
        if part == "layers" and type(self).layers is Adapter.layers:
            return all(self.has(each) for each in ("breaker", "retry", "timeout"))
        return getattr(type(self), part) is not getattr(Adapter, part)


@attrs.frozen
class Rival:
    """
    A library.

    Attributes:
        distribution: Its name on PyPI.
        version: The version its adapter was written for; None for our own.
        module: The adapter's module in this package.
        imports: What its user imports for the three layers, or for as many of them as it has.
    """

    distribution: str
    version: str | None
    module: str
    imports: str = attrs.field(default=attrs.Factory(lambda self: self.module, takes_self=True))

    @property
    def name(self) -> str:
        return "resilience" if self.version is None else self.distribution


@attrs.frozen
class Missing:
    """A rival that cannot be measured here, and why."""

    rival: Rival
    reason: str


OURS = Rival("resilience-anyio", None, "ours", "resilience")
RIVALS = (
    Rival("nopanic", "0.3.0", "nopanic"),
    Rival("interlock-cb", "2.8.2", "interlock", "interlock, interlock.integrations.tenacity"),
    Rival("pyresilience", "0.4.1", "pyresilience"),
    Rival("resilix", "1.1.0", "resilix"),
    Rival("purgatory", "3.0.1", "purgatory"),
    Rival("aiobreaker", "1.2.0", "aiobreaker"),
    Rival("circuitbreaker", "2.1.3", "circuitbreaker"),
    Rival("hyx", "0.0.2", "hyx", "hyx.retry, hyx.circuitbreaker, hyx.timeout"),
    Rival("tenacity", "9.2.1", "tenacity"),
    Rival("stamina", "26.1.0", "stamina"),
)


def load(rival: Rival) -> Adapter | Missing:
    """The adapter, or why there is none."""
    if rival.version is not None and found_version(rival.distribution) is None:
        return Missing(rival, "not installed")
    try:
        module = importlib.import_module(f"benchmarks.rivals.{rival.module}")
    except ImportError as error:
        return Missing(rival, f"cannot be imported: {error}")
    made: Adapter = module.ADAPTER()
    return made
