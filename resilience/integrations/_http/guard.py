"""
The pipeline of one host, and what every adapter is told the same way: options, a name, listeners, a pipeline instead.

Hosts come from URLs, and URLs from anywhere: the guards are a family of a registry, which is bounded and forgets no
circuit that is open or in use.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias, TypedDict, Unpack, final

import attrs

from resilience.config.config import PREFIX
from resilience.config.modes import MADE_IN_CODE
from resilience.config.observing import Observed, ObservedTimeout
from resilience.config.sources import normal
from resilience.config.table import MODES
from resilience.core.backoff import FullJitter
from resilience.core.headers import as_timeout
from resilience.core.trips import FailureRate
from resilience.core.windows import TimeWindow
from resilience.doors import Policy
from resilience.errors import ConfigurationError
from resilience.events import LISTENER, Listener
from resilience.integrations._http.exchange import Exchange, Repeat
from resilience.integrations._http.options import HttpOptions
from resilience.pipeline import Pipeline, flat, without_warnings
from resilience.policies.bulkhead import Bulkhead
from resilience.policies.circuit_breaker import CircuitBreaker
from resilience.policies.rate_limit import RateLimit
from resilience.policies.retry import Retry
from resilience.policies.timeout import Timeout
from resilience.registry import Family, LivePipeline, Registry
from resilience.registry.families import breakers_in, label_of
from resilience.validation import Allowed, check, count, instance, is_function, name, one_of

__all__ = ["FIELDS_OF_ADAPTERS", "Adapter", "Dialect", "Mode", "Settings", "pushback"]


@final
@attrs.frozen
class Dialect:
    """
    How a client's answers are judged.

    Attributes:
        failed: Whether an error tells that the dependency is in trouble. All others count as nothing: they are the
            caller's, or of a pool that is exhausted.
        status: The status of a response.
    """

    failed: Callable[[Exception], bool]
    status: Callable[[Any], int]


Mode: TypeAlias = Literal["off", "observe", "enforce"]


class Settings(TypedDict):
    """What every adapter takes besides its options."""

    name: str
    pipeline: Callable[[str], Pipeline[Any]] | None
    max_hosts: int
    listeners: Iterable[Listener]
    registry: Registry | None
    mode: Mode | None


FIELDS_OF_ADAPTERS: dict[str, Allowed] = {
    "options": instance(HttpOptions, "HttpOptions"),
    "name": name(),
    "pipeline": one_of(
        "None or a function of the host's name that returns a Pipeline, not async",
        lambda value: value is None or (is_function(value) and not isinstance(value, Pipeline)),
        {"number": 1, "text": "standard", "class": Pipeline, "pipeline": Pipeline()},
    ),
    "max_hosts": count(high=10**6),
    "listeners": LISTENER,
    "registry": instance(Registry, "a Registry", none=True),
    "mode": one_of(
        "None, 'off', 'observe' or 'enforce'",
        lambda value: value is None or (isinstance(value, str) and value in MODES),
        {"number": 1, "flag": False, "other word": "dry"},
    ),
}
"""What each argument of an adapter takes; of ``listeners``, each element."""

_A_MODE = one_of("off, observe or enforce", lambda value: value in MODES, {})
_A_PIPELINE = instance(Pipeline, "a function of the host's name that returns a Pipeline")


class Adapter:
    """What the adapters of all clients have."""

    def __init__(
        self, dialect: Dialect, options: HttpOptions | None, **settings: Unpack[Settings]
    ) -> None:
        owner = type(self).__name__
        self._options = HttpOptions() if options is None else options
        for field, value in {"options": self._options, **settings}.items():
            if field != "listeners":
                check(f"{owner}.{field}", value, FIELDS_OF_ADAPTERS[field])
        given = settings["listeners"]
        several = isinstance(given, Iterable) and not callable(given) and not isinstance(given, str)
        listeners: tuple[Any, ...] = tuple(given) if several else (given,)
        for place, each in enumerate(listeners):
            check(f"{owner}.listeners[{place}]", each, FIELDS_OF_ADAPTERS["listeners"])
        self._name = settings["name"]
        build = _Build(
            owner,
            self._name,
            dialect,
            self._options,
            settings["pipeline"],
            listeners,
            settings["mode"] or _mode_of(self._name),
        )
        registry = Registry() if settings["registry"] is None else settings["registry"]
        self._hosts = registry.family(self._name, build, max_keys=settings["max_hosts"])

    @property
    def hosts(self) -> Family[LivePipeline]:
        """The pipeline of each host: ``hosts["example.org"]``."""
        return self._hosts

    @property
    def breakers(self) -> tuple[CircuitBreaker, ...]:
        """The circuit breakers of the hosts asked so far."""
        return tuple(found for _, each in self._hosts.items() for found in breakers_in(each))

    def _tell_the_time(self, attempt: Any, exchange: Exchange) -> None:
        """The server need not work on what nobody will wait for."""
        header = self._options.timeout_header
        if header is None:
            return
        if exchange.timed is None:
            exchange.timed = header in attempt.headers
        if not exchange.timed and (left := exchange.remaining()) < math.inf:
            attempt.headers = attempt.headers.copy()  # the request's own stay as they are
            attempt.headers[header] = as_timeout(left)

    def _obstacle(self, exchange: Exchange) -> str | None:
        request, options = exchange.request, self._options
        if request.method not in options.methods and not any(
            header in request.headers for header in options.idempotency_headers
        ):
            return f"{request.method} is not repeated without an idempotency key"
        if exchange.body is not None and exchange.body.taken:
            return "a body that can be read only once is not sent again"
        return None


@final
@attrs.frozen
class _Build:
    """Makes the pipeline of a host. Two that say the same are equal, so that two clients may share a family."""

    owner: str
    label: str
    dialect: Dialect
    options: HttpOptions
    pipeline: Callable[[str], Pipeline[Any]] | None
    listeners: tuple[Any, ...]
    mode: Mode

    def __repr__(self) -> str:
        return repr(self.options if self.pipeline is None else self.pipeline)

    def __call__(self, host: str) -> Pipeline[Any]:
        called = label_of(self.label, host)
        if self.pipeline is None:
            made: Iterable[Policy[Any] | Pipeline[Any]] = _policies(
                called, self.dialect, self.options
            )
        else:
            own = self.pipeline(host)
            check(f"{self.owner}.pipeline", own, _A_PIPELINE)
            if (keeper := own._keeper()) is not None:  # noqa: SLF001 - our own class
                raise ConfigurationError(
                    f"{self.owner}.pipeline",
                    got=f"{keeper}, which gives one response to several callers",
                    allowed="a pipeline in which every call has its own",
                )
            made, called = [own], own.name or called
        if self.mode == "off":
            made = []
        elif self.mode == "observe":
            made = [seen for each in flat(made) for seen in _observing(each)]
        with without_warnings():  # its maker has told what there is to tell, or knows
            return Pipeline(*made, Repeat(), name=called, listeners=self.listeners)


def _observing(policy: Policy[Any]) -> list[Policy[Any]]:
    """What learns and tells, and changes nothing of a call; nothing, where that cannot be had."""
    match policy:
        case CircuitBreaker():
            policy.observe()
            return [policy]
        case Timeout(seconds=float(seconds)):
            return [ObservedTimeout(seconds)]
        case Bulkhead(queue=0) | RateLimit(max_wait=0.0):
            return [Observed(policy)]  # one that lets calls wait would delay them
        case _:
            return []


def _mode_of(name: str) -> Mode:
    """What ``RESILIENCE_<NAME>_MODE`` says, or that everything acts."""
    MADE_IN_CODE.add(normal(name))
    variable = f"{PREFIX}_{normal(name)}_MODE"
    said = os.environ.get(variable, "enforce").strip().lower()
    check(variable, said, _A_MODE)
    return said  # type: ignore[return-value]  # checked just now


def pushback(source: Any) -> Any:
    """When to come back: in milliseconds, as some APIs say it more exactly, or ``Retry-After``."""
    headers = getattr(source, "headers", None)
    if headers is None:
        return None  # an error
    exact = headers.get("retry-after-ms", "")
    if exact.isascii() and exact.isdigit() and len(exact) <= 10:  # noqa: PLR2004 - as for seconds
        return int(exact) / 1000
    return headers.get("retry-after")


def _policies(called: str, dialect: Dialect, options: HttpOptions) -> list[Policy[Any]]:
    """Outermost first, in the order of Microsoft's standard handler."""
    failed, status = dialect.failed, dialect.status

    def worth_another(response: Any) -> bool:
        said = response.headers.get("x-should-retry")
        # APIs that say this know better than their statuses; of what succeeded nobody is asked.
        if said in {"true", "false"} and status(response) >= 400:  # noqa: PLR2004 - RFC 9110, 15
            return bool(said == "true")
        return status(response) in options.retry_statuses

    def failing(response: Any) -> bool:
        return status(response) in options.failure_statuses

    worth_another.__qualname__, failing.__qualname__ = "worth_another", "failing"
    attempt = options.attempt_timeout
    policies: list[Policy[Any]] = []
    if options.limit is not None:
        policies.append(Bulkhead(options.limit, name=called))
    if options.total_timeout is not None:
        policies.append(Timeout(options.total_timeout))
    if options.attempts > 1:
        policies.append(
            Retry(
                options.attempts,
                on=failed,
                on_result=worth_another,
                wait=FullJitter(options.backoff, options.max_delay),
                max_delay=options.max_delay,
                retry_after=pushback,
            )
        )
    policies.append(
        CircuitBreaker(
            called,
            on=failed,
            ignore=lambda error: not failed(error),
            on_result=failing,
            trip=FailureRate(
                options.failure_ratio,
                TimeWindow(options.window),
                minimum_calls=options.minimum_calls,
            ),
            break_duration=options.break_duration,
            probe_lease=max(60.0, attempt or 0.0),
        )
    )
    if attempt is not None:
        policies.append(Timeout(attempt))
    return policies
