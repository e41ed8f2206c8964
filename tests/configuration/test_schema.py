"""
Issue 4.2: the JSON Schema and the reader judge alike, by the real jsonschema package.
"""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from resilience.config import InvalidConfigError, json_schema, load
from resilience.config.presets import BREAKER_PRESETS, PIPELINE_PRESETS
from resilience.config.table import POLICIES
from tests.configuration.kit import breaker, least, loaded, malformed, of, piped, usual

SCHEMA = json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)

BEYOND_A_SCHEMA = (
    "minimum_calls",  # two values at once
    "more calls than the window holds",
    "same name",
    "same breaker twice",
    "use-unknown",  # a name that has to exist
    "use-itself",
    "calls-other",
    "changes of nothing",
    "change of nobody",
    "stateless",
    "use of nobody",
)
"""What a schema of single values cannot say; see `json_schema`."""


def _finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, list):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def test_it_is_a_schema():
    """
    Of the dialect that it names, and plain JSON.
    """
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


VALID = [
    {},
    usual(),
    usual(mode="observe"),
    {"environment": "production", "breakers": {"a": breaker(), "b": {"preset": "domain/cache"}}},
    {"policies": {"b": of("bulkhead", limit=3)}, **piped({"use": "b"}, calls=["catalogue"])},
    {"pipelines": {"a": {"preset": "llm", "policies": {"retry": {"attempts": 2, "mode": "off"}}}}},
    {"breakers": {"a": breaker(trip={"type": "any", "of": [{"type": "consecutive_failures"}] * 2})}},
    {"breakers": {"a": breaker(break_duration={"type": "exponential", "max": "1m"})}},
    {"breakers": {"a": breaker(on="OSError", ignore=[])}},
    piped(of("circuit_breaker", on="OSError", trip={"type": "slow_rate", "ratio": 1, "slower_than": "1s"})),
    *({"pipelines": {"a": preset}} for preset in PIPELINE_PRESETS.values()),
    *({"breakers": {"a": preset}} for preset in BREAKER_PRESETS.values()),
    *(piped(least(entry)) for entry in POLICIES.values()),
    *(
        {"budgets": {"shared": {}}, **piped(least(entry) | {key: kind.example})}
        for entry in POLICIES.values()
        for key, kind in entry.fields.kinds.items()
    ),
]  # fmt: skip


@pytest.mark.parametrize("data", VALID, ids=range(len(VALID)))
def test_what_is_valid_is_valid_to_both(data):
    """
    Issue 4.2: it loads, and the schema has nothing to say.
    """
    loaded(data)
    assert [] == [error.message[:200] for error in VALIDATOR.iter_errors(data)]


def test_what_is_malformed_is_malformed_to_both():
    """
    Issue 4.2: of the malformed configurations all but those that concern two values, a name, or no JSON number.
    """
    judged = 0
    for name, data, _ in malformed():
        if not _finite(data) or any(beyond in name for beyond in BEYOND_A_SCHEMA):
            continue
        assert not VALIDATOR.is_valid(data), name
        judged += 1

    assert judged >= 800


WORDS = [
    "1m30s",
    "0s",
    "soon",
    "enforce",
    "network",
    "OSError",
    "",
    "30",
    "10ms",
    "full_jitter",
    "db",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2000) | st.floats(-1, 100, allow_nan=False) | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "n", "ratio"]), inner, max_size=2)
    ),
    max_leaves=3,
)  # fmt: skip


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_value_under_any_key(data):
    """
    Property: what the schema refuses the reader refuses, and the other way round, for one key at a time.
    """
    entry = data.draw(st.sampled_from([*POLICIES.values()]))
    key = data.draw(st.sampled_from([*entry.whole().kinds, "no_such_key"]))
    value = data.draw(VALUES)
    if key in {"budget", "result"} or (entry.word, key) == ("fallback", "value"):
        return  # a name that has to exist; any data
    example = least(entry)
    if (entry.word, key) == ("rate_limit", "per"):
        example["rate"] = 1.0
        if isinstance(value, float) and 0 < value < 1e-9:
            return  # too fast, which is a matter of two keys
    whole = piped(example | {key: value})

    assert VALIDATOR.is_valid(whole) == _loads(whole)


def _loads(data: dict[str, Any]) -> bool:
    try:
        loaded(data)
    except InvalidConfigError:
        return False
    return True


def test_names_that_the_program_registered():
    """
    With the same ``errors=`` they agree as well.
    """
    data = {"breakers": {"a": {"on": ["shop"]}}}
    assert not VALIDATOR.is_valid(data)
    assert Draft202012Validator(json_schema({"shop": LookupError})).is_valid(data)
    assert load(data, environ={}, errors={"shop": LookupError}).policies
