"""
Issue 4: at least 300 malformed configurations, each refused with one clear error and no traceback from inside.

They are made from the table that reads configurations: every key of every policy carries a value for each of its rules.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import attrs
import pytest

from resilience import ConfigurationError
from resilience.__main__ import main
from resilience.config import InfrastructureConfigValidator, InvalidConfigError
from resilience.config.kinds import Either
from resilience.config.sources import DEEPEST, LARGEST
from resilience.config.table import POLICIES, REFERENCES
from tests.configuration.kit import breaker, least, loaded, malformed, of, piped, refused

CASES = malformed()
MALFORMED = [pytest.param(data, path, id=name) for name, data, path in CASES]


def test_there_are_as_many_as_promised():
    """
    Issue 4, Shown by: at least 300, each another pair of field and rule.
    """
    names = [name for name, _, _ in CASES]

    assert len(names) == len(set(names))
    assert len(names) >= 900


@pytest.mark.parametrize(("data", "path"), MALFORMED)
def test_each_is_one_clear_error(data, path):
    """
    Issue 4.2: it says where, what stands there and what may; a nested value may be the one that is wrong.
    """
    error = refused(data)

    assert isinstance(error, ConfigurationError | ValueError)
    assert all(mistake.path.startswith(path) for mistake in error.mistakes), error
    for mistake in error.mistakes:
        assert mistake.got
        assert mistake.allowed
        assert "mapping" == mistake.source
        assert len(str(mistake)) < 2000
    assert error.mistakes[0].path == error.field


def test_the_validator_reports_each_of_them():
    """
    Issue 4.3: the same mistakes as findings, and never an exception.
    """
    for name, data, path in CASES:
        report = InfrastructureConfigValidator(data).validate()
        assert not report.ok, name
        assert any(each.path.startswith(path) for each in report.errors), name
        assert json.loads(report.as_json())["errors"] == len(report.errors)


def test_the_command_reports_those_that_toml_can_write(tmp_path, capsys):
    """
    Issue 4.3: exit code 1, the file and a line, 0 tracebacks from inside.
    """
    file = tmp_path / "resilience.toml"
    told = 0
    for name, data, _ in CASES:
        try:
            text = _toml(data)
        except TypeError:
            continue
        file.write_text(text)
        assert 1 == main(["check", str(file)]), name
        shown = capsys.readouterr()
        assert "" == shown.err, name
        assert re.search(r"resilience\.toml:\d+: error: ", shown.out), name
        told += 1
    assert told >= 850


def _toml(data: Mapping[str, Any]) -> str:
    return "\n".join(f"{json.dumps(key)} = {_value(value)}" for key, value in data.items()) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{json.dumps(key)} = {_value(each)}" for key, each in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf"
    if isinstance(value, bool | int | float | str):
        return json.dumps(value)
    raise TypeError(value)


@pytest.mark.parametrize("word", POLICIES)
def test_the_least_of_each_is_accepted(word):
    """
    Control: without the broken key the same table is accepted.
    """
    assert loaded(piped(least(POLICIES[word]))).pipeline("catalogue").policies


@pytest.mark.parametrize(
    ("word", "key"),
    [
        (entry.word, key)
        for entry in POLICIES.values()
        for key in entry.whole().kinds
        if key != "mode"
    ],
)
def test_the_example_of_each_key_is_accepted(word, key):
    """
    Control: the value that the key gives as its example.
    """
    example = POLICIES[word].whole().kinds[key].example

    data = {"budgets": {"shared": {}}, **piped(least(POLICIES[word]) | {key: example})}
    assert loaded(data).pipeline("catalogue").policies


VARIANTS = {
    "quantile": ("hedge", "after"),
    "algorithm": ("concurrency_limit", "algorithm"),
    "trip": ("circuit_breaker", "trip"),
    "wait": ("retry", "wait"),
    "window": ("circuit_breaker", "trip"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_examples_of_each_value_are_accepted(name):
    """
    Control: every variant of every value that is a table, and each of its keys.
    """
    word, key = VARIANTS[name]
    kind = REFERENCES[name]
    variants = kind.table if isinstance(kind, Either) else kind
    for type_, record in variants.kinds.items():
        whole = variants.examples[type_]
        for inner, each in record.fields.kinds.items():
            value = whole | {inner: each.example}
            given = (
                {"type": "failure_rate", "window": value, "minimum_calls": 1}
                if name == "window"
                else value
            )
            assert loaded(piped(least(POLICIES[word]) | {key: given})).pipelines, (type_, inner)


def test_every_required_option_can_be_written():
    """
    Instrument: a policy whose required options only a function can fill would be in the table for nothing.
    """
    for entry in POLICIES.values():
        required = [
            field.name
            for field in attrs.fields(entry.cls)
            if field.init and field.default is attrs.NOTHING and field.name != "name"
        ]
        assert {*required} == {*entry.fields.required}
        assert entry.doc


def test_all_mistakes_at_once_with_their_lines(tmp_path):
    """
    Issue 4.2: path and line of each, and the nearest spelling.
    """
    file = tmp_path / "bad.toml"
    file.write_text(
        """
[breakers.catalogue]
on = ["ConectionError", "TimeoutError"]
break_duration = "30"
prbes = 3

[[pipelines.reads.policies]]
type = "timeout_"

[[pipelines.reads.policies]]
type = "retry"
on = "network"
attempts = 0
wait.type = "full_jitter"
wait.initial = "1 second"
[pipelines.writes]
mode = "obsrve"
policies = [{ use = "catalouge" }]
"""
    )
    error = refused(file)

    assert [
        ("breakers.catalogue.on[0]", 3, "ConnectionError"),
        ("breakers.catalogue.break_duration", 4, None),
        ("breakers.catalogue.prbes", 5, "probes"),
        ("pipelines.reads.policies[0].type", 8, "timeout"),
        ("pipelines.reads.policies[1].attempts", 13, None),
        ("pipelines.reads.policies[1].wait.initial", 15, None),
        ("pipelines.writes.mode", 17, "observe"),
        ("pipelines.writes.policies[0].use", 18, "catalogue"),
    ] == [(each.path, each.line, each.hint) for each in error.mistakes]
    assert {str(file)} == {each.source for each in error.mistakes}
    assert str(error).startswith("8 mistakes in the configuration:\n  ")
    assert f"{file}:5: breakers.catalogue.prbes must be one of the keys" in str(error)
    assert "did you mean 'probes'?" in str(error)


CANARY = "s3cr3t-hunter2"


def _with_secrets() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "unknown key", {"breakers": {"x": breaker(password=CANARY)}}
    yield "unknown table", {"credentials": {"token": CANARY}}
    yield "on", {"breakers": {"x": {"on": [CANARY]}}}
    yield "duration", {"breakers": {"x": breaker(break_duration=CANARY)}}
    yield "count", {"breakers": {"x": breaker(probes=CANARY)}}
    yield "mode", {"breakers": {"x": breaker(mode=CANARY)}}
    yield "type", piped(of(CANARY))
    yield "trip", {"breakers": {"x": breaker(trip={"type": CANARY})}}
    yield "trip is text", {"breakers": {"x": breaker(trip=CANARY)}}
    yield "use", piped({"use": CANARY})
    yield "preset", piped(preset=CANARY)
    yield "bytes", {"breakers": {"x": breaker(probes=CANARY.encode())}}
    yield "table of secrets", {"breakers": {"x": breaker(probes={"key": CANARY})}}
    yield "url", {"pipelines": {"x": {"policies": f"https://user:{CANARY}@example.org"}}}


SECRETS = [pytest.param(name, data, id=name) for name, data in _with_secrets()]


@pytest.mark.parametrize(("name", "data"), SECRETS)
def test_no_secret_reaches_an_error(name, data):
    """
    Law 36, issue 4.2: what stands under a wrong key, or is no value of its kind, is not repeated.
    """
    error = refused(data)
    report = InfrastructureConfigValidator(data).validate()

    assert CANARY not in str(error) + repr(error) + str(report) + report.as_json(), name


def test_no_secret_of_the_environment_or_of_a_broken_file(tmp_path):
    """
    Law 36: of variables the names, of a file that is no TOML the line.
    """
    file = tmp_path / "broken.toml"
    file.write_text(f'ok = 1\npassword = "{CANARY}\n')
    broken = refused(file)
    assert (2, CANARY in str(broken)) == (broken.mistakes[0].line, False)
    for variable in (
        "RESILIENCE_X_MODE",
        "RESILIENCE_TOKEN",
        "RESILIENCE__A__B",
        "RESILIENCE__BREAKERS__X__PROBES",
    ):
        error = refused({"breakers": {"x": breaker()}}, environ={variable: CANARY})
        assert CANARY not in str(error), variable


@pytest.mark.parametrize(
    "value",
    [print, object(), b"bytes", {1, 2}, lambda: 1, int, OSError("down"), 1 + 2j],
    ids=["function", "object", "bytes", "set", "lambda", "class", "error", "complex"],
)
def test_nothing_but_data(value):
    """
    Issue 4.2: no callables, no objects, wherever they stand.
    """
    for data in (
        {"breakers": {"x": breaker(probes=value)}},
        {"breakers": value},
        {"breakers": {"x": {"on": [value]}}},
    ):
        error = refused(data)
        assert "data: text, number" in error.mistakes[0].allowed


@pytest.mark.parametrize("key", [1, None, ("a",), "x" * 300, b"on"], ids=repr)
def test_keys_are_texts(key):
    """
    A mapping of the program's own may hold anything.
    """
    assert "keys are texts" in refused({"breakers": {key: breaker()}}).mistakes[0].allowed


def test_a_mapping_that_raises():
    """
    Law 6: it is the user's, and so is its fault.
    """

    class Broken(Mapping):  # type: ignore[type-arg]
        def __getitem__(self, key):
            raise RuntimeError("no")

        def __iter__(self):
            return iter(["breakers"])

        def __len__(self):
            return 1

    assert "one that raises RuntimeError" == refused(Broken()).mistakes[0].got


def test_size_and_depth_are_bounded(tmp_path):
    """
    Issue 4.2: a file of a million bytes, sixteen tables deep, a hundred thousand values; not more, and no recursion.
    """
    file = tmp_path / "large.toml"
    file.write_text("# " + "x" * LARGEST)
    assert f"at most {LARGEST} bytes long" == refused(file).mistakes[0].allowed
    file.write_text("a = " + "[" * 5000 + "]" * 5000)
    assert "deep" in refused(file).mistakes[0].allowed
    deep: dict[str, Any] = {}
    for _ in range(DEEPEST + 5):
        deep = {"a": deep}
    assert "deep" in refused(deep).mistakes[0].allowed
    circle: dict[str, Any] = {}
    circle["a"] = circle
    assert "deep" in refused(circle).mistakes[0].allowed
    wide = {"breakers": {"x": {"on": ["OSError"] * 100_001}}}
    assert "one of at most 100000 values" == refused(wide).mistakes[0].allowed


@pytest.mark.parametrize(
    ("content", "allowed"),
    [
        (b"\xff\xfe", "UTF-8"),
        (b"a = ", "valid TOML"),
        (b"a = 1\na = 2", "valid TOML"),
        (b"[a\n", "valid TOML"),
        (b'a = "\x00"', "valid TOML"),
        (b"a = 1979-05-27", "data: text, number, true or false, array or table"),
    ],
    ids=["bytes", "no value", "twice", "open", "nul", "date"],
)
def test_files_that_are_no_toml(tmp_path, content, allowed):
    """
    Issue 4.2: said with the line where there is one.
    """
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    assert allowed == refused(file).mistakes[0].allowed


@pytest.mark.parametrize("source", [5, None, ["a"], "no/such/file.toml", "a\0b"], ids=repr)
def test_sources_that_are_none(source):
    """
    No file, no mapping, no path.
    """
    assert isinstance(refused(source), InvalidConfigError)


def test_a_directory_is_no_file(tmp_path):
    """
    The type of the error, and no traceback.
    """
    assert "IsADirectoryError" == refused(tmp_path).mistakes[0].got


def test_mistakes_of_several_sources(tmp_path):
    """
    All files at once, each with its own name.
    """
    names = []
    for number in (1, 2):
        file = tmp_path / f"{number}.toml"
        file.write_text("= 1")
        names.append(str(file))
    assert names == [each.source for each in refused(*names).mistakes]


@pytest.mark.parametrize(
    "errors",
    [{"x": int}, {"x": ()}, {1: OSError}, {"x": (OSError, 5)}, {"x": KeyboardInterrupt}],
    ids=repr,
)
def test_registered_names_are_exception_classes(errors):
    """
    Issue 4.2: a closed list, and the program's own names are judged as well.
    """
    with pytest.raises(ConfigurationError, match="names with exception classes"):
        loaded({}, errors=errors)


def test_what_contradicts_itself_is_said_where_it_stands():
    """
    Two values that are fine one by one: the constructor's own words, at the table's path.
    """
    trip = {"type": "failure_rate", "minimum_calls": 20, "window": {"type": "count", "calls": 10}}
    error = refused({"breakers": {"x": breaker(trip=trip)}})
    assert ("breakers.x.trip", "20 with a window of 10 calls") == (
        error.mistakes[0].path, error.mistakes[0].got,
    )  # fmt: skip
    error = refused(piped(of("timeout", seconds=2), of("timeout", seconds=3)))
    assert "can never fire" in error.mistakes[0].got


def test_a_duration_where_a_number_belongs():
    """
    A timedelta is data, and no count.
    """
    assert (
        "a timedelta"
        == refused({"breakers": {"x": breaker(probes=timedelta(seconds=3))}}).mistakes[0].got
    )


def test_what_only_several_options_together_show():
    """
    Chaos that raises and returns: the constructor's own words, at the policy's path.
    """
    error = refused(piped(of("chaos", rate=0.5, fault="OSError", result=1)))
    assert ("pipelines.catalogue.policies[0]", "fault and result") == (error.field, error.got)


def test_budgets_that_are_none():
    """
    A budget is a table with a closed set of keys as well.
    """
    assert "budgets.b.ratoi" == refused({"budgets": {"b": {"ratoi": 1}}}).field
    assert (
        "seconds from 1 to 60, or a timedelta"
        == refused({"budgets": {"b": {"ttl": "2m"}}}).mistakes[0].allowed
    )
