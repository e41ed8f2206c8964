"""
Whether two configurations are the same, without making an object of the second.

Making it would take the name of the first one, and warn. Classes in ``on`` and ``ignore`` are compared as sets;
tenacity's objects, which know no equality, by class and attributes; other functions by identity.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import attrs

from resilience.doors import Policy
from resilience.errors import ConfigurationError, brief
from resilience.loaded import loaded
from resilience.pipeline import Pipeline

__all__ = ["alike", "options_of", "shown_pipeline", "sketch"]

P = TypeVar("P", bound=Policy[Any])


def options_of(policy: Policy[Any]) -> dict[str, Any]:
    """What it was made with, defaults included."""
    kind: Any = type(policy)
    return {each.name: getattr(policy, each.name) for each in attrs.fields(kind) if each.init}


def sketch(kind: type[P], options: Mapping[str, Any], base: Mapping[str, Any]) -> P:
    """
    A *kind* with these options, converted and checked, that was never brought to life: for comparing and showing.

    What *options* leave out is as in *base*, or the default.

    Raises:
        ConfigurationError: an option that is not allowed.
        TypeError: an option that does not exist, or one that is missing.
    """
    fields: Any = {each.name: each for each in attrs.fields(kind) if each.init}  # type: ignore[arg-type]  # attrs' own class
    for name in options:
        if name not in fields:
            raise TypeError(f"{kind.__name__} has no option {name!r}; it has {', '.join(fields)}")
    drawn = object.__new__(kind)
    for name, field in fields.items():
        if name in options:
            value = options[name]
            if field.converter is not None:
                value = field.converter(value)
        elif name in base:
            value = base[name]
        elif field.default is attrs.NOTHING:
            raise TypeError(f"{kind.__name__} needs {name}=")
        else:
            value = field.default
            if isinstance(value, attrs.Factory):  # type: ignore[arg-type]  # a class, whatever its stub says
                value = value.factory()
            if field.converter is not None:
                value = field.converter(value)
        object.__setattr__(drawn, name, value)
    attrs.validate(drawn)  # type: ignore[arg-type]  # (as above)
    return drawn


def alike(one: object, other: object) -> bool:  # noqa: PLR0911 - one line for each kind of value
    """Whether two values of an option mean the same."""
    if one is other or _equal(one, other):
        return True
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if _classes(one) and _classes(other):
        return _classes(one) == _classes(other)
    if isinstance(one, Pipeline) and isinstance(other, Pipeline):
        return _alike_each(one.policies, other.policies) and one.name == other.name
    if isinstance(one, Policy) and isinstance(other, Policy):
        if type(one) is not type(other) or not attrs.has(type(one)):
            return False
        # One that holds state is equal to itself alone.
        return not _has_state(one) and alike(options_of(one), options_of(other))
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return _alike_each(one, other)
    return type(one) is type(other) and _of_tenacity(one) and alike(vars(one), vars(other))


def _equal(one: object, other: object) -> bool:
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # noqa: BLE001 - the values are the user's, and so is their equality
        return False


def _alike_each(some: Iterable[object], others: Iterable[object]) -> bool:
    some, others = [*some], [*others]
    return len(some) == len(others) and all(map(alike, some, others))


def _classes(value: object) -> frozenset[type] | None:
    given = value if isinstance(value, tuple) else (value,)
    kinds = frozenset(each for each in given if inspect.isclass(each))
    return kinds if given and all(map(inspect.isclass, given)) else None


def _has_state(policy: Policy[Any]) -> bool:
    return type(policy).__eq__ is object.__eq__


def _of_tenacity(value: object) -> bool:
    return loaded("tenacity") is not None and type(value).__module__.split(".")[0] == "tenacity"


def shown_pipeline(policies: Iterable[object], name: str) -> str:
    """A pipeline as it would be written."""
    return f"Pipeline({', '.join([*map(repr, policies), f'name={name!r}'])})"


def conflict(where: str, asked: str, existing: str) -> ConfigurationError:
    """The error for a name that is taken by another configuration: it shows both."""
    return ConfigurationError(where, got=asked, allowed=f"as it is registered, {existing}")


def named(name: str, domain: str | None) -> str:
    """How errors name an entry."""
    return f"Registry[{brief(name if domain is None else (domain, name))}]"
