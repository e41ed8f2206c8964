"""
What the operations app shows: the breakers as they are, and what the calls of the last minute came to.

The breakers are read when somebody asks. The calls are counted as they end, so that rates and attempts per call are
there at the first look; that is the one thing here that costs a call anything, and it can be left out.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, final

from resilience.clock import PROCESS_CLOCK
from resilience.core.generations import CircuitState
from resilience.events import (
    CallFinished,
    ChangeRefused,
    CircuitStateChanged,
    CircuitTripped,
    Event,
    Listener,
    OptionsChanged,
    listen,
)
from resilience.policies.circuit_breaker import CircuitBreaker, CircuitSnapshot, LiveBreaker
from resilience.registry.views import summary_of
from resilience.telemetry import EventLog
from resilience.telemetry._sources import Breakers, limited, readable, severity
from resilience.telemetry._words import Labels, fields_of, name_of

__all__ = ["Board", "view_of"]

WINDOW = 60.0
_BUCKETS = 12
_PIPELINES = 200
_MOVED = 1000
_OUTCOMES = ("success", "failure", "rejected", "cancelled")


class _Bucket:
    __slots__ = (*_OUTCOMES, "attempts", "elapsed", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.success = self.failure = self.rejected = self.cancelled = self.attempts = 0
        self.elapsed = 0.0


@final
class _Minute:
    """The calls of one pipeline in the last minute."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets: dict[int, _Bucket] = {}

    def add(self, event: CallFinished, now: float) -> None:
        number = int(now // (WINDOW / _BUCKETS))
        bucket = self._buckets.get(number % _BUCKETS)
        if bucket is None or bucket.number != number:
            bucket = self._buckets[number % _BUCKETS] = _Bucket(number)
        match event.outcome:
            case "success":
                bucket.success += 1
            case "failure":
                bucket.failure += 1
            case "rejected":
                bucket.rejected += 1
            case _:
                bucket.cancelled += 1
        bucket.attempts += event.attempts
        bucket.elapsed += event.elapsed

    def view(self, name: str, now: float) -> dict[str, Any]:
        oldest = int(now // (WINDOW / _BUCKETS)) - _BUCKETS
        live = [each for each in tuple(self._buckets.values()) if each.number > oldest]
        counts = {field: sum(getattr(each, field) for each in live) for field in _OUTCOMES}
        calls = sum(counts.values())
        attempts = sum(each.attempts for each in live)
        answered = counts["success"] + counts["failure"]
        entered = calls - counts["rejected"]
        return {
            "name": name,
            "calls": calls,
            **counts,
            "attempts": attempts,
            "attempts_per_call": _share(attempts, entered),
            "success_rate": _share(counts["success"], answered),
            "mean_seconds": _share(sum(each.elapsed for each in live), calls),
        }


@final
class Board:
    """Listens from the moment it is made until ``close()``."""

    listens_to: tuple[type[Event], ...] = (CallFinished, CircuitStateChanged)

    def __init__(self, breakers: Breakers, *, calls: bool) -> None:
        if not calls:
            self.listens_to = (CircuitStateChanged,)
        self.find: Callable[[], Iterable[Any]] = readable("OperationsApp.breakers", breakers)
        # Transitions and changes; retries and rejections would push them out, and are counted.
        self.log: EventLog = EventLog(
            100, listens_to=(CircuitStateChanged, CircuitTripped, OptionsChanged, ChangeRefused)
        )
        self._name = Labels(_PIPELINES)
        self._minutes: dict[str, _Minute] = {}
        self._lock = threading.Lock()  # of transitions, which are rare; no call takes it
        self._moved: OrderedDict[str, CircuitStateChanged] = OrderedDict()
        heard: tuple[Listener, ...] = (self, self.log)
        self._subscriptions = [listen(limited(each, breakers)) for each in heard]

    def __call__(self, event: Any, /) -> None:
        if isinstance(event, CircuitStateChanged):
            with self._lock:
                self._moved[event.policy] = event
                self._moved.move_to_end(event.policy)
                if len(self._moved) > _MOVED:
                    self._moved.popitem(last=False)
            return
        name = self._name(event.pipeline or event.policy)
        minute = self._minutes.get(name)
        if minute is None:
            minute = self._minutes.setdefault(name, _Minute())
        minute.add(event, PROCESS_CLOCK.now())

    def close(self) -> None:
        """Listen no longer."""
        for each in self._subscriptions:
            each.stop()

    def named(self, name: str) -> list[CircuitBreaker | LiveBreaker]:
        """Every breaker of that name."""
        return [each for each in self.find() if each.name == name]

    def circuits(self) -> list[dict[str, Any]]:
        """Every breaker, the worst first, then by name; of those that share a name, each."""
        found = [(each.snapshot(), each) for each in self.find()]
        found.sort(key=lambda pair: (severity(pair[0]), pair[0].name))
        return [self.circuit(snapshot, each) for snapshot, each in found]

    def circuit(self, snapshot: CircuitSnapshot, breaker: Any) -> dict[str, Any]:
        """One breaker, with the reason of its last transition where it was heard."""
        now = breaker._core.now()  # noqa: SLF001 - instants are on the breaker's own clock
        moved = self._moved.get(snapshot.name)
        if moved is not None and moved.new != snapshot.state.name:
            moved = None  # of another breaker of that name, or overtaken
        return view_of(snapshot, now) | {
            "reason": None if moved is None else moved.reason,
            "transition": None
            if moved is None
            else {
                "from": moved.old.lower(),
                "calls": moved.calls,
                "failures": moved.failures,
                "slow": moved.slow,
            },
        }

    def snapshot(self, *, limit: int | None = None) -> dict[str, Any]:
        """All of it, at most *limit* breakers."""
        found = [each.snapshot().state for each in self.find()]
        now, wall = PROCESS_CLOCK.now(), PROCESS_CLOCK.wall()
        pipelines = [minute.view(name, now) for name, minute in tuple(self._minutes.items())]
        return {
            "timestamp": datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds"),
            "summary": counted(found),
            "circuit_breakers": self.circuits()[:limit],
            "window_seconds": WINDOW,
            "pipelines": sorted(pipelines, key=lambda each: (-each["calls"], each["name"])),
            "events": [
                {"number": each.number, "seconds_ago": round(max(0.0, wall - each.wall), 1)}
                | {"event": name_of(each.event)}
                | {k: v for k, v in fields_of(each.event).items() if k not in {"at", "error_text"}}
                for each in reversed([*self.log][-30:])
            ],
        }


def view_of(snapshot: CircuitSnapshot, now: float) -> dict[str, Any]:
    """A snapshot as JSON takes it: the same keys in every state, durations in seconds, no error text."""
    totals = snapshot.totals
    return {
        "name": snapshot.name,
        "state": snapshot.state.name.lower(),
        "for_seconds": round(max(0.0, now - snapshot.since), 3),
        "retry_after": None if snapshot.retry_after is None else _finite(snapshot.retry_after),
        "last_failure": snapshot.last_failure,
        "calls": snapshot.calls,
        "failures": snapshot.failures,
        "slow": snapshot.slow,
        "failure_rate": _finite(snapshot.failure_rate),
        "slow_rate": _finite(snapshot.slow_rate),
        "generation": snapshot.generation,
        "openings": snapshot.openings,
        "rejected": snapshot.rejected,
        "totals": {
            "successes": totals.successes,
            "failures": totals.failures,
            "ignored": totals.ignored,
            "slow": totals.slow,
            "rejected": totals.rejected,
        },
    }


def counted(states: Iterable[CircuitState]) -> dict[str, Any]:
    """Breakers by state, and how many per cent of them let calls pass."""
    summary = summary_of(states)
    return {
        "total": summary.total,
        **{state.name.lower(): getattr(summary, state.name.lower()) for state in CircuitState},
        "health_percentage": round(summary.health, 1),
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 4)


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None
