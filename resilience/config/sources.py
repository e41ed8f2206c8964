"""
Where settings come from: TOML files, mappings, the environment; each becomes one layer of plain data.

Size and depth are bounded before anything is looked at more closely, and what is no data (a function, an object) is a
mistake. Of the environment nothing is shown but names.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path as File
from typing import Any, TypeAlias, final

import attrs

from resilience.config.lines import lines_of
from resilience.config.mistakes import InvalidConfigError, Mistake, Mistakes, Path

__all__ = ["LARGEST", "Layer", "Source", "environment_layer", "layer_of", "normal"]

Source: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any]"
"""The path of a TOML file, or a mapping of the same shape."""

LARGEST = 1_000_000
"""Bytes of a file."""
DEEPEST = 16
"""Tables and arrays in one another."""
_MOST = 100_000
"""Values in one layer."""
_LONGEST_KEY = 200


@final
@attrs.frozen
class Layer:
    """
    One source, as plain data.

    Attributes:
        name: The file, or ``mapping`` or ``environment``.
        data: Tables, arrays, texts, numbers, booleans, None and durations; nothing else.
        lines: The line of each path, where the source has lines.
    """

    name: str
    data: dict[str, Any]
    lines: Mapping[Path, int]

    def place(self, path: Path) -> tuple[str, int | None]:
        """The name, and the line of *path*, or of the nearest table around it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.name, self.lines[path[:length]]
        return self.name, None


def layer_of(source: Source) -> Layer:
    """
    Read one source.

    Raises:
        InvalidConfigError: it cannot be read, is no TOML, too large or too deep, or holds what is no data.
    """
    if isinstance(source, Mapping):
        return _checked("mapping", source, {})
    name = _path_text(source)
    text = _text_of(source, name)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = _line_in(str(error))
        raise _one(name, "valid TOML", _reason(str(error)), line) from None
    except (RecursionError, ValueError):
        raise _one(
            name, f"at most {DEEPEST} tables and arrays deep", "one that is deeper"
        ) from None
    return _checked(name, data, lines_of(text, data))


def _path_text(source: Any) -> str:
    try:
        return os.fsdecode(os.fspath(source))
    except TypeError:
        raise _one(
            "configuration", "the path of a TOML file, or a mapping", f"a {type(source).__name__}"
        ) from None


def _text_of(source: Any, name: str) -> str:
    try:
        with File(source).open("rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = type(error).__name__
        raise _one(name, "a file that can be read", reason) from None
    if len(content) > LARGEST:
        raise _one(name, f"at most {LARGEST} bytes long", "a longer one")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise _one(name, "UTF-8", "other bytes") from None


def _one(source: str, allowed: str, got: str, line: int | None = None) -> InvalidConfigError:
    return InvalidConfigError([Mistake("the file", got, allowed, source, line)])


_AT = re.compile(r"\(at (?:line (\d+), column \d+|end of document)\)")


def _line_in(text: str) -> int | None:
    found = _AT.search(text)
    return int(found[1]) if found and found[1] else None


def _reason(text: str) -> str:
    # The words are tomllib's own; a key or a character that it quotes is the user's.
    return re.sub(r"(['\"]).*?\1", "...", _AT.sub("", text)).strip()[:80]


def _checked(name: str, data: Mapping[str, Any], lines: Mapping[Path, int]) -> Layer:
    layer = Layer(name, {}, lines)
    mistakes = Mistakes(layer.place)
    plain = _Plain(mistakes).table(data, ())
    mistakes.raise_if_any()
    return attrs.evolve(layer, data=plain)


class _Plain:
    """Copies data, so that nothing of the user's is asked again, and refuses what is none."""

    def __init__(self, mistakes: Mistakes) -> None:
        self.mistakes = mistakes
        self.left = _MOST

    def table(self, value: Mapping[Any, Any], path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        try:
            items = [*value.items()]
        except Exception as error:  # noqa: BLE001 - the mapping is the user's
            self.mistakes.add(
                path,
                value,
                "a mapping that can be read",
                got=f"one that raises {type(error).__name__}",
            )
            return found
        for key, each in items:
            if not isinstance(key, str) or len(key) > _LONGEST_KEY:
                self.mistakes.add(path, key, f"a table whose keys are texts of at most {_LONGEST_KEY} characters",
                                  got="another key")  # fmt: skip
            else:
                found[str(key)] = self.value(each, (*path, str(key)))
        return found

    def value(self, value: Any, path: Path) -> Any:  # noqa: PLR0911 - one for each kind
        self.left -= 1
        if self.left == 0:
            self.mistakes.add(path, None, f"one of at most {_MOST} values", got="one more")
        if self.left <= 0:
            return None
        if isinstance(value, Mapping | list | tuple):
            if len(path) >= DEEPEST:
                self.mistakes.add(
                    path, None, f"at most {DEEPEST} tables and arrays deep", got="a deeper one"
                )
                return None
            if isinstance(value, Mapping):
                return self.table(value, path)
            return [self.value(each, (*path, place)) for place, each in enumerate(value)]
        if isinstance(value, float):
            return float(value)
        if value is None or type(value) in {str, int, bool, timedelta}:
            return value
        self.mistakes.add(path, None, "data: text, number, true or false, array or table",
                          got=f"a {type(value).__name__}")  # fmt: skip
        return None


# ------------------------------------------------------------------------------------------- the environment


def normal(name: str) -> str:
    """A name as it stands in a variable: ``my-service.db`` is ``MY_SERVICE_DB``."""
    return re.sub(r"[^A-Z0-9]+", "_", name.upper())


def environment_layer(
    environ: Mapping[str, str],
    prefix: str,
    resolve: Callable[[list[str]], Iterable[str | int] | None],
) -> Layer:
    """
    The layer of variables such as ``RESILIENCE__BREAKERS__CATALOGUE__BREAK_DURATION=5s``.

    Args:
        resolve: The path that the parts of a name mean, or None.

    Raises:
        InvalidConfigError: a name that means nothing.
    """
    data: dict[str, Any] = {}
    mistakes = Mistakes(lambda _: ("environment", None))
    for variable in sorted(environ):
        parts = variable.split("__")
        if parts[0] != prefix or len(parts) < 2:  # noqa: PLR2004 - the prefix, and something
            continue
        path = resolve(parts[1:])
        if path is None:
            mistakes.add(
                (variable,), None, "a variable that names a setting", got="one that names none"
            )
            continue
        _put(data, tuple(path), _value_of(environ[variable]))
    mistakes.raise_if_any()
    return _checked("environment", data, {})


def _put(data: dict[str, Any], path: Path, value: Any) -> None:
    *above, last = path
    for key in above:
        data = data.setdefault(str(key), {})
    data[str(last)] = value


def _value_of(text: str) -> Any:
    """A TOML value if it is one, else the text itself."""
    try:
        found = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return text
    value = found["value"]
    # A line break in the text would begin another key.
    plain = len(found) == 1 and not (isinstance(value, float) and not math.isfinite(value))
    return value if plain else text
