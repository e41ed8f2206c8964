"""
Faults to be planted in the code while it runs: each file here is one, and says whose it is.

A fault is an edit of one function's source, as small as it can be; the function is compiled anew and stands in the
place of the real one while the fault is planted. So it stays a fault of *this* code: where the code changes and
an edit no longer fits, planting it fails instead of proving nothing.
"""

from __future__ import annotations
import __future__

import contextlib
import importlib
import inspect
import linecache
import pkgutil
import sys
import textwrap
import types
from collections.abc import Iterator
from typing import Any

import attrs

__all__ = ["Edit", "Fault", "faults"]


class Stale(AssertionError):  # noqa: N818 - says what the edit is
    """An edit that does not fit the code any more."""


@attrs.frozen
class Edit:
    """
    In the source of one function, *old* becomes *new*.

    ``target`` is ``module:name`` or ``module:Class.method``, without the package; a property stands for its getter.
    """

    target: str
    old: str
    new: str

    @contextlib.contextmanager
    def made(self) -> Iterator[None]:
        path, _, name = self.target.partition(":")
        module = importlib.import_module(f"resilience.{path}")
        owner_name, _, attribute = name.rpartition(".")
        owner: Any = getattr(module, owner_name) if owner_name else module
        before = inspect.getattr_static(owner, attribute)
        after = self._compiled(before, attribute, module)
        places = [owner] if owner_name else _modules_with(attribute, before)
        for place in places:
            setattr(place, attribute, after)
        try:
            yield
        finally:
            for place in places:
                setattr(place, attribute, before)

    def _compiled(self, before: Any, name: str, module: types.ModuleType) -> Any:
        source = inspect.getsource(before.fget if isinstance(before, property) else before)
        if source.count(self.old) != 1:
            times = source.count(self.old)
            raise Stale(f"{self.target} has {self.old!r} {times} times; renew the fault")
        changed = textwrap.dedent(source.replace(self.old, self.new))
        place = f"<fault in {self.target}>"
        linecache.cache[place] = len(changed), None, changed.splitlines(keepends=True), place
        code = compile(
            changed, place, "exec", __future__.annotations.compiler_flag, dont_inherit=True
        )
        made: dict[str, Any] = {}
        exec(code, vars(module), made)  # noqa: S102 - the project's own source
        return made[name]


def _modules_with(name: str, value: object) -> list[Any]:
    """Every module of the package that took this function by name."""
    return [
        module
        for path, module in list(sys.modules.items())
        if path.partition(".")[0] == "resilience" and vars(module).get(name) is value
    ]


@attrs.frozen
class Fault:
    """
    One of them.

    Attributes:
        name: The file's.
        of: The rivals in which it was observed, or the hazard or trap that it is.
        observed: Whether it is a rival's, seen at work.
        edits: What is changed.
    """

    name: str
    of: str
    observed: bool
    edits: tuple[Edit, ...]

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for edit in self.edits:
                stack.enter_context(edit.made())
            yield


def faults() -> list[Fault]:
    """All of them, by name."""
    found: list[Fault] = []
    for each in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{each.name}")
        rivals: str = getattr(module, "RIVALS", "")
        found.append(Fault(each.name, rivals or module.HAZARD, bool(rivals), module.EDITS))
    return found
