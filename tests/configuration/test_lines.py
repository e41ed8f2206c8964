"""
Issue 4.2: the line of every key of a TOML file, soundly: the paths are those that tomllib reads, or none are given.
"""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience.config.lines import lines_of

DOCUMENT = '''\
# a comment = "with signs" [and] {brackets}
'literal "key"' = 0
title = "a # that is no comment"
"quoted key" = 'single # too'
a.b.c = 1 # dotted
long = """
[not.a.table]
x = "1"
"""
other = \'\'\'
[[nor.this]]
\'\'\'
array = [
  1, # one
  "two, ]",
  [3, 4],
  { in = "line", "k" = [5] },
]

[table]
key = 1979-05-27 07:32:00
"\\u0041\\n" = true
[table.sub]
value = -inf
[[many]]
name = "first"
[[many.parts]]
p = 1
[[many.parts]]
p = 2
[[many]]
name = "second"
  [ many.head ]
  h = {}
'''


def test_every_key_has_its_line():
    """
    Comments, dotted and quoted keys, long texts, arrays, inline tables, arrays of tables.
    """
    found = lines_of(DOCUMENT, tomllib.loads(DOCUMENT))
    lines = DOCUMENT.split("\n")

    assert {
        ('literal "key"',): 2,
        ("title",): 3, ("quoted key",): 4, ("a",): 5, ("a", "b", "c"): 5, ("long",): 6, ("other",): 10, ("array",): 13,
        ("array", 0): 14, ("array", 1): 15, ("array", 2): 16, ("array", 2, 1): 16, ("array", 3, "in"): 17,
        ("array", 3, "k", 0): 17, ("table",): 20, ("table", "key"): 21, ("table", "A\n"): 22, ("table", "sub"): 23,
        ("table", "sub", "value"): 24, ("many",): 25, ("many", 0): 25, ("many", 0, "name"): 26,
        ("many", 0, "parts", 0): 27, ("many", 0, "parts", 0, "p"): 28, ("many", 0, "parts", 1, "p"): 30,
        ("many", 1): 31, ("many", 1, "name"): 32, ("many", 1, "head"): 33, ("many", 1, "head", "h"): 34,
    }.items() <= found.items()  # fmt: skip
    for path, line in found.items():
        last = path[-1]
        if isinstance(last, str) and last.isalnum() and last != "A\n":
            assert last in lines[line - 1], path


KEYS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=4)
SCALARS = (
    st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.dates()
    | st.datetimes()
    | st.times()
)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def _key(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{_key(key)} = {_inline(each)}" for key, each in value.items()) + " }"
        )
    if isinstance(value, list):
        return "[\n  # a comment ]\n" + "".join(f"  {_inline(each)},\n" for each in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        if "'" not in value and value.isprintable():
            return f"'''\n{value}'''" if len(value) % 2 else f"'{value}'"
        return _key(value)
    if isinstance(value, int | float):
        return repr(value)
    return value.isoformat()


@given(
    st.dictionaries(
        KEYS,
        PLAIN | st.lists(st.dictionaries(KEYS, PLAIN, max_size=2), min_size=1, max_size=3),
        max_size=4,
    )
)
@settings(max_examples=200, deadline=None)
def test_any_document(document):
    """
    Property: whatever tomllib accepts, every path has a line, and on that line stands the key.
    """
    parts = []
    for key, value in document.items():
        if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            continue
        parts.append(f"{_key(key)} = {_inline(value)}")
    for key, value in document.items():
        if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            for each in value:
                parts.append(f"[[ {_key(key)} ]] # table")
                parts += [f"\t{_key(inner)} = {_inline(one)}" for inner, one in each.items()]
    text = "\n".join(parts) + "\n"
    read = tomllib.loads(text)

    found = lines_of(text, read)

    assert found or not read
    lines = text.split("\n")
    for path, line in found.items():
        if isinstance(path[-1], str):
            assert _key(path[-1]) in lines[line - 1]


def test_no_line_is_better_than_a_wrong_one():
    """
    A document that was not read from this text has no lines.
    """
    assert {} == lines_of("a = 1", {"b": 1})


@pytest.mark.parametrize("text", ["a = 1\r\nb = 2\r\n", "\n\n\nb = 2"])
def test_line_ends(text):
    """
    Of both kinds.
    """
    found = lines_of(text, tomllib.loads(text))
    assert text.replace("\r\n", "\n").split("\n").index("b = 2") + 1 == found["b",]
