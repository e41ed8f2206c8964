"""
The configuration as JSON Schema, made from the same table that reads it.

For editors, and for checks in other languages. What concerns two values at once, a name that has to exist, and numbers
that JSON cannot write, it cannot say; everything else it judges as `load` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resilience.config.kinds import NAME_PATTERN, Choice, Fields, Kind, Name, Schema
from resilience.config.presets import BREAKER_PRESETS, PIPELINE_PRESETS
from resilience.config.table import (
    ACCEPTABLE,
    BUDGET,
    MODE,
    POLICIES,
    REFERENCES,
    known_errors,
)

__all__ = ["json_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(
    errors: Mapping[str, type[Exception] | tuple[type[Exception], ...]] | None = None,
) -> dict[str, Any]:
    """
    The JSON Schema (2020-12) of a configuration.

    Args:
        errors: As in `load`: names that ``on`` and ``ignore`` may hold besides the usual ones.
    """
    known = known_errors(errors or {})
    breaker = POLICIES["circuit_breaker"]
    keys: dict[str, Kind] = {**breaker.fields.kinds, "mode": MODE}
    required = () if BREAKER_PRESETS else breaker.fields.required
    shared = {word: entry for word, entry in POLICIES.items() if entry.named}
    return {
        "$schema": _DIALECT,
        "title": "resilience: pipelines and breakers",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "environment": Name().schema(known),
            "budgets": _by_name(BUDGET.schema(known)),
            "breakers": _by_name(_breaker(Fields(keys, required).schema(known), breaker.fields.required)),
            "policies": _by_name({"oneOf": [entry.whole_schema(known) for entry in shared.values()]}),
            "pipelines": _by_name({"$ref": "#/$defs/pipeline"}),
        },
        "$defs": {
            "error": {"enum": sorted(known)},
            "pipeline": _pipeline(),
            "policy": {"oneOf": [entry.whole_schema(known) for entry in POLICIES.values()]},
            "change": _change(known),
            **{name: kind.schema(known) for name, kind in REFERENCES.items()},
        },
    }  # fmt: skip


def _by_name(schema: Schema) -> Schema:
    return {
        "type": "object",
        "propertyNames": {"pattern": NAME_PATTERN, "not": {"pattern": "\n"}},
        "additionalProperties": schema,
    }


def _breaker(schema: Schema, required: tuple[str, ...]) -> Schema:
    """With a preset nothing more is required."""
    properties = schema["properties"] | {"preset": Choice(tuple(BREAKER_PRESETS)).schema({})}
    return schema | {
        "properties": properties,
        "anyOf": [{"required": [*required]}, {"required": ["preset"]}],
    }


def _pipeline() -> Schema:
    use = {
        "type": "object",
        "properties": {"use": Name().schema({})},
        "required": ["use"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "policies": {
                "anyOf": [
                    {
                        "type": "array",
                        "items": {"anyOf": [use, {"$ref": "#/$defs/policy"}]},
                        "minItems": 1,
                        "maxItems": 50,
                    },
                    {"type": "object", "additionalProperties": {"$ref": "#/$defs/change"}},
                ]
            },
            "mode": MODE.schema({}),
            "preset": Choice(tuple(PIPELINE_PRESETS)).schema({}),
            "accept": {"type": "array", "items": {"enum": [*ACCEPTABLE]}},
            "calls": {"type": "array", "items": Name().schema({})},
        },
        "anyOf": [{"required": ["policies"]}, {"required": ["preset"]}],
    }


def _change(errors: Mapping[str, object]) -> Schema:
    """Changes to a policy of a layer below: any key of any policy."""
    kinds: dict[str, list[Schema]] = {}
    for entry in POLICIES.values():
        for key, kind in entry.whole().kinds.items():
            schema = kind.schema(errors)
            if schema not in kinds.setdefault(key, []):
                kinds[key].append(schema)
    return {
        "type": "object",
        "properties": {key: {"anyOf": schemas} for key, schemas in kinds.items()},
        "additionalProperties": False,
    }
