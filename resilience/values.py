"""
Frozen values whose classes cost nearly nothing to make: events, snapshots, findings.

attrs writes and compiles source for every class when the class is made, and an import that makes forty classes, of
which a process may never have an object, pays half of its time for that. Here attrs is asked when a class makes its
first object, or when somebody asks attrs itself about it: ``fields``, ``asdict``, ``evolve`` and ``has`` work.
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, Self, dataclass_transform

import attrs
from attrs.exceptions import FrozenInstanceError

__all__ = ["Value"]


class _Fields:
    """``__attrs_attrs__`` of a class, which attrs looks for."""

    def __get__(self, _: object, owner: type[Value]) -> Any:
        return attrs.fields(owner._by_attrs())  # noqa: SLF001 - the class this is for


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Value:
    """A frozen value: each annotation of a class is a field, and equal are two of one class with equal fields."""

    __attrs_attrs__: ClassVar[Any] = _Fields()
    __match_args__: ClassVar[tuple[str, ...]] = ()
    _names: ClassVar[tuple[str, ...]] = ()
    _made: ClassVar[Any]

    def __init_subclass__(cls, *, kw_only: bool = True) -> None:
        super().__init_subclass__()
        own = (name for name, kind in cls.__annotations__.items() if "ClassVar" not in str(kind))
        cls._names = tuple(dict.fromkeys((*cls._names, *own)))
        cls.__match_args__ = () if kw_only else cls._names  # type: ignore[misc]  # mypy sets it itself
        for base in cls.__mro__[1:]:
            # What took the place of `__init__` there knows nothing of the fields here.
            made = vars(base).get("_made")
            if made is not None and vars(base).get("__init__") is made.__init__:
                del base.__init__  # type: ignore[misc]  # of the class itself

    @classmethod
    def _by_attrs(cls) -> Any:
        """A class of attrs with these fields."""
        if "_made" not in vars(cls):
            kw_only = not cls.__match_args__
            fields = {
                name: attrs.field(default=getattr(cls, name, attrs.NOTHING), kw_only=kw_only)
                for name in cls._names
            }
            cls._made = attrs.make_class(
                cls.__name__, fields, frozen=True, slots=False, eq=False, repr=False
            )
        return cls._made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kind, made = type(self), self._by_attrs().__init__
        if kind.__init__ is Value.__init__ and not kind.__subclasses__():
            kind.__init__ = made  # type: ignore[method-assign]  # the next object comes by here no more
        made(self, *args, **kwargs)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise FrozenInstanceError

    def __delattr__(self, name: str) -> NoReturn:
        raise FrozenInstanceError

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self._names])

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={self._shown(name)}" for name in self._names)
        return f"{type(self).__qualname__}({shown})"

    def _shown(self, name: str) -> str:
        """How a field is written in the repr."""
        return repr(getattr(self, name))

    def __replace__(self, **changes: Any) -> Self:
        return type(self)(**dict(zip(self._names, self._values(), strict=True)) | changes)
