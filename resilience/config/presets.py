"""
Numbers to begin with, in one table, each with its source. An unknown name, or pair of names, is an error.

==================== ==================================================================================================
``http_client``      Microsoft.Extensions.Http.Resilience, the standard resilience handler: 1000 calls at once, 30 s in
                     all, three retries (four attempts) from 2 s, doubling, with jitter and Retry-After; a circuit that
                     opens at 10 % of at least 100 calls in 30 s, for 5 s; 10 s for an attempt. Where every attempt
                     times out, the total ends the third, and a break is shorter than an attempt: Microsoft's numbers,
                     and accepted here.
``database``         Production policies for a database: five attempts from 0.5 s, at most 30 s apart, 60 s in all; five
                     failures in a row open it for 60 s. 10 s for an attempt.
``llm``              Production policies for language models: four attempts from 2 s, at most 120 s apart, 300 s in all;
                     open for 180 s. 60 s for an attempt. The source opens at three failures: see below.
environment/tier     Policy templates by environment and tier (failures, break, attempts, first wait):
                     production/critical 3, 10 s, 5, 0.5 s; production/high 5, 30 s, 3, 1 s; production/medium 10, 60 s,
                     2, 2 s; staging/medium 10, 60 s, 2, 1 s. An attempt has 10 s in production, 12 s in staging.
                     The total is what all attempts and the longest waits need, rounded up.
domain/...           Breakers by domain (failures, break, probes; two successes close): database 3, 30 s, 2;
                     external_api 5, 60 s, 3; llm 2, 120 s, 1; cache 10, 15 s, 5; file_system 3, 45 s, 2; network 5,
                     30 s, 3; auth 5, 60 s, 1; agent 3, 60 s, 2; websocket 5, 5 s, 1 (the last one is our own: who
                     waits for a connection is waiting).
==================== ==================================================================================================

The policies, templates and domains are those of the production system that `resilience.compat` speaks for. Two numbers
differ, because a circuit that opens at fewer failures than one call makes attempts is opened by one call: it takes five
failures in production/critical, and four in ``llm``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from resilience.config.mistakes import nearest
from resilience.errors import ConfigurationError

__all__ = ["BREAKER_PRESETS", "PIPELINE_PRESETS", "preset"]

_ON = ["network"]


def _jitter(initial: float, cap: float) -> dict[str, Any]:
    return {"type": "full_jitter", "initial": initial, "cap": cap}


def _guard(
    *, total: float, attempts: int, first: float, cap: float, failures: int, broken: float, attempt: float
) -> dict[str, Any]:  # fmt: skip
    return {
        "policies": [
            {"type": "timeout", "name": "total", "seconds": total},
            {"type": "retry", "attempts": attempts, "on": _ON, "wait": _jitter(first, cap)},
            {
                "type": "circuit_breaker",
                "on": _ON,
                "trip": {"type": "consecutive_failures", "n": failures},
                "break_duration": broken,
            },
            {"type": "timeout", "name": "attempt", "seconds": attempt},
        ]
    }


PIPELINE_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "http_client": {
        "accept": ["retries-do-not-fit", "break-below-attempt"],
        "policies": [
            {"type": "bulkhead", "limit": 1000, "queue": 0},
            {"type": "timeout", "name": "total", "seconds": 30},
            {"type": "retry", "attempts": 4, "on": _ON, "wait": _jitter(2, 30)},
            {
                "type": "circuit_breaker",
                "on": _ON,
                "trip": {"type": "failure_rate", "ratio": 0.1, "window": 30, "minimum_calls": 100},
                "break_duration": 5,
            },
            {"type": "timeout", "name": "attempt", "seconds": 10},
        ],
    },
    "database": _guard(total=60, attempts=5, first=0.5, cap=30, failures=5, broken=60, attempt=10),
    "llm": _guard(total=300, attempts=4, first=2, cap=120, failures=4, broken=180, attempt=60),
    "production/critical": _guard(
        total=60, attempts=5, first=0.5, cap=5, failures=5, broken=10, attempt=10
    ),
    "production/high": _guard(
        total=35, attempts=3, first=1, cap=5, failures=5, broken=30, attempt=10
    ),
    "production/medium": _guard(
        total=25, attempts=2, first=2, cap=5, failures=10, broken=60, attempt=10
    ),
    "staging/medium": _guard(
        total=30, attempts=2, first=1, cap=5, failures=10, broken=60, attempt=12
    ),
}
"""Whole pipelines, in the shape of a configuration file."""


def _breaker(failures: int, broken: float, probes: int) -> dict[str, Any]:
    return {
        "on": _ON,
        "trip": {"type": "consecutive_failures", "n": failures},
        "break_duration": broken,
        "probes": probes,
        "successes_to_close": 2,
    }


BREAKER_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "domain/database": _breaker(3, 30, 2),
    "domain/external_api": _breaker(5, 60, 3),
    "domain/llm": _breaker(2, 120, 1),
    "domain/cache": _breaker(10, 15, 5),
    "domain/file_system": _breaker(3, 45, 2),
    "domain/network": _breaker(5, 30, 3),
    "domain/auth": _breaker(5, 60, 1),
    "domain/agent": _breaker(3, 60, 2),
    "domain/websocket": _breaker(5, 5, 1),
}
"""Breakers, in the shape of a configuration file."""


def preset(name: str, tier: str | None = None) -> dict[str, Any]:
    """
    A preset as a mapping, to be changed and loaded: ``preset("http_client")``, ``preset("production", "critical")``.

    Raises:
        ConfigurationError: there is none of that name, or for that pair.
    """
    wanted = name if tier is None else f"{name}/{tier}"
    known = {**PIPELINE_PRESETS, **BREAKER_PRESETS}
    if wanted not in known:
        hint = nearest(wanted, known)
        meant = f" (did you mean {hint!r}?)" if hint else ""
        raise ConfigurationError(
            "preset", got=f"{wanted!r:.60}{meant}", allowed=f"one of {', '.join(known)}"
        )
    return copy.deepcopy(dict(known[wanted]))
