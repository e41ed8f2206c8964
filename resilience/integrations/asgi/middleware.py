"""
The middleware: what a service says when it, or what it depends on, has had enough.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, final

from resilience.deadlines import deadline, from_deadline_header, from_timeout_header
from resilience.doors import Guard
from resilience.integrations.asgi.answers import STATUSES, Answer, answer_of
from resilience.integrations.asgi.types import App, Message, Receive, Scope, Send, header, respond
from resilience.pipeline import Pipeline
from resilience.policies.bulkhead import Bulkhead
from resilience.validation import (
    as_optional_seconds,
    as_seconds,
    check,
    count,
    duration,
    is_function,
    one_of,
)

__all__ = ["ResilienceMiddleware"]

_SHED = one_of(
    "None, requests at once >= 1, a policy or a pipeline",
    lambda value: value is None or count().accepts(value) or isinstance(value, Guard),
    {"zero": 0, "boolean": True, "text": "100", "class": Bulkhead},
)
_PATH = one_of(
    "a path that begins with /",
    lambda value: isinstance(value, str) and value.startswith("/"),
    {"relative": "health", "none": None, "number": 1},
)
_EXEMPT = one_of(
    "paths, or a function of the scope, not async",
    lambda value: (
        is_function(value) or (isinstance(value, Iterable) and not isinstance(value, str))
    ),
    {"text": "/health", "number": 1, "none": None},
)
_STATUS = one_of(
    "an HTTP status from 400 to 599",
    lambda value: count(low=400, high=599).accepts(value),
    {"success": 200, "text": "503", "none": None},
)


_HEADER = one_of(
    "None or the name of a header",
    lambda value: (
        value is None
        or (
            isinstance(value, str)
            and re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", value) is not None
        )
    ),
    {"number": 1, "empty": "", "colon": "grpc-timeout:"},
)
# A guard of no policies: what runs through it keeps the deadline around it.
_BARE: Pipeline[Any] = Pipeline()


@final
class ResilienceMiddleware:
    """
    Answers 503, 429 or 504 with ``Retry-After`` where a handler ran into a policy.

    Sheds load and keeps callers' deadlines, if asked to.

    An error that comes after the answer has begun passes on: nothing can be taken back then. Errors that are not of
    this package pass on as well.

    Args:
        app: The ASGI application.
        shed: What lets requests in: a number of requests at once, beyond which the next is answered 503 right away, or
            a policy or pipeline, such as a `Bulkhead` with a queue. It must not retry. Default None: all.
        exempt: Paths that are always let in, with all below them (``/health`` is also ``/health/live``), or a function
            of the scope. Default none.
        timeout_header: Name of the header in which callers say how long they wait, in the notation of gRPC, such as
            ``grpc-timeout``. The request is a `deadline` block then: it is cut off, and whatever it calls plans with
            what is left. Default None: none is read.
        deadline_header: Name of the header in which callers say when they stop waiting, in Unix time. Of both, the
            earlier counts. Default None.
        longest: Seconds that a header may ask for at most, > 0. Default 3,600.
        retry_after: Seconds told where a rejection does not know; None: nothing is told. Default 1.
        statuses: Error class -> status, in addition to the built-in ones; the nearest class decides.

    Raises:
        ConfigurationError: an argument is not allowed.
    """

    def __init__(
        self,
        app: App,
        *,
        shed: Guard[Any] | int | None = None,
        exempt: Iterable[str] | Callable[[Scope], bool] = (),
        timeout_header: str | None = None,
        deadline_header: str | None = None,
        longest: float = 3600.0,
        retry_after: float | None = 1.0,
        statuses: Mapping[type[BaseException], int] | None = None,
    ) -> None:
        check("ResilienceMiddleware.shed", shed, _SHED)
        check("ResilienceMiddleware.exempt", exempt, _EXEMPT)
        check(
            "ResilienceMiddleware.retry_after",
            known := as_optional_seconds(retry_after),
            duration(none=True),
        )
        check("ResilienceMiddleware.timeout_header", timeout_header, _HEADER)
        check("ResilienceMiddleware.deadline_header", deadline_header, _HEADER)
        check("ResilienceMiddleware.longest", cap := as_seconds(longest), duration())
        for kind, status in (statuses or {}).items():
            check(f"ResilienceMiddleware.statuses[{kind.__name__}]", status, _STATUS)
        self._app = app
        self._let_in: Guard[Any] | None = Bulkhead(shed) if isinstance(shed, int) else shed
        self._exempt: Callable[[Scope], bool] = exempt if callable(exempt) else _below(exempt)
        self._timeout_header = _field(timeout_header)
        self._deadline_header = _field(deadline_header)
        self._longest = cap
        self._retry_after = known
        self._statuses = {**STATUSES, **(statuses or {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = False

        async def sending(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self._run(scope, receive, sending)
        except Exception as error:
            answer = None if began else self._answer(error)
            if answer is None:
                raise
        else:
            return
        # Outside the handler of the error: what the server raises here is not about it.
        await respond(scope, send, answer.status, answer.body, answer.headers)

    def _answer(self, error: Exception) -> Answer | None:
        return answer_of(error, retry_after=self._retry_after, statuses=self._statuses)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        seconds = self._seconds(scope)
        if seconds is None:
            await self._enter(None, scope, receive, send)
            return
        # Its wait for a place counts as well.
        with deadline(seconds):
            await self._enter(_BARE, scope, receive, send)

    async def _enter(
        self, guard: Guard[Any] | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if self._let_in is not None and not self._exempt(scope):
            guard = self._let_in
        if guard is None:
            await self._app(scope, receive, send)
        else:
            await guard(self._app, scope, receive, send)

    def _seconds(self, scope: Scope) -> float | None:
        """How long the caller waits, as far as it said so in a way that can be read."""
        said: list[float] = []
        for name, read in (
            (self._timeout_header, from_timeout_header),
            (self._deadline_header, from_deadline_header),
        ):
            if name is not None and (value := header(scope, name)) is not None:
                seconds = read(value, cap=self._longest)
                if seconds is not None:
                    said.append(seconds)
        return min(said, default=None)


def _field(name: str | None) -> bytes | None:
    return None if name is None else name.lower().encode()


def _below(paths: Iterable[str]) -> Callable[[Scope], bool]:
    exact: list[str] = []
    for place, path in enumerate(paths):
        check(f"ResilienceMiddleware.exempt[{place}]", path, _PATH)
        exact.append(path.rstrip("/"))
    prefixes = tuple(f"{path}/" for path in exact)

    def exempt(scope: Scope) -> bool:
        path: str = scope["path"]
        return path in exact or path.startswith(prefixes)

    return exempt
