"""
Language models behind one call: the first of a list that answers, each with a breaker of its own.

Why no client is imported: their errors say what they are by status and headers, so one judgement serves openai's and
anthropic's. Why a rate limit that names a time is no failure: the model is well and says when it may be asked again; it
is left alone until then, and the next one is asked at once.

    models = Providers(openai.chat(client, "gpt-5"), anthropic.messages(other, "claude-sonnet-5", max_tokens=1024))
    answer = await models(messages=[{"role": "user", "content": "Hello"}])
    answer.model, answer.value
"""

from __future__ import annotations

import inspect
import math
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
)
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Generic, ParamSpec, TypeVar, final

import anyio
import attrs

from resilience.budgets import RetryBudget
from resilience.call import GRAIN, Call
from resilience.clock import PROCESS_CLOCK
from resilience.core.backoff import FullJitter
from resilience.domains import Domain, DomainCircuitBreakerManager, default_manager
from resilience.errors import ConfigurationError, RateLimitedError, RejectedError
from resilience.events import LISTENER, LOGGER, Listener, hook_failed
from resilience.integrations._llm import (
    MANY,
    UNAVAILABLE,
    InvalidAnswerError,
    is_empty,
    is_failure,
    is_retryable,
    moves_on,
    pause_of,
    rejection_of,
    status_of,
)
from resilience.pipeline import Pipeline, without_warnings
from resilience.policies.circuit_breaker import CircuitBreaker
from resilience.policies.retry import Retry
from resilience.policies.timeout import Timeout
from resilience.validation import (
    as_optional_seconds,
    as_seconds,
    check,
    count,
    duration,
    instance,
    is_function,
    name,
    one_of,
    refuse,
)
from resilience.verdicts import leaves

__all__ = [
    "MODEL",
    "Answer",
    "InvalidAnswerError",
    "Providers",
    "breaker_of",
    "is_empty",
    "is_failure",
    "is_retryable",
    "moves_on",
    "pause_of",
]

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

_CLOSING = 5.0
"""Seconds that closing a stream may take while its reader is cancelled."""

_LEASE = 600.0
"""Seconds a probe may take: as long as the clients themselves wait for an answer."""


def breaker_of(
    manager: DomainCircuitBreakerManager,
    domain: Domain,
    model: str,
    attempt_timeout: float | None = None,
) -> CircuitBreaker:
    """The breaker of a model: the one there is, as it is, or a new one of *domain* that counts by `is_failure`."""
    manager.add(domain)
    if (domain.name, model) in manager.registry:
        return manager.registry.breaker(model, domain=domain.name)
    return manager.get_circuit_breaker(
        domain,
        model,
        on=is_failure,
        ignore=_is_no_failure,
        probe_lease=max(_LEASE, attempt_timeout or 0.0),
    )


def _is_no_failure(error: Exception) -> bool:
    return not is_failure(error)


def _by_type(value: object) -> str:
    return f"<{type(value).__name__}>"


@final
@attrs.frozen(kw_only=True)
class Answer(Generic[T]):
    """
    What came, and from whom.

    Attributes:
        model: The model that answered.
        value: What it answered. A repr tells its type only.
        attempts: Requests made, to all models together.
        passed_over: The models before it, each with the type name of why: its last error, or a rejection.
    """

    model: str
    value: T = attrs.field(repr=_by_type)
    attempts: int
    passed_over: Mapping[str, str]


@final
class _Model:
    """One of the list. Any thread may use it; the instant until which it rests is one store."""

    def __init__(self, label: str, fn: Any, breaker: CircuitBreaker, longest_rest: float) -> None:
        self.name = label
        self.fn = fn
        self.breaker = breaker
        self.guard: Pipeline[Any] = Pipeline()
        self._longest_rest = longest_rest
        self._rests_until = -math.inf
        self._told = False

    def admit(self) -> None:
        left = self._rests_until - PROCESS_CLOCK.now()
        if left > GRAIN:
            raise RateLimitedError(policy=f"model {self.name!r}", retry_after=left)

    def hear(self, error: Exception) -> None:
        """What an error says beyond itself: when to come back, and that somebody else retries too."""
        pause = pause_of(error) if status_of(error) in {MANY, UNAVAILABLE} else None
        if pause is not None:
            self._rests_until = PROCESS_CLOCK.now() + min(pause, self._longest_rest)
        if not self._told and _retried_by_its_client(error):
            self._told = True
            LOGGER.warning(
                "the client of model %r retries by itself, under our retries: make it with max_retries=0",
                self.name,
            )


def _retried_by_its_client(error: Exception) -> bool:
    request = getattr(getattr(error, "response", None), "request", None)
    request = getattr(error, "request", request)
    headers: Any = getattr(request, "headers", None)
    retries = headers.get("x-stainless-retry-count") if hasattr(headers, "get") else None
    return isinstance(retries, str) and retries.isdecimal() and int(retries[:9]) > 0


@final
@attrs.define
class _Trip:
    """One call over the models."""

    args: tuple[Any, ...] = attrs.field(repr=False)
    kwargs: Mapping[str, Any] = attrs.field(repr=False)
    until: float
    model: _Model
    attempts: int = 0
    passed_over: dict[str, str] = attrs.field(factory=dict)

    def left(self) -> float:
        return self.until - PROCESS_CLOCK.now()


def _time_left(call: Call) -> float:
    trip: _Trip = call.args[0]
    return trip.left()


def _is_worth_waiting(error: Exception) -> bool:
    """Of a model that others follow: one that names a time is not waited for."""
    return is_retryable(error) and pause_of(error) is None


MODEL = one_of(
    "a name of 1 to 200 printable characters",
    lambda value: name().accepts(value) and len(value) <= 200,  # noqa: PLR2004
    {"number": 1, "none": None, "empty": "", "long": "x" * 201, "line break": "a\nb"},
)
"""What a model may be called: room is left for its domain."""

_A_MODEL = one_of(
    "a name of 1 to 200 printable characters and a function that returns an awaitable or a stream",
    lambda value: (
        isinstance(value, tuple)
        and len(value) == 2  # noqa: PLR2004 - a pair
        and MODEL.accepts(value[0])
        and callable(value[1])
        and not isinstance(value[1], type)
    ),
    {
        "none": None,
        "text": "gpt",
        "no function": ("gpt", None),
        "class": ("gpt", int),
        "no name": ("", anyio.sleep),
        "long": ("x" * 201, anyio.sleep),
        "three": ("gpt", anyio.sleep, 1),
    },
)

FIELDS = {
    "models": _A_MODEL,
    "on_result": one_of(
        "None or a predicate of the response, not async",
        lambda value: value is None or is_function(value),
        {"number": 1, "class": int, "text": "empty", "async": anyio.sleep},
    ),
    "attempts": count(),
    "wait": instance(FullJitter, "a FullJitter"),
    "max_delay": duration(),
    "attempt_timeout": duration(none=True),
    "total_timeout": duration(none=True),
    "budget": instance(RetryBudget, "a RetryBudget", none=True),
    "manager": instance(
        DomainCircuitBreakerManager, "a DomainCircuitBreakerManager", none=True
    ),
    "domain": instance(Domain, "a Domain"),
    "listeners": LISTENER,
}  # fmt: skip
"""What each argument of `Providers` takes; of ``models`` and ``listeners``, each element."""


@final
class Providers(Generic[P, T]):
    """
    Ask the first model; where it fails or is not to be asked, the next.

    Args:
        models: Pairs of a name and a function of the call's arguments, in the order of preference. Turn the retries of
            their clients off (``max_retries=0``), or use ``openai.chat`` and ``anthropic.messages``, which do.
        on_result: A predicate of the response, asked before the breaker hears of it; true: a failure, and one that
            raises says so too. Default `is_empty`; None: every response is welcome. Not asked of streams.
        attempts: Attempts per model, the first included, >= 1. Default 2. After a 429 with a time the next model is
            asked instead of waiting; only the last one is waited for.
        wait: Before the same model is asked again. Default ``FullJitter(0.5, 8)``, the clients' own.
        max_delay: Seconds no wait exceeds, > 0. Default 10. A server that asks for more is not asked again.
        attempt_timeout: Seconds for one attempt, of a stream until its first item, > 0, or None. Default 60.
        total_timeout: Seconds for all models, attempts and waits together, > 0, above ``attempt_timeout``, or None.
            Default 120.
        budget: A `RetryBudget` that second attempts are paid from. Default None.
        manager: Where the breakers live: ``llm:name``. One that is there already is taken as it is. Default: that of
            the process.
        domain: What new breakers begin with; of it the name and the numbers count. Default ``Domain.LLM``.
        listeners: Functions of an `Event`. Events carry neither prompts nor answers.

    A model that answers 429 or 503 with ``Retry-After`` is not asked again before, at most ``break_duration`` seconds
    of the domain. One object serves any number of tasks, loops and threads.

    Raises:
        The last error of a model that was asked, itself. If none was: the rejection with the smallest ``retry_after``.
        An error that is the caller's own, such as 400, ends the call at once.
    """

    def __init__(
        self,
        *models: tuple[str, Callable[P, Awaitable[T] | AsyncIterator[Any]]],
        on_result: Callable[[Any], object] | None = is_empty,
        attempts: int = 2,
        wait: FullJitter = FullJitter(0.5, 8.0),  # noqa: B008 - frozen
        max_delay: float | timedelta = 10.0,
        attempt_timeout: float | timedelta | None = 60.0,
        total_timeout: float | timedelta | None = 120.0,
        budget: RetryBudget | None = None,
        manager: DomainCircuitBreakerManager | None = None,
        domain: Domain = Domain.LLM,
        listeners: Iterable[Listener] = (),
    ) -> None:
        heard: tuple[Any, ...] = (
            (listeners,)
            if callable(listeners) or not isinstance(listeners, Iterable)
            else tuple(listeners)
        )
        given: dict[str, Any] = {
            "on_result": on_result,
            "attempts": attempts,
            "wait": wait,
            "max_delay": as_seconds(max_delay),
            "attempt_timeout": as_optional_seconds(attempt_timeout),
            "total_timeout": as_optional_seconds(total_timeout),
            "budget": budget,
            "manager": manager,
            "domain": domain,
        }
        for place, each in enumerate(models):
            check(f"Providers.models[{place}]", each, FIELDS["models"])
        for place, each in enumerate(heard):
            check(f"Providers.listeners[{place}]", each, FIELDS["listeners"])
        for field, value in given.items():
            check(f"Providers.{field}", value, FIELDS[field])
        names = [each[0] for each in models]
        if not names or len({*names}) < len(names):
            raise refuse("Providers.models", names, "at least one, each under a name of its own")
        one, total = given["attempt_timeout"], given["total_timeout"]
        if one is not None and total is not None and one >= total:
            raise ConfigurationError(
                "Providers.attempt_timeout",
                got=f"{one:g} with total_timeout={total:g}",
                allowed="shorter than total_timeout",
            )
        self._on_result = on_result
        self._total = math.inf if total is None else float(total)
        place_of_breakers = default_manager() if manager is None else manager
        self._models: list[_Model] = []
        for place, (label, fn) in enumerate(models):
            breaker = breaker_of(place_of_breakers, domain, label, one)
            model = _Model(label, fn, breaker, domain.break_duration)
            last = place == len(models) - 1
            with without_warnings():  # two failures in a row open it, retries or not
                model.guard = Pipeline(
                    *([] if total is None else [Timeout(_time_left)]),
                    Retry(
                        attempts,
                        on=is_retryable if last else _is_worth_waiting,
                        wait=wait,
                        max_delay=given["max_delay"],
                        budget=budget,
                        retry_after=pause_of,
                    ),
                    breaker,
                    *([] if one is None else [Timeout(one)]),
                    name=f"{domain.name}:{label}",
                    listeners=heard,
                )
            self._models.append(model)

    def __repr__(self) -> str:
        return f"<Providers {', '.join(each.name for each in self._models)}>"

    @property
    def breakers(self) -> Mapping[str, CircuitBreaker]:
        """The breaker of each model."""
        return MappingProxyType({each.name: each.breaker for each in self._models})

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Answer[T]:
        """The answer of the first model that gives one."""

        async def ask(trip: _Trip) -> T:
            return await trip.model.guard(self._ask, trip)

        return await self._over(ask, args, kwargs)

    def stream(
        self, *args: P.args, **kwargs: P.kwargs
    ) -> AbstractAsyncContextManager[Answer[AsyncIterator[Any]]]:
        """
        The same for functions that return streams: ``async with models.stream(...) as answer:``.

        Guarded up to the first item, which is the verdict; after it no other model is asked, and no deadline is open.
        ``answer.value`` are the items. A stream without one is an empty answer.
        """
        return self._streaming(args, kwargs)

    @asynccontextmanager
    async def _streaming(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> AsyncIterator[Answer[AsyncIterator[Any]]]:
        async def ask(trip: _Trip) -> AsyncIterator[Any]:
            return await trip.model.guard.stream(self._items)(trip).__aenter__()

        answer: Answer[Any] = await self._over(ask, args, kwargs)
        async with AsyncExitStack() as stack:
            stack.push_async_exit(answer.value)
            yield answer

    async def _over(
        self,
        ask: Callable[[_Trip], Awaitable[R]],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Answer[R]:
        trip = _Trip(args, kwargs, PROCESS_CLOCK.now() + self._total, self._models[0])
        last: Exception | None = None
        rejections: list[RejectedError] = []
        for model in self._models:
            if trip.passed_over and trip.left() <= GRAIN:
                break
            trip.model = model
            try:
                model.admit()
                value = await ask(trip)
            except Exception as error:
                rejection = rejection_of(error)
                if rejection is not None:
                    rejections.append(rejection)
                elif all(map(moves_on, leaves(error))):
                    last = error
                else:
                    raise
                trip.passed_over[model.name] = type(rejection or error).__name__
            else:
                return Answer(
                    model=model.name,
                    value=value,
                    attempts=trip.attempts,
                    passed_over=MappingProxyType(trip.passed_over),
                )
        try:
            raise last or min(rejections, key=_when)
        finally:
            del last, rejections  # whose tracebacks hold this frame

    async def _ask(self, trip: _Trip) -> Any:
        trip.attempts += 1
        try:
            value = await trip.model.fn(*trip.args, **trip.kwargs)
        except Exception as error:
            trip.model.hear(error)
            raise
        if self._is_refused(value):
            raise InvalidAnswerError(trip.model.name)
        return value

    def _is_refused(self, value: object) -> bool:
        if self._on_result is None:
            return False
        try:
            return bool(self._on_result(value))
        except Exception as error:  # noqa: BLE001 - law 6: a failing predicate counts as failure
            hook_failed("Providers.on_result", self._on_result, error)
            return True

    async def _items(self, trip: _Trip) -> AsyncGenerator[Any, None]:
        trip.attempts += 1
        stream: Any = None
        try:
            made = trip.model.fn(*trip.args, **trip.kwargs)
            stream = await made if inspect.isawaitable(made) else made
            empty = True
            async for item in stream:
                empty = False
                yield item
            if empty:
                raise InvalidAnswerError(trip.model.name)  # noqa: TRY301 - heard like any other
        except Exception as error:
            trip.model.hear(error)
            raise
        finally:
            await _close(stream)


def _when(rejection: RejectedError) -> float:
    return math.inf if rejection.retry_after is None else rejection.retry_after


async def _close(stream: Any) -> None:
    close = getattr(stream, "aclose", None) or getattr(stream, "close", None)
    if close is not None:
        with anyio.move_on_after(_CLOSING, shield=True):
            await close()
