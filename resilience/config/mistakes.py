"""
What is wrong with a configuration: all of it at once, each with its path, its file and line.

A value is shown only where showing it cannot tell a secret: numbers, booleans, and texts that are nearly what is
allowed. Of any other text, and of everything under a key that nobody knows, only what kind of thing it is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias, final

import attrs

from resilience.errors import ConfigurationError

__all__ = ["InvalidConfigError", "Mistake", "Mistakes", "Path", "nearest", "shown", "written"]

Path: TypeAlias = "tuple[str | int, ...]"
"""Where a value stands: keys, and indexes of arrays."""

_HARMLESS = re.compile(r"-?[0-9][0-9_.]{0,15} ?[a-zA-Zµ]{0,12}")


def written(path: Path) -> str:
    """``pipelines.catalogue.policies[1].seconds``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{_bare(part)}" if text else _bare(part)
    return text or "the whole"


def _bare(key: str) -> str:
    """A key as it may be shown: short, on one line."""
    text = "".join(each if each.isprintable() else "?" for each in key)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - a line has an end


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known spelling that was probably meant."""
    found = difflib.get_close_matches(word.lower()[:100], [*known], n=1, cutoff=0.6)
    return found[0] if found else None


def shown(value: object, known: Iterable[str] = ()) -> str:
    """A value as an error may show it."""
    if value is None or isinstance(value, bool | int | float):
        text = (
            repr(value)
            if not isinstance(value, int) or abs(value) < 10**30
            else "a very large number"
        )
        return text if len(text) <= 40 else text[:37] + "..."  # noqa: PLR2004 - a line has an end
    if isinstance(value, str):
        if value == "" or _HARMLESS.fullmatch(value) or (known and nearest(value, known)):
            return repr(value[:40])
        return f"a text of {len(value)} characters"
    if isinstance(value, list | tuple):
        return f"an array of {len(value)}"
    if isinstance(value, dict):
        return f"a table of {len(value)}"
    return f"a {type(value).__name__}"


@final
@attrs.frozen
class Mistake:
    """
    One thing that is wrong.

    Attributes:
        path: Where, such as ``pipelines.catalogue.policies[1].seconds``.
        got: What stands there, as far as it may be shown.
        allowed: What may stand there.
        source: File, or a word for where the value came from.
        line: Of the file, from 1; None where it has no lines.
        hint: The nearest spelling, or None.
    """

    path: str
    got: str
    allowed: str
    source: str
    line: int | None = None
    hint: str | None = None

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        hint = f"; did you mean {self.hint!r}?" if self.hint else ""
        return f"{place}: {self.path} must be {self.allowed}, got {self.got}{hint}"


class InvalidConfigError(ConfigurationError):
    """
    A configuration with mistakes, all of them.

    Attributes:
        mistakes: Each `Mistake`, in the order in which they stand. ``field``, ``got`` and ``allowed`` are of the first.
    """

    def __init__(self, mistakes: Sequence[Mistake] = ()) -> None:
        first = mistakes[0] if mistakes else Mistake("", "", "", "")
        super().__init__(first.path, got=first.got, allowed=first.allowed)
        self.mistakes: tuple[Mistake, ...] = tuple(mistakes)

    def __str__(self) -> str:
        count = len(self.mistakes)
        head = "one mistake" if count == 1 else f"{count} mistakes"
        return "\n  ".join([f"{head} in the configuration:", *map(str, self.mistakes)])


@final
class Mistakes:
    """Collects them while a document is read."""

    def __init__(self, place: Callable[[Path], tuple[str, int | None]]) -> None:
        self._place = place
        self.found: list[Mistake] = []

    def add(
        self,
        path: Path,
        value: object,
        allowed: str,
        hint: str | None = None,
        got: str | None = None,
    ) -> None:
        """One more, found at *path*."""
        source, line = self._place(path)
        text = shown(value) if got is None else got
        self.found.append(Mistake(written(path), text, allowed, source, line, hint))

    def refused(self, path: Path, error: ConfigurationError) -> None:
        """What a constructor says about values that were fine one by one."""
        source, line = self._place(path)
        self.found.append(Mistake(written(path), error.got, error.allowed, source, line))

    def raise_if_any(self) -> None:
        """All of them as one error."""
        if self.found:
            raise InvalidConfigError(self.found)
