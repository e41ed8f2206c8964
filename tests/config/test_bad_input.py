"""
Bad input: one clear error for every rule of every field, where it was written.

The pairs of field and broken rule are generated from the options' own definitions: each validator carries a value for
each rule it enforces. A field without a validator, or a validator without rules, fails here.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import attrs
import pytest
import tenacity

import resilience
from resilience import (
    AIMD,
    Bulkhead,
    Chaos,
    CircuitBreaker,
    ConcurrencyLimit,
    ConfigurationError,
    ConsecutiveFailures,
    CountWindow,
    FailureRate,
    Fallback,
    FullJitter,
    Gradient2,
    Hedge,
    LastGood,
    Pipeline,
    Quantile,
    RateLimit,
    ResilienceError,
    Retry,
    RetryBudget,
    SingleFlight,
    SlowRate,
    Throttle,
    Timeout,
    TimeWindow,
    Vegas,
)
from resilience.pipeline import FIELDS
from resilience.testing import Recorder, run
from resilience.validation import Allowed

_names = itertools.count(1)

VALID: dict[type, Callable[[], dict[str, Any]]] = {
    Timeout: lambda: {"seconds": 1},
    Bulkhead: lambda: {"limit": 1},
    RateLimit: lambda: {"rate": 1},
    Throttle: dict,
    ConcurrencyLimit: dict,
    AIMD: dict,
    Vegas: dict,
    Gradient2: dict,
    Retry: lambda: {"on": OSError},
    CircuitBreaker: lambda: {"name": f"refused-{next(_names)}", "on": OSError},
    ConsecutiveFailures: dict,
    FailureRate: dict,
    SlowRate: lambda: {"ratio": 0.5, "slower_than": 1},
    CountWindow: lambda: {"calls": 100},
    TimeWindow: lambda: {"seconds": 30},
    FullJitter: dict,
    Fallback: lambda: {"value": None, "on": OSError},
    LastGood: lambda: {"ttl": 60},
    RetryBudget: dict,
    SingleFlight: dict,
    Chaos: lambda: {"rate": 0.1, "fault": OSError},
    Hedge: lambda: {"after": 1, "idempotent": True},
    Quantile: dict,
}
"""The least that each class of options takes."""


def _fields(kind: type) -> list[attrs.Attribute[Any]]:
    return [each for each in attrs.fields(kind) if each.init]


def _pairs() -> Iterator[Any]:
    for kind in VALID:
        for field in _fields(kind):
            for rule, value in field.validator.breaches.items():
                path = f"{kind.__name__}.{field.name}"
                yield pytest.param(
                    kind, field.name, value, field.validator.text, id=f"{path}-{rule}"
                )
    for name, allowed in FIELDS.items():
        for rule, value in allowed.breaches.items():
            yield pytest.param(Pipeline, name, value, allowed.text, id=f"Pipeline.{name}-{rule}")


PAIRS = list(_pairs())


def make(kind: type, field: str, value: object) -> object:
    """One of that class, with one field as given."""
    if kind is not Pipeline:
        return kind(**VALID[kind]() | {field: value})
    if field == "policies":
        return Pipeline(Timeout(1), value)
    return Pipeline(**{field: [value] if field == "listeners" else value})


def refused(kind: type, field: str, value: object) -> ConfigurationError:
    """The error it is refused with: one, of ours, and not in the course of handling another."""
    with pytest.raises(ConfigurationError) as caught:
        make(kind, field, value)
    error = caught.value
    assert type(error) is ConfigurationError
    assert error.__cause__ is None
    assert error.__context__ is None
    return error


@pytest.mark.parametrize(("kind", "field", "value", "allowed"), PAIRS)
def test_a_broken_rule_is_one_clear_error(kind, field, value, allowed):
    """Law 21, issue 2: the field's path, what it got and what is allowed, in one ConfigurationError."""
    error = refused(kind, field, value)
    place = {"policies": "[1]", "listeners": "[0]"}.get(field, "") if kind is Pipeline else ""

    assert f"{kind.__name__}.{field}{place}" == error.field
    assert allowed == error.allowed
    assert _shown(value) == error.got
    assert f"{error.field} must be {error.allowed}, got {error.got}" == str(error)


def _shown(value: object) -> str:
    """The value on one line of at most 80 characters."""
    text = repr(value).replace("\\", "\\\\") if "\\" in repr(value) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


@pytest.mark.parametrize(("kind", "field", "value", "allowed"), PAIRS)
def test_a_broken_rule_is_a_value_error_and_one_of_ours(kind, field, value, allowed):
    """Api, Errors: whoever catches ValueError, or ResilienceError, catches it."""
    with pytest.raises(ValueError, match="must be") as as_value_error:
        make(kind, field, value)
    with pytest.raises(ResilienceError):
        make(kind, field, value)

    assert str(as_value_error.value)


def test_there_are_as_many_pairs_as_promised():
    """Issue 2: at least 150 distinct pairs of field and rule, from the definitions."""
    distinct = {case.id for case in PAIRS}

    assert len(distinct) == len(PAIRS)
    assert len(distinct) >= 250


def test_every_field_has_rules_and_they_are_not_all_of_one_kind():
    """Instrument: a field that is added comes with a validator, and that with at least two values that break it."""
    for kind in VALID:
        for field in _fields(kind):
            assert isinstance(field.validator, Allowed), f"{kind.__name__}.{field.name}"
            assert len(field.validator.breaches) >= 2, f"{kind.__name__}.{field.name}"
    assert set(FIELDS) == set(inspect.signature(Pipeline).parameters)
    assert all(len(allowed.breaches) >= 2 for allowed in FIELDS.values())


def test_every_class_of_options_is_here():
    """Instrument: what the front door lets users configure is in the list above."""
    public = [getattr(resilience, name) for name in resilience.__all__]
    checked = {
        kind
        for kind in public
        if isinstance(kind, type)
        and attrs.has(kind)
        and any(isinstance(field.validator, Allowed) for field in attrs.fields(kind))
    }

    assert set(VALID) == checked


@pytest.mark.parametrize("kind", [*VALID, Pipeline])
def test_what_is_least_is_enough(kind):
    """Control: without the broken field the same construction is accepted, so the field is what is refused."""
    made = Pipeline(Timeout(1)) if kind is Pipeline else kind(**VALID[kind]())

    assert isinstance(made, kind)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (kind, field.name)
        for kind in VALID
        for field in _fields(kind)
        if "negative" in field.validator.breaches and "beyond a float" in field.validator.breaches
    ],
)
@pytest.mark.parametrize(
    "value",
    [
        -math.inf,
        -0.001,
        timedelta(seconds=-1),
        timedelta.min,
        "1s",
        b"1",
        [1.0],
        1j,
        False,
        ...,
    ],
    ids=repr,
)
def test_every_duration_is_checked_the_same_way(kind, field, value):
    """Law 21: negatives in any spelling, booleans, text and whatever else is no duration."""
    error = refused(kind, field, value)

    assert f"{kind.__name__}.{field}" == error.field
    assert "a finite number or a timedelta" in error.allowed


def test_a_timedelta_is_shown_in_seconds():
    """The unit of the error is the unit of the option."""
    error = refused(Timeout, "seconds", timedelta(minutes=-1))

    assert "-60.0" == error.got


def test_what_cannot_be_shown_is_still_named():
    """Law 6: a value whose repr raises, is long or spans lines becomes one short line."""

    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    class Long:
        def __repr__(self) -> str:
            return "one\ntwo\t" + "x" * 1000

    assert "<Hostile whose repr raises>" == refused(Timeout, "seconds", Hostile()).got
    shown = refused(Timeout, "seconds", Long()).got
    assert shown.startswith(r"one\ntwo\txxx")
    assert shown.endswith("...")
    assert 80 == len(shown)


# ------------------------------------------------------------------- not a field


CONTRADICTIONS: list[Any] = [
    pytest.param(
        lambda: FailureRate(0.5, CountWindow(5), minimum_calls=6),
        "FailureRate.minimum_calls",
        "6 with a window of 5 calls",
        "at most the calls of its window",
        id="more calls than the window holds",
    ),
    pytest.param(
        lambda: SlowRate(0.5, 1, CountWindow(5), minimum_calls=6),
        "SlowRate.minimum_calls",
        "6 with a window of 5 calls",
        "at most the calls of its window",
        id="more slow calls than the window holds",
    ),
    pytest.param(
        lambda: FailureRate(0.5, CountWindow(5)),
        "FailureRate.minimum_calls",
        "10 with a window of 5 calls",
        "at most the calls of its window",
        id="the default is more than the window holds",
    ),
    pytest.param(
        lambda: TimeWindow(0.1, buckets=10**6),
        "TimeWindow.buckets",
        "1000000 in 0.1 seconds",
        "few enough for a bucket to last a microsecond",
        id="buckets that no clock can tell apart",
    ),
    pytest.param(
        lambda: TimeWindow(5e-324),
        "TimeWindow.buckets",
        "10 in 4.94066e-324 seconds",
        "few enough for a bucket to last a microsecond",
        id="a window of no length",
    ),
    pytest.param(
        lambda: CircuitBreaker("never", on=()),
        "CircuitBreaker.on",
        "()",
        "at least one exception class where on_result is None",
        id="a breaker that nothing opens",
    ),
    pytest.param(
        lambda: Retry(on=()),
        "Retry.on",
        "()",
        "at least one exception class where on_result is None",
        id="a retry of nothing",
    ),
    pytest.param(
        lambda: Chaos(0.1),
        "Chaos",
        "none of them",
        "given a fault, a latency, a result or a behaviour, and not both a fault and a result",
        id="chaos of nothing",
    ),
    pytest.param(
        lambda: Fallback(None, on=()),
        "Fallback.on",
        "()",
        "at least one exception class where on_result is None",
        id="a fallback for nothing",
    ),
    pytest.param(
        lambda: LastGood(60, on=()),
        "LastGood.on",
        "()",
        "at least one exception class where on_result is None",
        id="a last good answer for nothing",
    ),
    pytest.param(
        lambda: Fallback.using(on=OSError),
        "Fallback.using",
        "()",
        "at least one async function",
        id="a fallback of no function",
    ),
    pytest.param(
        lambda: Fallback.using(_nothing, None, on=OSError),
        "Fallback.using[1]",
        "None",
        "an async function of the error and the call",
        id="a fallback of something else",
    ),
]


@pytest.mark.parametrize(("construct", "field", "got", "allowed"), CONTRADICTIONS)
def test_two_settings_that_contradict_each_other(construct, field, got, allowed):
    """Issue 2: the error names one of them and shows both."""
    with pytest.raises(ConfigurationError) as caught:
        construct()

    assert (field, got, allowed) == (caught.value.field, caught.value.got, caught.value.allowed)
    assert caught.value.__context__ is None


def _twice() -> Pipeline:
    breaker = CircuitBreaker("refused twice", on=OSError)
    return Pipeline(breaker, breaker, Timeout(1))


def _kept_twice() -> Pipeline:
    kept = LastGood(60)
    return Pipeline(kept, Timeout(1), kept)


def _flies_twice() -> Pipeline:
    flights = SingleFlight()
    return Pipeline(flights, flights, Timeout(1))


PIPELINES: list[Any] = [
    pytest.param(lambda: Pipeline(Timeout(2), Timeout(2)), "can never fire", id="equal timeouts"),
    pytest.param(lambda: Pipeline(Timeout(2), Timeout(3)), "can never fire", id="longer inside"),
    pytest.param(_twice, "stands twice in one pipeline", id="one breaker twice"),
    pytest.param(_kept_twice, "stands twice in one pipeline", id="one memory twice"),
    pytest.param(_flies_twice, "stands twice in one pipeline", id="a flight in itself"),
    pytest.param(
        lambda: Pipeline(CircuitBreaker("refused lease", on=OSError, probe_lease=1), Timeout(2)),
        "ends before Timeout\\(2.0\\)",
        id="a lease below the attempt timeout",
    ),
]


@pytest.mark.parametrize(("construct", "reason"), PIPELINES)
def test_policies_that_cannot_work_together(construct, reason):
    """Api, Pipeline: refused when it is built, with the pipeline as it was written."""
    with pytest.raises(ConfigurationError, match=reason) as caught:
        construct()

    assert "Pipeline" == caught.value.field
    assert caught.value.got.startswith("Pipeline(")
    assert caught.value.__context__ is None


def test_exchanging_what_is_not_there():
    """`replace` names how many it found."""
    with pytest.raises(ConfigurationError, match="0 candidates") as caught:
        Pipeline(Timeout(1)).replace(Retry(on=OSError))

    assert "Pipeline.replace" == caught.value.field


def test_a_backend_that_does_not_exist():
    """The testing kit names those that do."""
    with pytest.raises(ConfigurationError, match=r"run\.backend must be one of asyncio, .*trio"):
        run(_nothing, backend="twisted")


async def _nothing() -> None:
    """A main function."""


MIXED_UP: list[Any] = [
    pytest.param(
        lambda: Retry(on=OSError, wait=tenacity.stop_after_attempt(3)), "wait", id="a stop"
    ),
    pytest.param(lambda: Retry(on=OSError, wait=tenacity.retry_always), "wait", id="a retry"),
    pytest.param(lambda: Retry(on=OSError, stop=tenacity.wait_fixed(3)), "stop", id="a wait"),
    pytest.param(lambda: Retry(on=OSError, stop=tenacity.retry_never), "stop", id="another retry"),
    pytest.param(lambda: Retry(on=tenacity.wait_fixed(3)), "on", id="a wait for an error"),
    pytest.param(
        lambda: Retry(on=OSError, on_result=tenacity.stop_never),
        "on_result",
        id="a stop for a result",
    ),
]


@pytest.mark.parametrize(("construct", "field"), MIXED_UP)
def test_tenacitys_strategies_are_not_mixed_up(construct, field):
    """Law 28: they are all callables of one state, so one in the place of another would fail at the first error."""
    with pytest.raises(ConfigurationError) as caught:
        construct()

    assert f"Retry.{field}" == caught.value.field


@pytest.mark.parametrize(
    ("construct", "what"),
    [
        (lambda: Retry(OSError), "'on'"),
        (lambda: CircuitBreaker("no on"), "'on'"),
        (Timeout, "'seconds'"),
        (lambda: SlowRate(0.5), "'slower_than'"),
        (lambda: Retry(3, OSError), "positional"),
        (lambda: Retry(on=OSError, tries=3), "'tries'"),
        (lambda: Pipeline(retry=Retry(on=OSError)), "'retry'"),
    ],
    ids=["attempts", "breaker", "timeout", "slow", "positional", "unknown", "keyword"],
)
def test_what_is_left_out_or_unknown_is_pythons_error(construct, what):
    """Api: ``on`` is required; keywords only after the first; an unknown option is not taken."""
    with pytest.raises(TypeError, match=what):
        construct()


# --------------------------------------------------------------- what is accepted


def test_a_listener_on_its_own_is_one_listener():
    """A `Recorder` can be iterated over, for its events: passed bare it listens all the same."""
    recorder = Recorder()

    assert Pipeline(listeners=[recorder]) == Pipeline(listeners=recorder)


@pytest.mark.parametrize("listeners", ["log", 5, None])
def test_what_is_no_listener_nor_several(listeners):
    """Shown whole, not character by character."""
    with pytest.raises(ConfigurationError) as caught:
        Pipeline(listeners=listeners)

    assert repr(listeners) == caught.value.got
