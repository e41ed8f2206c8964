"""
Configurations to load: valid ones to be broken, and the ways to say that one is refused.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest

from resilience import PipelineWarning, ResilienceWarning
from resilience.config import Config, InvalidConfigError, load
from resilience.config.table import POLICIES, PolicyType

AT = "pipelines.catalogue.policies[0]"
FIRST = "pipelines.x.policies[0]"
ON = ["ConnectionError", "TimeoutError"]


def of(type_: str, **keys: Any) -> dict[str, Any]:
    """A policy's table."""
    return {"type": type_, **keys}


def piped(*policies: dict[str, Any], name: str = "catalogue", **keys: Any) -> dict[str, Any]:
    """A configuration of one pipeline."""
    return {"pipelines": {name: {"policies": [*policies], **keys}}}


def breaker(**keys: Any) -> dict[str, Any]:
    """A breaker's table."""
    return {"on": [*ON], **keys}


def usual(**keys: Any) -> dict[str, Any]:
    """Total timeout, retry, breaker, attempt timeout."""
    return piped(
        of("timeout", seconds="10s", name="total"),
        of("retry", on="network", attempts=3),
        of("circuit_breaker", on="network", trip={"type": "consecutive_failures", "n": 5}),
        of("timeout", seconds="2s", name="attempt"),
        **keys,
    )


def loaded(*sources: Any, environ: dict[str, str] | None = None, **options: Any) -> Config:
    """Loaded, whatever its pipelines warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PipelineWarning)
        # The names of these tests are few, and what an earlier one made may not be gone yet.
        warnings.filterwarnings("ignore", "two live circuit breakers", ResilienceWarning)
        return load(*sources, environ={} if environ is None else environ, **options)


def refused(
    *sources: Any, environ: dict[str, str] | None = None, **options: Any
) -> InvalidConfigError:
    """The error it is refused with: one, of ours, and not in the course of handling another."""
    with pytest.raises(InvalidConfigError) as caught:
        load(*sources, environ=environ or {}, **options)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


def least(entry: PolicyType) -> dict[str, Any]:
    """The least that a policy of this type takes."""
    required = {
        key: copy.deepcopy(entry.fields.kinds[key].example) for key in entry.fields.required
    }
    return of(entry.word, **required, **entry.least)


def malformed() -> list[tuple[str, dict[str, Any], str]]:
    """(field-rule, configuration, path of the mistake) for every rule of every key, from the table itself."""
    found: list[tuple[str, dict[str, Any], str]] = []
    for entry in POLICIES.values():
        keys = {**entry.whole().kinds}
        keys.pop("type")
        for key, kind in keys.items():
            for rule, value in kind.breaches.items():
                broken = least(entry) | {key: copy.deepcopy(value)}
                path = f"{AT}.{key}"
                found.append((f"{entry.word}.{key}-{rule}", piped(broken), path))
        for key in entry.fields.required:
            broken = least(entry)
            del broken[key]
            path = f"{AT}.{key}"
            found.append((f"{entry.word}.{key}-missing", piped(broken), path))
        broken = least(entry) | {"no_such_key": 1}
        found.append(
            (
                f"{entry.word}-unknown key",
                piped(broken),
                AT + ".no_such_key",
            )
        )
    return found + _shapes()


def _shapes() -> list[tuple[str, dict[str, Any], str]]:
    """What is wrong with the tables around the policies."""
    one = of("timeout", seconds=1)
    shapes: list[tuple[str, dict[str, Any], str]] = [
        ("top-unknown key", {"pipeline": {}}, "pipeline"),
        ("environment-number", {"environment": 1}, "environment"),
        ("environment-space", {"environment": "in production"}, "environment"),
        ("breakers-array", {"breakers": [1]}, "breakers"),
        ("breakers-text", {"breakers": "x"}, "breakers"),
        ("breakers.name-space", {"breakers": {"a b": breaker()}}, "breakers.a b"),
        ("breakers.name-empty", {"breakers": {"": breaker()}}, "breakers."),
        ("breakers.x-number", {"breakers": {"x": 1}}, "breakers.x"),
        ("breakers.x-type", {"breakers": {"x": breaker(type="circuit_breaker")}}, "breakers.x.type"),
        ("breakers.x.preset-unknown", {"breakers": {"x": {"preset": "domain/databases"}}}, "breakers.x.preset"),
        ("breakers.x.preset-other", {"breakers": {"x": {"preset": "http_client"}}}, "breakers.x.preset"),
        ("policies-array", {"policies": []}, "policies"),
        ("policies.x-no type", {"policies": {"x": {"limit": 1}}}, "policies.x.type"),
        ("policies.x-stateless", {"policies": {"x": one}}, "policies.x.type"),
        ("policies.x-same name", {"breakers": {"x": breaker()}, "policies": {"x": of("bulkhead", limit=1)}},
         "policies.x"),
        ("pipelines-number", {"pipelines": 7}, "pipelines"),
        ("pipelines.x-array", {"pipelines": {"x": [one]}}, "pipelines.x"),
        ("pipelines.x-empty", {"pipelines": {"x": {}}}, "pipelines.x.policies"),
        ("pipelines.x.policies-empty", {"pipelines": {"x": {"policies": []}}}, "pipelines.x.policies"),
        ("pipelines.x.policies-text", {"pipelines": {"x": {"policies": "timeout"}}}, "pipelines.x.policies"),
        ("pipelines.x.policies-too many", {"pipelines": {"x": {"policies": [one] * 51}}},
         "pipelines.x.policies"),
        ("pipelines.x.policies-changes of nothing", {"pipelines": {"x": {"policies": {"retry": {}}}}},
         "pipelines.x.policies"),
        ("pipelines.x.policies-number inside", {"pipelines": {"x": {"policies": [1]}}}, FIRST),
        ("pipelines.x.policies-no type", {"pipelines": {"x": {"policies": [{"seconds": 1}]}}}, FIRST + ".type"),
        ("pipelines.x.policies-other type", {"pipelines": {"x": {"policies": [of("timeout_", seconds=1)]}}},
         FIRST + ".type"),
        ("pipelines.x.policies-type list", {"pipelines": {"x": {"policies": [of(["timeout"])]}}}, FIRST + ".type"),
        ("pipelines.x.use-unknown", piped({"use": "nobody"}), AT + ".use"),
        ("pipelines.x.use-number", piped({"use": 1}), AT + ".use"),
        ("pipelines.x.use-more", piped({"use": "catalogue", "mode": "off"}), AT + ".mode"),
        ("pipelines.x.use-itself", piped({"use": "catalogue"}), "pipelines.catalogue"),
        ("pipelines.x.mode-other", piped(one, mode="maybe"), "pipelines.catalogue.mode"),
        ("pipelines.x.preset-unknown pair", piped(one, preset="production/low"), "pipelines.catalogue.preset"),
        ("pipelines.x.preset-number", piped(one, preset=1), "pipelines.catalogue.preset"),
        ("pipelines.x.preset-table", {"pipelines": {"x": {"preset": {"environment": "production"}}}},
         "pipelines.x.preset"),
        ("pipelines.x.accept-text", piped(one, accept="nested-retries"), "pipelines.catalogue.accept"),
        ("pipelines.x.accept-other", piped(one, accept=["nested-retry"]), "pipelines.catalogue.accept[0]"),
        ("pipelines.x.calls-other", piped(one, calls=["nobody"]), "pipelines.catalogue.calls[0]"),
        ("pipelines.x.calls-number", piped(one, calls=3), "pipelines.catalogue.calls"),
        ("pipelines.x-unknown key", piped(one, polices=[]), "pipelines.catalogue.polices"),
        ("pipelines.x-same breaker twice", piped(*[of("circuit_breaker", on="OSError")] * 2),
         "pipelines.catalogue.policies[1]"),
        ("pipelines.x-change of nobody", {"pipelines": {"x": {"preset": "llm", "policies": {"retri": {}}}}},
         "pipelines.x.policies.retri"),
        ("pipelines.x-change is no table", {"pipelines": {"x": {"preset": "llm", "policies": {"retry": 3}}}},
         "pipelines.x.policies.retry"),
    ]  # fmt: skip
    return shapes
