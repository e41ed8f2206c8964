"""
The settings of an HTTP client's guard, with the numbers of Microsoft's standard handler as defaults.

Those are what ``Microsoft.Extensions.Http.Resilience`` gives every .NET service that asks for nothing else: tried at a
scale that no numbers of our own would have been.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Literal, final

import attrs

from resilience.config.presets import preset
from resilience.errors import ConfigurationError
from resilience.validation import (
    Allowed,
    as_optional_seconds,
    as_seconds,
    count,
    duration,
    one_of,
    ratio,
)

__all__ = ["STANDARD", "HttpOptions"]


def _standard() -> dict[str, Any]:
    steps = {each.get("name", each["type"]): each for each in preset("http_client")["policies"]}
    breaker = steps["circuit_breaker"]
    return {
        "limit": steps["bulkhead"]["limit"],
        "total_timeout": float(steps["total"]["seconds"]),
        "attempts": steps["retry"]["attempts"],
        "backoff": float(steps["retry"]["wait"]["initial"]),
        "max_delay": float(steps["retry"]["wait"]["cap"]),
        "failure_ratio": breaker["trip"]["ratio"],
        "window": float(breaker["trip"]["window"]),
        "minimum_calls": breaker["trip"]["minimum_calls"],
        "break_duration": float(breaker["break_duration"]),
        "attempt_timeout": float(steps["attempt"]["seconds"]),
        "statuses": frozenset({408, 429, *range(500, 600)}),
    }


STANDARD: dict[str, Any] = _standard()
"""The preset ``http_client``, and what Microsoft's handler takes for transient."""

IDEMPOTENT = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"})
"""RFC 9110, 9.2.2."""


def _as_set(value: Iterable[Any]) -> frozenset[Any]:
    given: Any = value
    try:
        return given if isinstance(given, str) else frozenset(given)  # type: ignore[return-value]
    except TypeError:  # not iterable, or what is in it not hashable: for the validator to judge
        return given  # type: ignore[no-any-return]


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}", re.ASCII)


def _is_token(text: str) -> bool:
    """RFC 9110, 5.6.2: what names of methods and headers are made of."""
    return _TOKEN.fullmatch(text) is not None


def _statuses() -> Allowed:
    def accepts(value: object) -> bool:
        return isinstance(value, frozenset) and all(
            type(each) is int and 100 <= each <= 599  # noqa: PLR2004 - RFC 9110, 15
            for each in value
        )

    return one_of(
        "status codes from 100 to 599",
        accepts,
        {"number": 503, "text": "503", "none": None, "text inside": {"503"}, "too high": {600}},
    )


def _tokens(what: str) -> Allowed:
    def accepts(value: object) -> bool:
        return isinstance(value, frozenset) and all(
            isinstance(each, str) and _is_token(each) for each in value
        )

    breaches = {"text": "GET", "none": None, "number inside": {1}, "empty": {""}, "space": {"a b"}}
    return one_of(what, accepts, breaches)


_HEADER = one_of(
    "None or the name of a header",
    lambda value: value is None or (isinstance(value, str) and _is_token(value)),
    {"number": 1, "empty": "", "line break": "a\nb", "colon": "a: b", "not ascii": "é"},
)
_VERDICT = one_of(
    "'headers' or 'body'",
    lambda value: value in {"headers", "body"} if isinstance(value, str) else False,
    {"none": None, "flag": True, "other word": "status"},
)


@final
@attrs.frozen(kw_only=True)
class HttpOptions:
    """
    How requests to one host are guarded: ``Bulkhead``, ``Timeout``, ``Retry``, ``CircuitBreaker``, ``Timeout``.

    Args:
        limit: Requests in flight at once, >= 1, or None for no limit. Default 1000.
        total_timeout: Seconds until the response's headers, all attempts and waits included, > 0, or None. Default 30.
        attempts: Attempts, the first included, >= 1; 1 is no retry. Default 4.
        backoff: Seconds, the longest wait after the first attempt; it doubles, and each wait is drawn between nothing
            and that. Default 2.
        max_delay: Seconds no wait exceeds, > 0. Default 30. A ``Retry-After`` beyond it stops the retry instead.
        failure_ratio: Share of failures, in (0, 1], that opens the circuit. Default 0.1.
        minimum_calls: Attempts in the window before the ratio means anything. Default 100.
        window: Seconds of the window, at least twice ``attempt_timeout``. Default 30.
        break_duration: Seconds the circuit stays open, > 0. Default 5.
        attempt_timeout: Seconds until the response's headers for one attempt, below ``total_timeout``, or None.
            Default 10.
        retry_statuses: Statuses worth another attempt. Default 408, 429 and 500 to 599.
        failure_statuses: Statuses that count against the circuit. Default the same.
        methods: Methods whose requests may be repeated. Default DELETE, GET, HEAD, OPTIONS, PUT, TRACE.
        idempotency_headers: Headers that make any request repeatable. Default ``Idempotency-Key`` and
            ``X-Idempotency-Key``.
        timeout_header: Header that tells the server, in gRPC's notation (``1500m``), what an attempt has left, such as
            ``grpc-timeout``; one that the request carries already is left alone. Default None: none.
        verdict: When a response counts: at its ``headers``, or at the end of its ``body``, which holds a place of
            ``probes`` that long and counts a body that breaks off as a failure. Default ``headers``.

    Raises:
        ConfigurationError: a value that is not allowed, or timeouts that contradict each other.
    """

    limit: int | None = attrs.field(default=STANDARD["limit"], validator=count(none=True))
    total_timeout: float | None = attrs.field(
        default=STANDARD["total_timeout"],
        converter=as_optional_seconds,
        validator=duration(none=True),
    )
    attempts: int = attrs.field(default=STANDARD["attempts"], validator=count())
    backoff: float = attrs.field(
        default=STANDARD["backoff"], converter=as_seconds, validator=duration(zero=True)
    )
    max_delay: float = attrs.field(
        default=STANDARD["max_delay"], converter=as_seconds, validator=duration()
    )
    failure_ratio: float = attrs.field(default=STANDARD["failure_ratio"], validator=ratio())
    minimum_calls: int = attrs.field(default=STANDARD["minimum_calls"], validator=count())
    window: float = attrs.field(
        default=STANDARD["window"], converter=as_seconds, validator=duration()
    )
    break_duration: float = attrs.field(
        default=STANDARD["break_duration"], converter=as_seconds, validator=duration()
    )
    attempt_timeout: float | None = attrs.field(
        default=STANDARD["attempt_timeout"],
        converter=as_optional_seconds,
        validator=duration(none=True),
    )
    retry_statuses: frozenset[int] = attrs.field(
        default=STANDARD["statuses"], converter=_as_set, validator=_statuses()
    )
    failure_statuses: frozenset[int] = attrs.field(
        default=STANDARD["statuses"], converter=_as_set, validator=_statuses()
    )
    methods: frozenset[str] = attrs.field(
        default=IDEMPOTENT, converter=_as_set, validator=_tokens("names of methods")
    )
    idempotency_headers: frozenset[str] = attrs.field(
        default=frozenset({"Idempotency-Key", "X-Idempotency-Key"}),
        converter=_as_set,
        validator=_tokens("names of headers"),
    )
    timeout_header: str | None = attrs.field(default=None, validator=_HEADER)
    verdict: Literal["headers", "body"] = attrs.field(default="headers", validator=_VERDICT)

    def __attrs_post_init__(self) -> None:
        attempt, total = self.attempt_timeout, self.total_timeout
        if attempt is None:
            return
        if total is not None and attempt >= total:
            raise ConfigurationError(
                "HttpOptions.attempt_timeout",
                got=f"{attempt:g} with total_timeout={total:g}",
                allowed="shorter than total_timeout",
            )
        if self.window < 2 * attempt:
            raise ConfigurationError(
                "HttpOptions.window",
                got=f"{self.window:g} with attempt_timeout={attempt:g}",
                allowed="at least twice attempt_timeout: a shorter one has forgotten a hang before it is over",
            )

    def replace(self, **changes: Any) -> HttpOptions:
        """The same with other values for some options."""
        return attrs.evolve(self, **changes)


Seconds = float | timedelta
