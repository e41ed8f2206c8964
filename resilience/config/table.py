"""
What a configuration may hold, in one table: each policy with its keys, and the values that are tables themselves.

To make a new policy configurable is one line in `POLICIES`. Keys whose validator is of the usual sort (a duration, a
count, a ratio, a flag, a name) are found in the class; the line names the others, or leaves them out: what can only be
a function cannot come from a file.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, final

import attrs

from resilience import errors
from resilience.budgets import RetryBudget
from resilience.config.kinds import (
    BROKEN,
    Choice,
    Context,
    Count,
    Data,
    Either,
    Errors,
    Fields,
    Flag,
    Kind,
    Name,
    Named,
    Number,
    OneError,
    Record,
    Schema,
    Seconds,
    Variants,
    Vow,
    kind_of,
)
from resilience.config.mistakes import Path
from resilience.config.observing import Observed, ObservedTimeout
from resilience.core.backoff import FullJitter
from resilience.core.latency import Quantile
from resilience.core.limits import AIMD, Gradient2, Vegas
from resilience.core.load import LEVELS
from resilience.core.trips import ConsecutiveFailures, FailureRate, SlowRate, Trip
from resilience.core.windows import CountWindow, TimeWindow
from resilience.doors import Policy
from resilience.policies.bulkhead import Bulkhead
from resilience.policies.chaos import Chaos
from resilience.policies.circuit_breaker import CircuitBreaker
from resilience.policies.concurrency_limit import ConcurrencyLimit
from resilience.policies.fallback import Fallback
from resilience.policies.hedge import Hedge
from resilience.policies.last_good import LastGood
from resilience.policies.rate_limit import RateLimit
from resilience.policies.retry import Retry
from resilience.policies.single_flight import SingleFlight
from resilience.policies.throttle import Throttle
from resilience.policies.timeout import Timeout
from resilience.validation import Allowed

__all__ = [
    "ACCEPTABLE",
    "BUDGET",
    "ERRORS", "MODES", "POLICIES", "REFERENCES", "PolicyType", "known_errors",
]  # fmt: skip

MODES = ("off", "observe", "enforce")
MODE = Choice(MODES)
ACCEPTABLE = (
    "chaos-outside",
    "flight-inside-breaker",
    "flight-without-timeout",
    "wait-does-not-fit",
    "break-below-attempt",
    "breaker-without-timeout",
    "fallback-inside-breaker",
    "fallback-inside-retry",
    "fallback-never-used",
    "hedge-around-breaker",
    "hedge-multiplies",
    "hedge-too-late",
    "nested-retries",
    "never-slow",
    "retries-do-not-fit",
    "retry-inside-breaker",
    "slow-to-close",
    "threshold-below-attempts",
)
"""Codes of warnings that a pipeline may accept."""

# ------------------------------------------------------------------------------------ exception classes

_GROUPS: Mapping[str, tuple[type[Exception], ...]] = {
    "network": (ConnectionError, TimeoutError),
}


def _exceptions_of(namespace: Mapping[str, object]) -> dict[str, tuple[type[Exception], ...]]:
    return {
        name: (kind,)
        for name, kind in namespace.items()
        if isinstance(kind, type)
        and issubclass(kind, Exception)
        and not issubclass(kind, Warning)
        and name == kind.__name__
    }


ERRORS: Mapping[str, tuple[type[Exception], ...]] = (
    _exceptions_of(vars(builtins))
    | {
        name: kinds
        for name, kinds in _exceptions_of(vars(errors)).items()
        if name in errors.__all__
    }
    | dict(_GROUPS)
)
"""Names that any file may use in ``on`` and ``ignore``."""


def known_errors(
    registered: Mapping[str, type[Exception] | tuple[type[Exception], ...]],
) -> dict[str, tuple[type[Exception], ...]]:
    """`ERRORS`, and those that the program registered."""
    return dict(ERRORS) | {
        name: kinds if isinstance(kinds, tuple) else (kinds,) for name, kinds in registered.items()
    }


# ---------------------------------------------------------------------------------- values that are tables


def _fields(kind: type, **given: Kind | None) -> Fields:
    """The keys of a class of options: by its validators, and *given*; None leaves one out."""
    kinds: dict[str, Kind] = {}
    required: list[str] = []
    for field in attrs.fields(kind):
        if not field.init:
            continue
        shape = field.validator.shape if isinstance(field.validator, Allowed) else None
        found = given[field.name] if field.name in given else kind_of(shape)
        if found is None:
            continue
        kinds[field.name] = found
        if field.default is attrs.NOTHING:
            required.append(field.name)
    return Fields(kinds, tuple(required))


@final
@attrs.frozen
class _Made:
    """A plain value that becomes an object."""

    kind: Kind
    build: Callable[[Any], Any]

    @property
    def text(self) -> str:
        return self.kind.text

    @property
    def breaches(self) -> Mapping[str, object]:
        return self.kind.breaches

    @property
    def example(self) -> object:
        return self.kind.example

    def read(self, value: Any, path: Path, context: Context) -> Any:
        read = self.kind.read(value, path, context)
        return self.build(read) if isinstance(read, float) else read

    def schema(self, errors: Mapping[str, object]) -> Schema:
        return self.kind.schema(errors)


@final
@attrs.frozen
class _Reference:
    """A kind that may hold itself, or that is used in many places: JSON Schema has it once."""

    name: str

    @property
    def text(self) -> str:
        return REFERENCES[self.name].text

    @property
    def breaches(self) -> Mapping[str, object]:
        return REFERENCES[self.name].breaches

    @property
    def example(self) -> object:
        return REFERENCES[self.name].example

    def read(self, value: Any, path: Path, context: Context) -> Any:
        return REFERENCES[self.name].read(value, path, context)

    def schema(self, errors: Mapping[str, object]) -> Schema:  # noqa: ARG002
        return {"$ref": f"#/$defs/{self.name}"}


_MOST_PARTS = 10
_TRIP_EXAMPLE = {"type": "consecutive_failures", "n": 5}


@final
@attrs.frozen
class _ListOf:
    """An array, at least of two."""

    kind: Kind

    @property
    def text(self) -> str:
        return f"an array of 2 to {_MOST_PARTS}, each {self.kind.text}"

    @property
    def example(self) -> object:
        return [dict(_TRIP_EXAMPLE), {"type": "failure_rate", "ratio": 0.5}]

    @property
    def breaches(self) -> Mapping[str, object]:
        found: dict[str, object] = {
            "number": 1, "table": {}, "empty": [], "one": [_TRIP_EXAMPLE],
            "too many": [_TRIP_EXAMPLE] * (_MOST_PARTS + 1),
        }  # fmt: skip
        one = dict(_TRIP_EXAMPLE)
        return found | {"number inside": [one, 1], "no type inside": [{"n": 1}, one]}

    def read(self, value: Any, path: Path, context: Context) -> Any:
        if not isinstance(value, list) or not 2 <= len(value) <= _MOST_PARTS:  # noqa: PLR2004 - two make a pair
            context.mistakes.add(path, value, self.text)
            return BROKEN
        read = [self.kind.read(each, (*path, place), context) for place, each in enumerate(value)]
        return BROKEN if any(each is BROKEN for each in read) else read

    def schema(self, errors: Mapping[str, object]) -> Schema:
        return {
            "type": "array", "items": self.kind.schema(errors), "minItems": 2, "maxItems": _MOST_PARTS,
        }  # fmt: skip


_WINDOWS = Either(
    _Made(Seconds(), TimeWindow),
    Variants(
        "window",
        {
            "time": Record("a time window", _fields(TimeWindow), TimeWindow, {"seconds": "30s"}),
            "count": Record("a count window", _fields(CountWindow), CountWindow, {"calls": 100}),
        },
    ),
)


_WINDOW = _Reference("window")


def _joined(sign: str) -> Callable[..., Any]:
    def join(of: list[Trip]) -> Trip:
        whole = of[0]
        for part in of[1:]:
            whole = whole | part if sign == "any" else whole & part
        return whole

    return join


_PARTS = Fields({"of": _ListOf(_Reference("trip"))}, ("of",))
_PAIR = {"of": [{"type": "consecutive_failures", "n": 5}, {"type": "failure_rate", "ratio": 0.5}]}
_TOO_FEW = {"ratio": 0.5, "window": {"type": "count", "calls": 5}, "minimum_calls": 6}

_TRIP = Variants(
    "trip",
    {
        "consecutive_failures": Record(
            "a number of failures in a row", _fields(ConsecutiveFailures), ConsecutiveFailures, {"n": 5}
        ),
        "failure_rate": Record(
            "a share of failures", _fields(FailureRate, window=_WINDOW), FailureRate, {"ratio": 0.5},
            {"more calls than the window holds": _TOO_FEW},
        ),
        "slow_rate": Record(
            "a share of slow calls", _fields(SlowRate, window=_WINDOW), SlowRate, {"ratio": 0.5, "slower_than": "2s"},
            {"more calls than the window holds": _TOO_FEW | {"slower_than": 1}},
        ),
        "any": Record("one of several", _PARTS, _joined("any"), _PAIR),
        "all": Record("all of several", _PARTS, _joined("all"), _PAIR),
    },
)  # fmt: skip
REFERENCES: dict[str, Kind] = {"trip": _TRIP, "window": _WINDOWS}


def _tenacity(strategy: str) -> Callable[..., Any]:
    def build(**options: Any) -> Any:
        import tenacity.wait  # noqa: PLC0415 - not before somebody asks for it

        return getattr(tenacity.wait, strategy)(**options)

    return build


def _exponential_jitter(*, initial: float = 1.0, **options: Any) -> Any:
    # tenacity calls it multiplier, and warns of the name that says what it is.
    return _tenacity("wait_exponential_jitter")(multiplier=initial, **options)


_TIME, _SOME = Seconds(zero=True), Seconds()
_WAIT = _Reference("wait")
REFERENCES["wait"] = Variants(
    "wait",
    {
        "full_jitter": Record(
            "full jitter", _fields(FullJitter), FullJitter, {"initial": "100ms", "cap": "5s"}
        ),
        "fixed": Record(
            "always the same",
            Fields({"seconds": _TIME}, ("seconds",)),
            lambda seconds: _tenacity("wait_fixed")(wait=seconds),
            {"seconds": "1s"},
        ),
        "random": Record(
            "anything between",
            Fields({"min": _TIME, "max": _SOME}, ("max",)),
            _tenacity("wait_random"),
            {"min": 0, "max": "2s"},
        ),
        "exponential": Record(
            "twice as long each time, without chance",
            Fields(
                {"multiplier": _SOME, "min": _TIME, "max": _SOME, "exp_base": Number(high=100.0)},
                (),
            ),
            _tenacity("wait_exponential"),
            {"multiplier": "500ms", "max": "10s"},
        ),
        "exponential_jitter": Record(
            "twice as long each time, and a bit more",
            Fields(
                {"initial": _SOME, "max": _SOME, "exp_base": Number(high=100.0), "jitter": _TIME},
                (),
            ),
            _exponential_jitter,
            {"initial": "500ms", "max": "10s", "jitter": "1s"},
        ),
        "incrementing": Record(
            "longer by the same each time",
            Fields({"start": _TIME, "increment": _TIME, "max": _SOME}, ()),
            _tenacity("wait_incrementing"),
            {"start": "1s", "increment": "1s", "max": "10s"},
        ),
    },
)

# ------------------------------------------------------------------------------------------------ policies

Observing: TypeAlias = "Callable[[Policy], Policy] | str"


@final
@attrs.frozen
class PolicyType:
    """
    One policy as a configuration knows it.

    Attributes:
        word: The value of ``type``.
        cls: Its class.
        fields: Its keys, without those that every policy has.
        observe: Makes the one that only observes out of an enforcing one; or the sentence that says why there is none.
        quietly: Options of the observing one, so that it does not wait.
        doc: What it does, for the reference.
        least: Of an example, what it needs besides the required keys.
    """

    word: str
    cls: Any
    fields: Fields
    observe: Observing
    doc: str
    quietly: Mapping[str, Any] = attrs.field(factory=dict)
    least: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def named(self) -> bool:
        """Whether it has a name of its own, and so, state."""
        return any(field.name == "name" for field in attrs.fields(self.cls))

    def whole(self) -> Fields:
        """Its keys, with ``type``, ``name`` and ``mode``."""
        common: dict[str, Kind] = {"type": Choice((self.word,)), "name": Name(), "mode": MODE}
        return Fields(common | dict(self.fields.kinds), self.fields.required)

    def whole_schema(self, errors: Mapping[str, object]) -> Schema:
        """The JSON Schema of a table with this ``type``."""
        schema = self.whole().schema(errors)
        if isinstance(self.observe, str):
            schema["properties"]["mode"] = {"enum": ["off", "enforce"]}
        return schema | {"required": ["type", *self.fields.required]}


def _policy(
    word: str, cls: Any, observe: Observing, doc: str, *, quietly: Mapping[str, Any] | None = None,
    least: Mapping[str, Any] | None = None, **given: Kind | None
) -> PolicyType:  # fmt: skip
    fields = _fields(cls, **given)
    return PolicyType(word, cls, fields, observe, doc, quietly or {}, least or {})


REFERENCES["quantile"] = Variants(
    "quantile",
    {"quantile": Record("a share of the calls seen", _fields(Quantile), Quantile, {"ratio": 0.95})},
)

_LIMITS = {"initial": 2, "minimum": 1, "maximum": 3}
REFERENCES["algorithm"] = Variants(
    "algorithm",
    {
        "aimd": Record("additive increase, multiplicative decrease", _fields(AIMD), AIMD, _LIMITS),
        "vegas": Record("a queue estimated from latencies", _fields(Vegas), Vegas, {"initial": 2, "maximum": 3}),
        "gradient2": Record(
            "latency against its long average",
            _fields(Gradient2, tolerance=Number(1.0, 1000.0, least=True)), Gradient2, _LIMITS,
        ),
    },
)  # fmt: skip

_ON = Errors()
_IGNORE = Errors(empty=True)

BUDGET = Record("a table", _fields(RetryBudget, ttl=Seconds()), RetryBudget, {"ratio": 0.2})
"""A table under ``budgets``."""

POLICIES: Mapping[str, PolicyType] = {
    entry.word: entry
    for entry in (
        _policy(
            "timeout", Timeout, lambda policy: ObservedTimeout(policy.seconds),  # type: ignore[attr-defined]  # a Timeout
            "ends a call, or an attempt, in time",
        ),
        _policy(
            "retry", Retry, "whether another attempt succeeds is known only by making it",
            "tries again what may succeed",
            on=_ON, wait=_WAIT, retry_after=Flag(), budget=Named("budgets"),
        ),
        _policy(
            "circuit_breaker", CircuitBreaker, Observed,
            "stops asking a dependency that keeps failing",
            on=_ON, ignore=_IGNORE, trip=_Reference("trip"), break_duration=Either(Seconds(), _WAIT),
        ),
        _policy(
            "bulkhead", Bulkhead, Observed, "lets so many calls run at once",
            quietly={"queue": 0}, weight=Count(high=10**6),
        ),
        _policy(
            "rate_limit", RateLimit, Observed, "lets so many calls begin in so much time",
            quietly={"max_wait": 0.0}, rate=Number(high=1e9), weight=Count(high=10**6),
        ),
        _policy(
            "single_flight", SingleFlight, "a call that shares an answer is not made",
            "makes one call of several that ask for the same",
        ),
        _policy(
            "chaos", Chaos, "what it does to calls is all it does",
            "does to some calls what a dependency may do one day",
            rate=Number(least=True), fault=OneError(), latency=Seconds(), result=Data(), enabled=Flag(),
            least={"latency": "1ms"},
        ),
        _policy(
            "concurrency_limit", ConcurrencyLimit, Observed, "finds out how many calls at once the dependency can take",
            on=_ON, ignore=_IGNORE, algorithm=_Reference("algorithm"),
        ),
        _policy(
            "throttle", Throttle, Observed, "turns calls away as far as the dependency does",
            on=_ON, ignore=_IGNORE, k=Number(1.0, 1000.0, least=True), priority=Count(0, LEVELS - 1),
        ),
        _policy(
            "hedge", Hedge, "another attempt is made or it is not",
            "begins another attempt beside a slow one",
            on=_ON, after=Either(Seconds(zero=True), _Reference("quantile")), idempotent=Vow(), budget=Named("budgets"),
        ),
        _policy(
            "fallback", Fallback, "what it would answer with is what the caller would get",
            "answers with a value where a call fails",
            value=Data(), on=_ON,
        ),
        _policy(
            "last_good", LastGood, "what it would answer with is what the caller would get",
            "answers with the last good answer where a call fails",
            on=_ON,
        ),
    )
}  # fmt: skip
"""Every policy that a configuration may hold. Its name, its mode and its type are keys of all of them."""
