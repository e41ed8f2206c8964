"""
From the words of a plan to real policies, predicates and pipelines; what they are asked goes into the trace.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

import tenacity

from resilience import (
    AIMD,
    Bulkhead,
    Call,
    CircuitBreaker,
    CircuitOpenError,
    ConcurrencyLimit,
    ConsecutiveFailures,
    CountWindow,
    FailureRate,
    Fallback,
    FullJitter,
    Gradient2,
    Hedge,
    LastGood,
    Pipeline,
    RateLimit,
    RateLimitedError,
    RejectedError,
    Retry,
    RetryBudget,
    SlowRate,
    Throttle,
    Timeout,
    TimeoutExceededError,
    TimeWindow,
    Vegas,
)
from resilience.clock import PROCESS_CLOCK
from resilience.events import (
    AttemptFinished,
    CallFinished,
    CallRejected,
    CircuitStateChanged,
    Event,
    RetryScheduled,
    RetryStopped,
    TimedOut,
)
from resilience.pipeline import without_warnings
from tests.instruments.differential.plans import Part, Pipe, Plan
from tests.instruments.differential.telling import Boom

__all__ = ["Built", "Draws", "Listening"]

_KINDS: dict[str, tuple[type[Event], ...]] = {
    "attempts": (AttemptFinished, CallFinished),
    "transitions": (CircuitStateChanged,),
    "rejections": (CallRejected,),
    "retries": (RetryScheduled, RetryStopped),
    "calls": (CallFinished,),
    "timeouts": (TimedOut,),
}
_ERRORS: dict[str, Any] = {
    "Exception": Exception,
    "OSError": OSError,
    "Boom": Boom,
    "ValueError": ValueError,
    "Boom or OSError": (Boom, OSError),
    "Timeout": TimeoutExceededError,
    "rejected": RejectedError,
    "rejected too": (OSError, Boom, CircuitOpenError, RejectedError),
    "rate too": (OSError, Boom, RateLimitedError),
}


# The trace of the run that is played: tenacity's objects are printed by their address, so both runs share them.
_now: list[list[Any]] = [[]]


def _told(name: str, value: Any) -> Any:
    _now[0].append(("asked", name, type(value).__name__))
    return value


def _is_bad(answer: Any) -> bool:
    return getattr(_told("result", answer), "word", None) == "bad"


def _is_boom(error: BaseException) -> bool:
    return isinstance(_told("tenacity", error), Boom)


_RETRIES: dict[str, Any] = {
    "tenacity type": tenacity.retry_if_exception_type((OSError, Boom)),
    "tenacity any": tenacity.retry_if_exception_type(OSError)
    | tenacity.retry_if_exception(_is_boom),
    "tenacity result": tenacity.retry_if_result(_is_bad)
    | tenacity.retry_if_exception_type(OSError),
}
_REFUSED = tenacity.retry_if_result(_is_bad)
_STOPS: dict[str, Any] = {
    "attempts 2": tenacity.stop_after_attempt(2),
    "delay 1.5": tenacity.stop_after_delay(1.5),
    "either": tenacity.stop_after_attempt(3) | tenacity.stop_after_delay(1),
}
_WAITS: dict[str, Any] = {
    "0.5": tenacity.wait_fixed(0.5),
    "1": tenacity.wait_fixed(1),
    "no wait": tenacity.wait_none(),
    "tenacity random": tenacity.wait_random(0, 1),
    "tenacity exponential": tenacity.wait_exponential(multiplier=0.25, max=1),
    "tenacity chain": tenacity.wait_fixed(0.25) + tenacity.wait_random(0, 0.5),
}
_BREAK = tenacity.wait_exponential(multiplier=0.25, max=2)


def _token(call: Call) -> int:
    """Which call it is, by its arguments."""
    return next(each for each in (*call.args, *call.kwargs.values()) if isinstance(each, int))


class Draws:
    """The plan's own chance, for every ``rng=``; counts what is drawn."""

    def __repr__(self) -> str:
        return "chance"

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self.drawn = 0

    def random(self) -> float:
        self.drawn += 1
        return self._random.random()


class Shifted:
    """A clock that goes as the loop's does, and is set back and on meanwhile."""

    never_raises = True

    def __init__(self) -> None:
        self.by = 0.0

    def __repr__(self) -> str:
        return "a clock"

    def now(self) -> float:
        return PROCESS_CLOCK.now() + self.by


class Listening:
    """A listener that writes what it hears into the trace, and may fail."""

    def __init__(self, trace: list[Any], name: str, kind: str) -> None:
        self._trace = trace
        self._name = name
        self._fails = kind == "raises"
        if kind in _KINDS:
            self.listens_to = _KINDS[kind]

    def __call__(self, event: Event, /) -> None:
        self._trace.append(("event", self._name, event))
        if self._fails:
            raise Boom("listener")


class Built:
    """The policies of a plan and its pipelines, made anew for each run."""

    def __init__(self, plan: Plan, trace: list[Any], checkpoint: Callable[[], Any]) -> None:
        self._trace = _now[0] = trace
        self._checkpoint = checkpoint
        self.draws = Draws(plan.seed)
        self.clock = Shifted() if plan.clock else None
        self.on = True
        self.parts: list[Any] = []
        self._names = 0
        for part in plan.parts:
            self.parts.append(self._part(part))
        self.pipes: list[Pipeline[Any]] = []
        with without_warnings():
            for pipe in plan.pipes:
                self.pipes.append(self._pipe(pipe))

    def _pipe(self, pipe: Pipe) -> Pipeline[Any]:
        self._names += 1
        listeners = [
            Listening(self._trace, f"{self._names}.{place}", kind)
            for place, kind in enumerate(pipe.listeners)
        ]
        enabled: Any = {"on": True, "off": False, "function": lambda: self.on}.get(pipe.enabled)
        return Pipeline(
            *(
                self.parts[each] if isinstance(each, int) else self._pipe(each)
                for each in pipe.parts
            ),
            name=pipe.name,
            key=self._key(pipe.key),
            listeners=listeners,
            enabled=self._raising("enabled") if enabled is None else enabled,
        )

    def _key(self, word: str | None) -> Any:
        if word is None or word == "one":
            return word
        if word == "raises":
            return self._raising("key")
        return lambda *args, **kwargs: (len(args), *kwargs)

    # -------------------------------------------------------------- predicates

    def _told(self, name: str, value: Any) -> Any:
        self._trace.append(("asked", name, type(value).__name__))
        return value

    def _raising(self, name: str) -> Callable[..., Any]:
        def raises(*args: Any, **kwargs: Any) -> Any:
            self._trace.append(("asked", name))
            raise Boom(name)

        return raises

    def errors(self, word: Any) -> Any:
        """What ``on`` and ``ignore`` take."""
        if word in _ERRORS:
            return _ERRORS[word]
        if word == "predicate":
            return lambda error: isinstance(self._told("error", error), OSError | Boom)
        if word == "async":
            return self._async_errors
        if word in _RETRIES:
            return _RETRIES[word]
        return self._raising("predicate")

    async def _async_errors(self, error: Exception) -> bool:
        await self._checkpoint()
        return isinstance(self._told("async", error), OSError | Boom)

    def _bad(self, answer: Any) -> bool:
        return getattr(self._told("result", answer), "word", None) == "bad"

    async def _async_bad(self, answer: Any) -> bool:
        await self._checkpoint()
        return self._bad(answer)

    def results(self, word: str) -> Any:
        """What ``on_result`` takes."""
        if word == "tenacity":
            return _REFUSED
        named: dict[str, Any] = {"bad": self._bad, "async": self._async_bad}
        return named.get(word) or self._raising("on_result")

    def function(self, word: Any, name: str, value: Any) -> Any:
        """An option that may be a function of the call."""
        if word == "function":
            return lambda call: self._told(name, value(_token(call)))
        if word == "half":
            return lambda call: 0.5
        return self._raising(name) if word == "raises" else word

    # ---------------------------------------------------------------- policies

    def _part(self, part: Part) -> Any:
        made: dict[str, Any] = dict(part.options)
        if "on_result" in made:
            made["on_result"] = self.results(made["on_result"])
        for each in ("on", "ignore"):
            if each in made:
                made[each] = self.errors(made[each])
        if "budget" in made:
            made["budget"] = self.parts[made["budget"]]
        if part.kind not in {"Timeout", "Fallback"}:
            made["clock"] = self.clock
        if part.kind not in {"Timeout", "Fallback", "RetryBudget"}:
            made["rng"] = self.draws
        return getattr(self, f"_{part.kind.lower()}")(made)

    def _timeout(self, made: dict[str, Any]) -> Any:
        word = made["seconds"]
        if not isinstance(word, str):
            return Timeout(word)
        said = {"fn 0.5": 0.5, "fn None": None, "fn 0": 0.0, "fn nan": math.nan}
        return Timeout(self._raising("seconds") if word == "fn raises" else lambda call: said[word])

    def _retry(self, made: dict[str, Any]) -> Any:
        made["wait"] = self._wait(made["wait"])
        if "stop" in made:
            word = made["stop"]
            made["stop"] = _STOPS.get(word) or (
                self._raising("stop")
                if word == "raises"
                else lambda state: self._told("stop", state).attempt_number > 2
            )
        if made.get("retry_after"):
            word = made["retry_after"]
            made["retry_after"] = (
                self._raising("retry_after") if word == "raises" else lambda source: 0.25
            )
        return Retry(**made)

    def _wait(self, word: str) -> Any:
        if word == "jitter":
            return FullJitter(initial=0.5, cap=2)
        if word in _WAITS:
            return _WAITS[word]
        if word == "async":
            return self._async_wait
        said: dict[str, Any] = {"none": lambda state: 0, "nan": lambda state: math.nan}
        return said.get(word) or self._raising("wait")

    async def _async_wait(self, state: Any) -> float:
        await self._checkpoint()
        return 0.25 * self._told("wait", state).attempt_number

    def _retrybudget(self, made: dict[str, Any]) -> Any:
        return RetryBudget(**made)

    def trip(self, word: str) -> Any:
        """A condition by its word."""
        rate = FailureRate(0.5, CountWindow(4), minimum_calls=2)
        slow = SlowRate(0.5, 0.5, TimeWindow(2), minimum_calls=2)
        return {
            "consecutive 1": ConsecutiveFailures(1),
            "consecutive 2": ConsecutiveFailures(2),
            "count": rate,
            "time": FailureRate(0.5, TimeWindow(2, buckets=4), minimum_calls=2),
            "slow": slow,
            "slow count": SlowRate(0.5, 0.25, CountWindow(4), minimum_calls=1),
            "either": ConsecutiveFailures(3) | slow,
            "both": rate & ConsecutiveFailures(1),
            "default": FailureRate(),
        }[word]

    def pause(self, word: Any) -> Any:
        """A break's length."""
        if not isinstance(word, str):
            return word
        return {
            "jitter": FullJitter(initial=1, cap=2),
            "tenacity": _BREAK,
            "function": lambda opening: 0.5 * self._told("break", opening),
        }[word]

    def _circuitbreaker(self, made: dict[str, Any]) -> Any:
        self._names += 1
        made["trip"] = self.trip(made["trip"])
        made["break_duration"] = self.pause(made["break_duration"])
        return CircuitBreaker(f"breaker {self._names}", **made)

    def _bulkhead(self, made: dict[str, Any]) -> Any:
        if "weight" in made:
            made["weight"] = self.function(made["weight"], "weight", lambda token: 1 + token % 2)
        return Bulkhead(made.pop("limit"), **made)

    def _ratelimit(self, made: dict[str, Any]) -> Any:
        if "weight" in made:
            made["weight"] = self.function(made["weight"], "weight", lambda token: 1 + token % 2)
        return RateLimit(made.pop("rate"), **made)

    def _throttle(self, made: dict[str, Any]) -> Any:
        if "priority" in made:
            made["priority"] = self.function(made["priority"], "priority", lambda token: token % 10)
        return Throttle(**made)

    def _concurrencylimit(self, made: dict[str, Any]) -> Any:
        algorithm: Any = {
            "aimd": AIMD(initial=2, minimum=1, maximum=4, timeout=1),
            "vegas": Vegas(initial=2, maximum=10, probe_after=3),
            "gradient": Gradient2(initial=2, minimum=1, maximum=6, window=3),
        }[made.pop("algorithm")]
        if made.pop("partitions", False):
            made["partitions"] = {"a": 0.5, "b": 0.25}
            made["partition"] = lambda call: "abc"[_token(call) % 3]
        if "bypass" in made:
            made["bypass"] = self.function(made["bypass"], "bypass", lambda token: token % 2)
        return ConcurrencyLimit(algorithm, **made)

    def _fallback(self, made: dict[str, Any]) -> Any:
        answer = made.pop("answer")
        if answer == "value":
            return Fallback("the fallback", **made)
        functions: dict[str, tuple[Any, ...]] = {
            "function": (self._replica,),
            "raises": (self._failing,),
            "two": (self._failing, self._replica),
        }
        return Fallback.using(*functions[answer], **made)

    async def _replica(self, error: Exception | None, call: Any) -> str:
        await self._checkpoint()
        self._told("fallback", error)
        return "a replica's"

    async def _failing(self, error: Exception | None, call: Any) -> str:
        self._told("fallback", error)
        raise OSError("replica")

    def _lastgood(self, made: dict[str, Any]) -> Any:
        if made.get("key") == "raises":
            made["key"] = self._raising("key")
        return LastGood(made.pop("ttl"), **made)

    def _hedge(self, made: dict[str, Any]) -> Any:
        word = made.pop("after")
        after: Any = {"never": math.inf, "function": lambda call: 0.25}.get(word, word)
        if "on_discard" in made:
            made["on_discard"] = lambda answer: self._told("discarded", answer)
        return Hedge(after, idempotent=True, **made)

    # ---------------------------------------------------------------- at the end

    def told(self) -> list[Any]:
        """What all policies say of themselves, and what they do not say but hold."""
        found: list[Any] = [("drawn", self.draws.drawn)]
        for place, part in enumerate(self.parts):
            if hasattr(part, "snapshot"):
                found.append(("snapshot", place, part.snapshot()))
            if isinstance(part, CircuitBreaker):
                current: Any = part._core.circuit.current
                watched = sum(len(queue) for _, queue in getattr(current, "watches", ()))
                seats = len(getattr(current, "seats", ())), len(getattr(current, "live", ()))
                found.append(("held", place, watched, seats))
        return found
