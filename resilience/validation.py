"""
One place where a setting is judged, once, at construction.

Each validator carries the rules it enforces with a value that breaks each of them, so that a test can walk every field
of every option and prove that the error names the field, what it got and what is allowed.
"""

from __future__ import annotations

import functools
import math
import random
import types
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Literal, NamedTuple, final

import attrs

from resilience.clock import CallableClock, Clock, ProcessClock
from resilience.errors import ConfigurationError, brief
from resilience.strategies import is_asynchronous

__all__ = [
    "BY_TYPE",
    "Allowed",
    "Shape",
    "as_clock",
    "as_optional_seconds",
    "as_seconds",
    "by_type",
    "check",
    "clock",
    "count",
    "duration",
    "flag",
    "in_seconds",
    "instance",
    "is_function",
    "key",
    "name",
    "number",
    "one_of",
    "ratio",
    "refuse",
    "rng",
    "spelled",
]


def refuse(field: str, value: object, allowed: str) -> ConfigurationError:
    """The one error for bad input."""
    return ConfigurationError(field, got=brief(value), allowed=allowed)


class Shape(NamedTuple):
    """
    What a validator takes, as data, for those who read values from files and describe them to others.

    Attributes:
        kind: ``seconds``, ``count``, ``number``, ``ratio``, ``flag`` or ``name``.
        none: None is taken as well.
        low, high: Of a count or a number.
        zero: Of seconds: 0 is taken.
    """

    kind: Literal["seconds", "count", "number", "ratio", "flag", "name"]
    none: bool = False
    low: float = 1
    high: float = 10**9
    zero: bool = False


@final
class Allowed:
    """
    An attrs validator that knows how to be broken.

    Args:
        text: What is allowed, in words with units; the error's ending.
        accepts: Says whether a value is allowed; never raises.
        breaches: Rule -> a value that breaks it.
        shape: The same as data, where it is one of the usual kinds.
    """

    __slots__ = ("accepts", "breaches", "shape", "text")

    def __init__(
        self,
        text: str,
        accepts: Callable[[Any], bool],
        breaches: Mapping[str, object],
        shape: Shape | None = None,
    ) -> None:
        self.text: str = text
        self.accepts: Callable[[Any], bool] = accepts
        self.breaches: Mapping[str, object] = breaches
        self.shape: Shape | None = shape

    def __call__(self, owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not self.accepts(value):
            path = f"{type(owner).__name__}.{attribute.name.lstrip('_')}"
            raise refuse(path, value, self.text)


def in_seconds(value: object) -> Any:
    """``timedelta`` and numbers as ``float`` seconds; the rest is left for a validator to judge."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return value
    return value


# Converters, whose types are the constructor's: a duration at the door.
def as_seconds(value: float | timedelta) -> float:
    """A duration."""
    return in_seconds(value)  # type: ignore[no-any-return]


def as_optional_seconds(value: float | timedelta | None) -> float | None:
    """A duration or None."""
    return in_seconds(value)  # type: ignore[no-any-return]


def as_clock(value: Clock | Callable[[], float] | None) -> Clock | None:
    """A bare ``now`` function becomes a clock."""
    given: Any = value
    if not is_function(value) or hasattr(value, "now"):
        return given  # type: ignore[no-any-return]
    return CallableClock(given)


def is_function(value: object) -> bool:
    """Whether *value* can be asked here and now: callable, no class and not async."""
    return callable(value) and not isinstance(value, type) and not is_asynchronous(value)


_NOT_NUMBERS: Mapping[str, object] = {"text": "5", "boolean": True, "not a number": math.nan}


def duration(*, zero: bool = False, none: bool = False, function: bool = False) -> Allowed:
    """Seconds: finite, above 0 (or from 0 with *zero*); None or a function where the field says so."""

    def accepts(value: object) -> bool:
        if value is None:
            return none
        if function and is_function(value):
            return True
        return type(value) is float and (0.0 <= value if zero else 0.0 < value) and value < math.inf

    text = f"seconds {'>=' if zero else '>'} 0 (a finite number or a timedelta)"
    breaches = dict(_NOT_NUMBERS)
    breaches |= {"infinite": math.inf, "negative": -1.0, "beyond a float": 10**400}
    if not zero:
        breaches["zero"] = 0.0
    if none:
        text += ", or None"
    else:
        breaches["none"] = None
    if function:
        text += ", or a function, not async"
        breaches |= {"class": float, "async function": _an_async_function}
    return Allowed(text, accepts, breaches, Shape("seconds", none=none, zero=zero))


async def _an_async_function(
    *_: object,
) -> float:  # pragma: no cover - a value to be refused, never called
    return 1.0


def count(*, low: int = 1, high: int = 10**9, none: bool = False) -> Allowed:
    """A whole number from *low* to *high*; None where the field says so."""

    def accepts(value: object) -> bool:
        if isinstance(value, int) and not isinstance(value, bool):
            return low <= value <= high
        return none and value is None

    breaches: dict[str, object] = {"text": "3", "boolean": True, "fraction": low + 0.5}
    breaches |= {"negative": -1, "below": low - 1, "above": high + 1}
    if not none:
        breaches["none"] = None
    text = f"a whole number >= {low}, at most {high:,}" + (", or None" if none else "")
    return Allowed(text, accepts, breaches, Shape("count", none=none, low=low, high=high))


def number(low: float, high: float) -> Allowed:
    """Any number from *low* to *high*."""

    def accepts(value: object) -> bool:
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        )

    breaches = dict(_NOT_NUMBERS)
    breaches |= {"none": None, "below": low - 0.5, "above": high + 0.5, "infinite": math.inf}
    shape = Shape("number", low=low, high=high)
    return Allowed(f"a number from {low:g} to {high:g}", accepts, breaches, shape)


def ratio() -> Allowed:
    """A share in (0, 1]."""

    def accepts(value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1

    breaches = dict(_NOT_NUMBERS)
    breaches |= {"none": None, "zero": 0.0, "negative": -0.5, "above one": 1.01, "percent": 50}
    return Allowed("a ratio in (0, 1]", accepts, breaches, Shape("ratio"))


def flag() -> Allowed:
    """True or False, nothing that only looks like it."""
    return Allowed(
        "True or False",
        lambda value: type(value) is bool,
        {"none": None, "number": 1, "text": "yes"},
        Shape("flag"),
    )


def name(*, none: bool = False) -> Allowed:
    """A name for logs and metrics: 1 to 256 printable characters."""

    def accepts(value: object) -> bool:
        if value is None:
            return none
        return isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable()  # noqa: PLR2004

    breaches: dict[str, object] = {
        "number": 7,
        "bytes": b"name",
        "empty": "",
        "long": "x" * 257,
        "line break": "a\nb",
    }
    if not none:
        breaches["none"] = None
    text = "a name of 1 to 256 printable characters" + (", or None" if none else "")
    return Allowed(text, accepts, breaches, Shape("name", none=none))


def instance(kinds: type | tuple[type, ...], text: str, *, none: bool = False) -> Allowed:
    """An object of one of these classes."""

    def accepts(value: object) -> bool:
        return none if value is None else isinstance(value, kinds)

    breaches: dict[str, object] = {"text": "x", "number": 30}
    breaches["class"] = kinds[0] if isinstance(kinds, tuple) else kinds
    if not none:
        breaches["none"] = None
    return Allowed(text + (", or None" if none else ""), accepts, breaches)


def one_of(text: str, accepts: Callable[[Any], bool], breaches: Mapping[str, object]) -> Allowed:
    """Anything else: the rule as a function, with the values that break it."""
    return Allowed(text, accepts, breaches)


def _hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def key() -> Allowed:
    """None, a hashable value, or a function of the call's arguments."""
    return Allowed(
        "None, a hashable value or a function of the call's arguments, not async",
        lambda value: (
            value is None or (not is_asynchronous(value) and (callable(value) or _hashable(value)))
        ),
        {
            "list": [],
            "mapping": {},
            "list inside": ("tenant", []),
            "async": _an_async_function,
        },
    )


def clock() -> Allowed:
    """None, an object with ``now()``, or a function that returns seconds."""
    return Allowed(
        "None, a function that returns monotonic seconds, or an object with now(), not async",
        lambda value: (
            value is None
            or (isinstance(value, Clock) and not isinstance(value, type) and is_function(value.now))
        ),
        {
            "number": 12.0,
            "text": "monotonic",
            "class": ProcessClock,
            "async function": _an_async_function,
        },
    )


def rng() -> Allowed:
    """None or an object with ``random()``."""
    return Allowed(
        "None or an object with random(), such as random.Random()",
        lambda value: (
            value is None
            or (callable(getattr(value, "random", None)) and not isinstance(value, type))
        ),
        {"number": 4, "text": "seed", "class": random.Random, "function": random.random},
    )


def check(path: str, value: object, allowed: Allowed) -> None:
    """The same judgement for what is no attrs field."""
    if not allowed.accepts(value):
        raise refuse(path, value, allowed.text)


BY_TYPE: Mapping[str, bool] = {"by_type": True}
"""Metadata of a field that holds what calls will return or raise: its repr tells no more than the type."""

_PLAIN: tuple[object, ...] = (None, True, False, "", b"", (), [], {}, set(), frozenset())


def by_type(value: object) -> str:
    """How a value is written that calls will return or raise: what is in it is told only where nothing is."""
    if any(type(value) is type(plain) and value == plain for plain in _PLAIN):
        return repr(value)
    if isinstance(value, (type, types.FunctionType, types.MethodType)):
        return value.__qualname__
    return f"<{type(value).__name__}>"


def spelled(value: object, *, name: str | None = None, first: str | None = None) -> str:
    """
    How a policy was written: the first field bare, the others by name, defaults left out.

    Args:
        value: The policy.
        name: In the place of its class.
        first: In the place of its first field.
    """
    kind: Any = type(value)
    parts: list[str] = [] if first is None else [first]
    for each in _fields(kind)[len(parts) :]:
        given = getattr(value, each.name)
        if each.kw_only:
            if given is not each.default and _differ(given, each.default):
                parts.append(f"{each.name}={each.shown(given)}")
        elif given is not None:
            parts.append(_spelled(given))
    return f"{name or kind.__name__}({', '.join(parts)})"


class _Field(NamedTuple):
    name: str
    kw_only: bool
    default: object
    shown: Callable[[Any], str]


@functools.cache
def _fields(kind: Any) -> tuple[_Field, ...]:
    """The fields of a policy's class that its constructor takes."""
    return tuple(
        _Field(
            each.name,
            bool(each.kw_only),
            each.default.factory() if hasattr(each.default, "factory") else each.default,
            by_type if "by_type" in each.metadata else _spelled,
        )
        for each in attrs.fields(kind)
        if each.init
    )


def _differ(one: object, other: object) -> bool:
    """Whether they are not equal, for values of the user's whose equality raises: they do."""
    try:
        return bool(one != other)
    except Exception:  # noqa: BLE001 - the value is the user's, and so is its equality
        return True


def _spelled(value: object) -> str:
    if isinstance(value, tuple):
        inside = ", ".join(map(_spelled, value))
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, (type, types.FunctionType, types.MethodType)):
        return value.__qualname__
    return repr(value) if attrs.has(type(value)) else brief(value, 200)
