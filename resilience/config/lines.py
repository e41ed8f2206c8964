"""
Where each key of a TOML document stands: `tomllib` reads the values and says nothing of lines.

The scanner below walks a text that tomllib has accepted, so it need not judge, only follow. Its paths are then
compared with what tomllib read; should they differ, no line is given at all: none is better than a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from resilience.config.mistakes import Path

__all__ = ["lines_of"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BASIC = re.compile(r'"((?:[^"\\]|\\.)*)"')
_LITERAL = re.compile(r"'([^']*)'")
_LONG_BASIC = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}(?!")', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''.*?'{3,5}(?!')", re.DOTALL)
_SCALAR = re.compile(r"[^,\]}\s#]+(?: [0-9][0-9:.+Zz-]*)?")
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_SIMPLE = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


def lines_of(text: str, document: dict[str, Any]) -> dict[Path, int]:
    """The line, from 1, of each key and each element of *document*, which tomllib read from *text*."""
    try:
        found = _Scanner(text.replace("\r\n", "\n")).scan()
    except (
        AttributeError,
        IndexError,
        KeyError,
        RecursionError,
    ):  # pragma: no cover - not TOML as we know it
        return {}
    return found if set(found) == set(_paths(document)) else {}


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _paths(each, (*path, key))
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from _paths(each, (*path, place))


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self.sizes: dict[Path, int] = {}

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        self.skip(_BLANK)
        while self.at < len(self.text):
            if self.text.startswith("[[", self.at):
                self.at += 2
                *front, last = self.keys()
                above = self.resolved(tuple(front))
                self.note((*above, last))
                place = self.sizes.get((*above, last), 0)
                self.sizes[(*above, last)] = place + 1
                table = (*above, last, place)
                self.note(table)
                self.at = self.text.index("]]", self.at) + 2
            elif self.text[self.at] == "[":
                self.at += 1
                table = self.resolved(tuple(self.keys()))
                self.at = self.text.index("]", self.at) + 1
            else:
                self.pair(table)
            self.skip(_BLANK)
        return self.lines

    def note(self, path: Path) -> None:
        if path not in self.lines:
            self.lines[path] = self.text.count("\n", 0, self.at) + 1

    def resolved(self, keys: tuple[str, ...]) -> Path:
        """A header's keys as a path: a key that is an array of tables means its last element."""
        path: Path = ()
        for key in keys:
            path = (*path, key)
            self.note(path)
            if path in self.sizes:
                path = (*path, self.sizes[path] - 1)
        return path

    def skip(self, what: re.Pattern[str]) -> None:
        self.at = what.match(self.text, self.at).end()  # type: ignore[union-attr]  # it matches nothing, too

    def take(self, what: re.Pattern[str]) -> re.Match[str]:
        found = what.match(self.text, self.at)
        self.at = found.end()  # type: ignore[union-attr]  # the caller catches it
        return found  # type: ignore[return-value]  # (as above)

    def keys(self) -> list[str]:
        """A dotted key."""
        found: list[str] = []
        while True:
            self.skip(_SPACE)
            found.append(self.key())
            self.skip(_SPACE)
            if self.text[self.at] != ".":
                return found
            self.at += 1

    def key(self) -> str:
        match self.text[self.at]:
            case '"':
                return _ESCAPE.sub(_unescaped, self.take(_BASIC)[1])
            case "'":
                return self.take(_LITERAL)[1]
            case _:
                return self.take(_BARE)[0]

    def pair(self, table: Path) -> None:
        """``key = value``; the key's line is that of its first character."""
        path = table
        for key in self.keys():
            path = (*path, key)
            self.note(path)
        self.at += 1  # the sign
        self.skip(_SPACE)
        self.value(path)

    def value(self, path: Path) -> None:
        text, at = self.text, self.at
        match text[at]:
            case "[":
                self.at += 1
                self.array(path)
            case "{":
                self.at += 1
                self.inline(path)
            case '"':
                self.take(_LONG_BASIC if text.startswith('"""', at) else _BASIC)
            case "'":
                self.take(_LONG_LITERAL if text.startswith("'''", at) else _LITERAL)
            case _:
                self.take(_SCALAR)

    def array(self, path: Path) -> None:
        place = 0
        self.skip(_BLANK)
        while self.text[self.at] != "]":
            self.note((*path, place))
            self.value((*path, place))
            place += 1
            self.skip(_BLANK)
            if self.text[self.at] == ",":
                self.at += 1
                self.skip(_BLANK)
        self.at += 1

    def inline(self, path: Path) -> None:
        self.skip(_BLANK)
        while self.text[self.at] != "}":
            self.pair(path)
            self.skip(_BLANK)
            if self.text[self.at] == ",":
                self.at += 1
                self.skip(_BLANK)
        self.at += 1


def _unescaped(found: re.Match[str]) -> str:
    text = found[1]
    return chr(int(text[1:], 16)) if text[0] in "uU" else _SIMPLE[text]
