"""
The kinds of values a configuration may hold.

Each reads a value, describes itself to JSON Schema and to a reader, and carries a value for each rule it enforces, so
that tests can break all of them. Most kinds are made from the options' own validators (`kind_of`): a rule stands in one
place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol, TypeAlias, TypeGuard, final

import attrs

from resilience.config.durations import LONGEST, PATTERN, POSITIVE, seconds_of
from resilience.config.mistakes import Mistakes, Path, nearest, shown
from resilience.errors import ConfigurationError
from resilience.validation import Shape

__all__ = [
    "BROKEN", "NAME_PATTERN", "Choice", "Context", "Count", "Data", "Either", "Errors", "Fields", "Flag", "Kind",
    "Name", "Named", "Number", "OneError", "Record", "Seconds", "Variants", "Vow", "is_name", "kind_of",
]  # fmt: skip

BROKEN: Any = object()
"""What a kind returns for a value that it has noted a mistake about."""

Schema: TypeAlias = "dict[str, Any]"

_ORDINARY = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
NAME_PATTERN = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
_NAME_TEXT = (
    "a name of 1 to 100 letters, digits, '_', '.' and '-', that begins with a letter or a digit"
)


def is_name(value: object) -> bool:
    """Whether it may be a name in a configuration, and so in an environment variable."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= 100  # noqa: PLR2004 - as the pattern says
        and value[0] in _ORDINARY
        and all(each in _ORDINARY + "_.-" for each in value)
    )


@final
@attrs.frozen
class Context:
    """
    What reading needs to know.

    Attributes:
        mistakes: Where they go.
        errors: The exception classes that files may name.
        named: Section -> name -> object, for what is used by name.
    """

    mistakes: Mistakes
    errors: Mapping[str, tuple[type[Exception], ...]]
    named: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)


class Kind(Protocol):
    """
    One kind of value.

    ``text`` says what is allowed; ``breaches`` holds a value that breaks each rule, ``example`` one that breaks none;
    ``read`` gives what the option takes, or `BROKEN` if a mistake was noted.
    """

    @property
    def text(self) -> str: ...
    @property
    def breaches(self) -> Mapping[str, object]: ...
    @property
    def example(self) -> object: ...
    def read(self, value: Any, path: Path, context: Context) -> Any: ...
    def schema(self, errors: Mapping[str, object]) -> Schema: ...


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _or_none(schema: Schema, *, none: bool) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]} if none else schema


_OTHER_TYPES: Mapping[str, object] = {"boolean": True, "array": [1], "table": {"value": 1}}


@final
@attrs.frozen
class Seconds:
    """A duration: a number of seconds or a text with units."""

    zero: bool = False
    none: bool = False

    @property
    def text(self) -> str:
        least = "0 s or more" if self.zero else "more than 0 s"
        return f'a duration of {least}: a number of seconds, or a text such as "1m30s"'

    @property
    def example(self) -> object:
        return "1m30s"

    @property
    def breaches(self) -> Mapping[str, object]:
        found = dict(_OTHER_TYPES) | {
            "negative": -1,
            "infinite": math.inf,
            "not a number": math.nan,
            "too long": 10**12,
            "no unit": "30",
            "other unit": "3 weeks",
            "units in disorder": "30s1m",
            "negative text": "-5s",
            "empty": "",
            "word": "soon",
        }
        if not self.zero:
            found |= {"zero": 0, "zero text": "0s"}
        return found

    def read(self, value: Any, path: Path, context: Context) -> Any:
        if value is None and self.none:
            return None
        seconds: float | None = None
        if isinstance(value, timedelta):
            seconds = value.total_seconds()
        elif isinstance(value, str):
            seconds = seconds_of(value)
        elif _is_number(value) and -LONGEST <= value <= LONGEST:
            seconds = float(value)
        if (
            seconds is None
            or seconds < 0
            or seconds > LONGEST * 100
            or (not self.zero and seconds == 0)
        ):
            context.mistakes.add(path, value, self.text)
            return BROKEN
        return seconds

    def schema(self, errors: Mapping[str, object]) -> Schema:  # noqa: ARG002
        least = {"minimum": 0} if self.zero else {"exclusiveMinimum": 0}
        number = {"type": "number", "maximum": LONGEST} | least
        text = {"type": "string", "pattern": PATTERN if self.zero else POSITIVE}
        return _or_none({"anyOf": [number, text]}, none=self.none)


@final
@attrs.frozen
class Count:
    """A whole number."""

    low: int = 1
    high: int = 10**9
    none: bool = False

    @property
    def text(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    @property
    def example(self) -> object:
        return self.low + 1

    @property
    def breaches(self) -> Mapping[str, object]:
        return dict(_OTHER_TYPES) | {
            "text": "3",
            "fraction": self.low + 0.5,
            "below": self.low - 1,
            "negative": -1,
            "above": self.high + 1,
            "infinite": math.inf,
            "not a number": math.nan,
        }

    def read(self, value: Any, path: Path, context: Context) -> Any:
        if value is None and self.none:
            return None
        if _is_number(value) and self.low <= value <= self.high and value == int(value):
            return int(value)
        context.mistakes.add(path, value, self.text)
        return BROKEN

    def schema(self, errors: Mapping[str, object]) -> Schema:  # noqa: ARG002
        return _or_none(
            {"type": "integer", "minimum": self.low, "maximum": self.high}, none=self.none
        )


@final
@attrs.frozen
class Number:
    """A number above *low*, or from it on with *least*, up to *high*."""

    low: float = 0.0
    high: float = 1.0
    least: bool = False

    @property
    def text(self) -> str:
        low = f"from {self.low:g} to" if self.least else f"above {self.low:g} and at most"
        return f"a number {low} {self.high:g}"

    @property
    def example(self) -> object:
        return self.low + (self.high - self.low) / 2

    @property
    def breaches(self) -> Mapping[str, object]:
        found = dict(_OTHER_TYPES) | {
            "text": "50%",
            "below": self.low - 0.5,
            "above": self.high * 50,
            "infinite": math.inf,
            "not a number": math.nan,
        }
        return found if self.least else found | {"least": self.low}

    def read(self, value: Any, path: Path, context: Context) -> Any:
        if (
            _is_number(value)
            and self.low <= value <= self.high
            and (self.least or value > self.low)
        ):
            return float(value)
        context.mistakes.add(path, value, self.text)
        return BROKEN

    def schema(self, errors: Mapping[str, object]) -> Schema:  # noqa: ARG002
        least = {"minimum" if self.least else "exclusiveMinimum": self.low}
        return {"type": "number", "maximum": self.high} | least


@final
@attrs.frozen
class Flag:
    """True or false."""

    text: str = "true or false"
    example: object = True
    breaches: Mapping[str, object] = attrs.field(
        factory=lambda: {"text": "yes", "number": 1, "array": [True], "table": {"on": True}}
    )

    def read(self, value: Any, path: Path, context: Context) -> Any:
        if isinstance(value, bool):
            return value
        context.mistakes.add(path, value, self.text)
        return BROKEN

    def schema(self, errors: Mapping[str, object]) -> Schema:  # noqa: ARG002
        return {"type": "boolean"}


@final
@attrs.frozen
class Vow:
    """True, and nothing else: something that has to be said."""

    text: str = "true: it has to be said"
    example: object = True
    breaches: Mapping[str, object] = attrs.field(
        factory=lambda: {
            "false": False,
            "text": "yes",
            "number": 1,
            "array": [True],
            "table": {"on": True},
        }
    )

    def read(self, value: Any, path: Path, context: Context) -> Any:
        if value is True:
            return True
        context.mistakes.add(path, value, self.text)
        return BROKEN

    def schema(self, errors: Mapping[str, object]) -> Schema:  # noqa: ARG002
        return {"const": True}


@final
@attrs.frozen
class Name:
    """The name of a policy or a pipeline."""

    text: str = _NAME_TEXT
    example: object = "catalogue"
    breaches: Mapping[str, object] = attrs.field(
        factory=lambda: (
            dict(_OTHER_TYPES)
            | {
                "number": 7,
                "empty": "",
                "long": "x" * 101,
                "space": "two words",
                "line break": "a\n",
            }
            | {"dash first": "-a", "letter of another script": "\u00e9t\u00e9"}
        )
    )

    def read(self, value: Any, path: Path, context: Context) -> Any:
        if is_name(value):
            return value
        context.mistakes.add(path, value, self.text)
        return BROKEN

    def schema(self, errors: Mapping[str, object]) -> Schema:  # noqa: ARG002
        return {
            "type": "string",
            "pattern": NAME_PATTERN,
            "maxLength": 100,
            "not": {"pattern": "\n"},
        }


@final
@attrs.frozen
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def text(self) -> str:
        return "one of " + ", ".join(self.words)

    @property
    def example(self) -> object:
        return self.words[0]

    @property
    def breaches(self) -> Mapping[str, object]:
        return dict(_OTHER_TYPES) | {"other word": "sometimes", "number": 1, "empty": ""}

    def read(self, value: Any, path: Path, context: Context) -> Any:
        if isinstance(value, str) and value in self.words:
            return value
        hint = nearest(value, self.words) if isinstance(value, str) else None
        context.mistakes.add(path, value, self.text, hint, shown(value, self.words))
        return BROKEN

    def schema(self, errors: Mapping[str, object]) -> Schema:  # noqa: ARG002
        return {"enum": [*self.words]}


_MOST_ERRORS = 100


@final
@attrs.frozen
class Errors:
    """Names of exception classes: builtin ones, this package's, and those that the program registered."""

    empty: bool = False

    @property
    def text(self) -> str:
        return (
            "a name, or an array of names, of exception classes: builtin ones, those of resilience, 'network', or "
            "names that the program gave in errors="
        )

    @property
    def example(self) -> object:
        return ["ConnectionError", "TimeoutError"]

    @property
    def breaches(self) -> Mapping[str, object]:
        found: dict[str, object] = {
            "number": 503,
            "boolean": True,
            "table": {"name": "OSError"},
            "other name": "NoSuchError",
            "other name among them": ["OSError", "NoSuchError"],
            "number among them": ["OSError", 503],
            "array inside": [["OSError"]],
            "no exception": "int",
            "cancellation": "KeyboardInterrupt",
            "module": "os.error",
            "too many": ["OSError"] * (_MOST_ERRORS + 1),
        }
        return found if self.empty else found | {"empty": []}

    def read(self, value: Any, path: Path, context: Context) -> Any:
        names = [value] if isinstance(value, str) else value
        if (
            not isinstance(names, list)
            or len(names) > _MOST_ERRORS
            or (not names and not self.empty)
        ):
            context.mistakes.add(path, value, self.text)
            return BROKEN
        kinds: list[type[Exception]] = []
        broken = False
        for place, name in enumerate(names):
            where = path if isinstance(value, str) else (*path, place)
            found = context.errors.get(name) if isinstance(name, str) else None
            if found is None:
                hint = _nearest_error(name, context.errors)
                context.mistakes.add(
                    where, name, self.text, hint, shown(name, context.errors if hint else ())
                )
                broken = True
            else:
                kinds += [kind for kind in found if kind not in kinds]
        return BROKEN if broken else tuple(kinds)

    def schema(self, errors: Mapping[str, object]) -> Schema:  # noqa: ARG002 - the names stand once, in $defs
        one = {"$ref": "#/$defs/error"}
        many: Schema = {"type": "array", "items": one, "maxItems": _MOST_ERRORS}
        if not self.empty:
            many["minItems"] = 1
        return {"anyOf": [one, many]}


@final
@attrs.frozen
class OneError:
    """The name of one exception class."""

    @property
    def text(self) -> str:
        return Errors().text.replace(
            "a name, or an array of names, of exception classes", "the name of an exception class"
        )

    @property
    def example(self) -> object:
        return "ConnectionError"

    @property
    def breaches(self) -> Mapping[str, object]:
        return {
            "number": 1,
            "array": ["OSError"],
            "other name": "NoSuchError",
            "table": {"name": "OSError"},
        }

    def read(self, value: Any, path: Path, context: Context) -> Any:
        if isinstance(value, str):
            found = Errors().read(value, path, context)
            return found if found is BROKEN else found[0]
        context.mistakes.add(path, value, self.text)
        return BROKEN

    def schema(self, errors: Mapping[str, object]) -> Schema:  # noqa: ARG002 - (as above)
        return {"$ref": "#/$defs/error"}


@final
@attrs.frozen
class Named:
    """The name of something that has a table of its own."""

    section: str

    @property
    def text(self) -> str:
        return f"the name of a table under {self.section}"

    @property
    def example(self) -> object:
        return "shared"

    @property
    def breaches(self) -> Mapping[str, object]:
        return {
            "number": 1,
            "array": ["shared"],
            "table": {"ratio": 0.2},
            "space": "not a name",
            "use of nobody": "nobody",
        }

    def read(self, value: Any, path: Path, context: Context) -> Any:
        known = context.named.get(self.section, {})
        if isinstance(value, str) and value in known:
            return known[value]
        hint = nearest(value, known) if isinstance(value, str) else None
        context.mistakes.add(path, value, self.text, hint, shown(value, known))
        return BROKEN

    def schema(self, errors: Mapping[str, object]) -> Schema:
        return Name().schema(errors)


def _nearest_error(name: object, errors: Mapping[str, object]) -> str | None:
    if not isinstance(name, str):
        return None
    by_lower = {known.lower(): known for known in errors}
    found = nearest(name.rpartition(".")[2], by_lower)
    return by_lower[found] if found else None


@final
@attrs.frozen
class Data:
    """Any plain data, taken as it stands."""

    text: str = "plain data"
    example: object = "unavailable"
    breaches: Mapping[str, object] = attrs.field(factory=dict)

    def read(self, value: Any, path: Path, context: Context) -> Any:  # noqa: ARG002
        return value

    def schema(self, errors: Mapping[str, object]) -> Schema:  # noqa: ARG002
        return {}


@final
@attrs.frozen
class Fields:
    """The keys of a table: name -> kind, and which of them are required."""

    kinds: Mapping[str, Kind]
    required: tuple[str, ...] = ()

    def read(self, value: Mapping[str, Any], path: Path, context: Context) -> Any:
        """What each key gives; `BROKEN` if anything was wrong."""
        options: dict[str, Any] = {}
        broken = False
        for key, given in value.items():
            kind = self.kinds.get(key)
            if kind is None:
                hint = nearest(key, self.kinds)
                allowed = f"one of the keys {', '.join(sorted(self.kinds))}"
                context.mistakes.add((*path, key), given, allowed, hint, got="an unknown key")
                broken = True
                continue
            read = kind.read(given, (*path, key), context)
            if read is BROKEN:
                broken = True
            else:
                options[key] = read
        for key in self.required:
            if key not in value:
                context.mistakes.add((*path, key), None, self.kinds[key].text, got="nothing")
                broken = True
        return BROKEN if broken else options

    def schema(self, errors: Mapping[str, object]) -> Schema:
        found: Schema = {
            "type": "object",
            "properties": {key: kind.schema(errors) for key, kind in self.kinds.items()},
            "additionalProperties": False,
        }
        if self.required:
            found["required"] = [*self.required]
        return found


@final
@attrs.frozen
class Record:
    """A table that becomes an object."""

    text: str
    fields: Fields
    build: Callable[..., Any]
    example: object
    rules: Mapping[str, object] = attrs.field(factory=dict)

    def read(self, value: dict[str, Any], path: Path, context: Context) -> Any:
        """The object; `BROKEN` if a mistake was noted."""
        options = self.fields.read(value, path, context)
        if options is BROKEN:
            return BROKEN
        try:
            return self.build(**options)
        except ConfigurationError as error:
            context.mistakes.refused(path, error)
            return BROKEN

    def schema(self, errors: Mapping[str, object]) -> Schema:
        return self.fields.schema(errors)


@final
@attrs.frozen
class Variants:
    """A table whose key ``type`` says which one it is."""

    what: str
    kinds: Mapping[str, Record]

    @property
    def text(self) -> str:
        return f"a table with type = {' or '.join(map(repr, self.kinds))}"

    @property
    def example(self) -> object:
        return next(iter(self.examples.values()))

    @property
    def examples(self) -> dict[str, dict[str, Any]]:
        """One of each."""
        return {
            word: {"type": word, **(record.example if isinstance(record.example, dict) else {})}
            for word, record in self.kinds.items()
        }

    @property
    def breaches(self) -> Mapping[str, object]:
        found: dict[str, object] = {
            "number": 1.5,
            "array": [],
            "no type": {"seconds": 1},
            "other type": {"type": "x"},
        }
        for word, record in self.kinds.items():
            found[f"{word}: unknown key"] = {"type": word, "no_such_key": 1}
            example = self.examples[word]
            for key, kind in record.fields.kinds.items():
                for rule, value in kind.breaches.items():
                    found[f"{word}.{key}: {rule}"] = example | {key: value}
            for rule, value in record.rules.items():
                found[f"{word}: {rule}"] = (
                    {"type": word, **value} if isinstance(value, dict) else value
                )
        return found

    def read(self, value: Any, path: Path, context: Context) -> Any:
        if not isinstance(value, dict) or "type" not in value:
            context.mistakes.add(path, value, self.text)
            return BROKEN
        word = value["type"]
        if not isinstance(word, str) or word not in self.kinds:
            Choice(tuple(self.kinds)).read(word, (*path, "type"), context)
            return BROKEN
        rest = {key: each for key, each in value.items() if key != "type"}
        return self.kinds[word].read(rest, path, context)

    def schema(self, errors: Mapping[str, object]) -> Schema:
        return {"oneOf": [_typed(word, each.schema(errors)) for word, each in self.kinds.items()]}


def _typed(word: str, schema: Schema) -> Schema:
    properties = {"type": {"const": word}} | schema.get("properties", {})
    required = ["type", *schema.get("required", [])]
    return schema | {"properties": properties, "required": required}


@final
@attrs.frozen
class Either:
    """One kind for plain values, another one for tables."""

    plain: Kind
    table: Kind

    @property
    def text(self) -> str:
        return f"{self.plain.text}; or {self.table.text}"

    @property
    def example(self) -> object:
        return self.plain.example

    @property
    def breaches(self) -> Mapping[str, object]:
        plain = {
            rule: value
            for rule, value in self.plain.breaches.items()
            if not isinstance(value, dict)
        }
        tables = {
            rule: value for rule, value in self.table.breaches.items() if isinstance(value, dict)
        }
        return plain | {f"table: {rule}": value for rule, value in tables.items()}

    def read(self, value: Any, path: Path, context: Context) -> Any:
        return (self.table if isinstance(value, dict) else self.plain).read(value, path, context)

    def schema(self, errors: Mapping[str, object]) -> Schema:
        return {"anyOf": [self.plain.schema(errors), self.table.schema(errors)]}


def kind_of(shape: Shape | None) -> Kind | None:
    """The kind for a validator of the usual sort; None for the others."""
    if shape is None or shape.kind == "name":
        return None  # a name is the table's own
    match shape.kind:
        case "seconds":
            return Seconds(shape.zero, shape.none)
        case "count":
            return Count(int(shape.low), int(shape.high), shape.none)
        case "number":
            return Number(shape.low, shape.high, least=True)
        case "ratio":
            return Number()
        case _:
            return Flag()
