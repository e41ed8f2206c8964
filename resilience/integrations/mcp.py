"""
Tools of the Model Context Protocol: a server that guards each of its tools, a client that repeats only what it may.

Who is turned away gets a tool result with ``isError`` and ``retry_after``, no protocol error: the agent that reads it
can plan around the tool. What a tool says itself about its arguments is an answer; only a crash counts.

    server = MCPServer("weather", middleware=[ToolGuard(timeout=10)])
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, final

import attrs
from mcp import Client, MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.types import CONNECTION_CLOSED, REQUEST_TIMEOUT, CallToolResult, TextContent, Tool

from resilience.budgets import RetryBudget
from resilience.core.backoff import FullJitter
from resilience.core.trips import ConsecutiveFailures
from resilience.doors import Policy
from resilience.errors import ConfigurationError, RejectedError, TimeoutExceededError
from resilience.events import LISTENER, Listener
from resilience.pipeline import Pipeline, without_warnings
from resilience.policies.bulkhead import Bulkhead
from resilience.policies.circuit_breaker import CircuitBreaker
from resilience.policies.retry import Retry
from resilience.policies.timeout import Timeout
from resilience.registry import Family, LivePipeline, Registry
from resilience.registry.families import breakers_in, label_of
from resilience.validation import (
    as_optional_seconds,
    as_seconds,
    check,
    count,
    duration,
    instance,
    name,
)

__all__ = ["ToolCaller", "ToolGuard", "crashed", "retry_after_of"]

GUARD_FIELDS = {
    "timeout": duration(none=True),
    "limit": count(none=True),
    "failures": count(),
    "break_duration": duration(),
    "max_tools": count(high=10**6),
    "name": name(),
    "registry": instance(Registry, "a Registry", none=True),
    "listeners": LISTENER,
}
"""What each argument of `ToolGuard` takes; of ``listeners``, each element."""

_ERROR = "Error executing tool"


def crashed(tool: str, result: object) -> bool:
    """
    Whether a tool's result says that it crashed, or that something it called did: the server's own words for that.

    A ``ToolError`` of the tool's, arguments that do not fit and an unknown tool are answers.
    """
    if not isinstance(result, Mapping) or result.get("isError") is not True:
        return False
    content = result.get("content")
    first = content[0] if isinstance(content, list) and content else None
    text = first.get("text") if isinstance(first, Mapping) else None
    mark = f"{_ERROR} {tool}"
    return isinstance(text, str) and (text == mark or text.startswith(f"{mark}: {_ERROR} "))


@final
@attrs.frozen
class _Build:
    """Makes the guard of a tool. Two that say the same are equal."""

    label: str
    timeout: float | None
    limit: int | None
    failures: int
    break_duration: float
    listeners: tuple[Any, ...] = attrs.field(repr=False)

    def __call__(self, tool: str) -> Pipeline[Any]:
        called = label_of(self.label, tool)
        policies: list[Policy[Any]] = []
        if self.limit is not None:
            policies.append(Bulkhead(self.limit, name=called))
        policies.append(
            CircuitBreaker(
                called,
                on=TimeoutExceededError,
                ignore=_is_no_timeout,
                on_result=lambda result: crashed(tool, result),
                trip=ConsecutiveFailures(self.failures),
                break_duration=self.break_duration,
                probe_lease=max(60.0, self.timeout or 0.0),
            )
        )
        if self.timeout is not None:
            policies.append(Timeout(self.timeout))
        with without_warnings():
            return Pipeline(*policies, name=called, listeners=self.listeners)


def _is_no_timeout(error: Exception) -> bool:
    return not isinstance(error, TimeoutError)


@final
class ToolGuard:
    """
    Middleware of a server: a bulkhead, a breaker and a timeout for each tool, by its name.

    All other messages pass. One that is turned away or cut off is answered with ``isError``; its text and its
    structured content say ``error``, ``retry_after`` (seconds or null) and ``tool``.

    Args:
        timeout: Seconds a tool may run, > 0, or None. Default 30.
        limit: Calls of one tool at once, >= 1, or None. Default 10.
        failures: Crashes and timeouts in a row that open a tool's breaker, >= 1. Default 5.
        break_duration: Seconds it stays open, > 0. Default 30.
        max_tools: Tools with a guard of their own, >= 1; clients may send any name. Default 1000.
        name: What the guards are called: ``name[tool]``. Default ``mcp``.
        registry: Where they are found, as the family *name*. Default: one of its own.
        listeners: Functions of an `Event`. Events carry no arguments and no results.
    """

    def __init__(
        self,
        *,
        timeout: float | timedelta | None = 30.0,
        limit: int | None = 10,
        failures: int = 5,
        break_duration: float | timedelta = 30.0,
        max_tools: int = 1000,
        name: str = "mcp",
        registry: Registry | None = None,
        listeners: Iterable[Listener] = (),
    ) -> None:
        heard: tuple[Any, ...] = (
            (listeners,)
            if callable(listeners) or not isinstance(listeners, Iterable)
            else tuple(listeners)
        )
        for place, each in enumerate(heard):
            check(f"ToolGuard.listeners[{place}]", each, GUARD_FIELDS["listeners"])
        given: dict[str, Any] = {
            "timeout": as_optional_seconds(timeout),
            "limit": limit,
            "failures": failures,
            "break_duration": as_seconds(break_duration),
            "max_tools": max_tools,
            "name": name,
            "registry": registry,
        }
        for field, value in given.items():
            check(f"ToolGuard.{field}", value, GUARD_FIELDS[field])
        build = _Build(
            name, given["timeout"], limit, failures, given["break_duration"], heard
        )  # fmt: skip
        self._name = name
        where = Registry() if registry is None else registry  # an empty one is false
        self._tools: Family[LivePipeline] = where.family(name, build, max_keys=max_tools)

    def __repr__(self) -> str:
        return f"<ToolGuard {self._name!r}>"

    @property
    def tools(self) -> Family[LivePipeline]:
        """The guard of each tool: ``tools["search"]``."""
        return self._tools

    @property
    def breakers(self) -> Mapping[str, CircuitBreaker]:
        """The breakers of the tools called so far, by tool."""
        return {
            str(tool): breaker for tool, guard in self._tools.items() for breaker in breakers_in(guard)
        }  # fmt: skip

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """The server's hook."""
        tool = ctx.params.get("name") if ctx.params is not None else None
        if ctx.method != "tools/call" or not isinstance(tool, str):
            return await call_next(ctx)
        try:
            return await self._tools[tool](call_next, ctx)
        except (RejectedError, TimeoutExceededError) as error:
            return _refusal(tool, error)


def _refusal(tool: str, error: RejectedError | TimeoutExceededError) -> CallToolResult:
    turned_away = isinstance(error, RejectedError)
    wait = error.retry_after if isinstance(error, RejectedError) else None
    said = {
        "error": error.reason if isinstance(error, RejectedError) else "timeout",
        "retry_after": None if wait is None else math.ceil(wait * 1000) / 1000,
        "ran": not turned_away,
        "tool": tool,
    }
    return CallToolResult(
        content=[TextContent(type="text", text=json.dumps(said))],
        structured_content=said,
        is_error=True,
    )


def retry_after_of(result: CallToolResult) -> float | None:
    """Seconds after which a tool that was turned away may be called again; None if its result says nothing of it."""
    said = result.structured_content
    wait = said.get("retry_after") if result.is_error and isinstance(said, Mapping) else None
    known = isinstance(wait, int | float) and not isinstance(wait, bool)
    return float(wait) if known and 0 <= wait < math.inf else None  # type: ignore[operator, arg-type]


CALLER_FIELDS = {
    "client": instance(Client, "an mcp.Client"),
    "attempts": count(),
    "wait": instance(FullJitter, "a FullJitter"),
    "max_delay": duration(),
    "attempt_timeout": duration(none=True),
    "total_timeout": duration(none=True),
    "budget": instance(RetryBudget, "a RetryBudget", none=True),
}
"""What each argument of `ToolCaller` takes."""


def _worth_another(error: Exception) -> bool:
    if isinstance(error, MCPError):
        return error.code in {CONNECTION_CLOSED, REQUEST_TIMEOUT}
    return isinstance(error, TimeoutError | ConnectionError)


def _is_for_later(result: object) -> bool:
    return _pushback(result) is not None


@final
class ToolCaller:
    """
    Calls a server's tools: ``call = ToolCaller(client); await call("search", {"query": "tea"})``.

    Repeated are calls of tools that the server annotates ``idempotentHint`` or ``readOnlyHint``: after a lost
    connection, a timeout, or a result with ``isError`` and ``retry_after``. All others are made once. Hints are the
    server's word: use it with servers you trust.

    Args:
        client: An `mcp.Client` that is entered.
        attempts: Attempts, the first included, >= 1. Default 3.
        wait: Between them. Default ``FullJitter(0.5, 8)``.
        max_delay: Seconds no wait exceeds, > 0. Default 30. A ``retry_after`` beyond it ends the call.
        attempt_timeout: Seconds for one attempt, > 0, or None. Default 30.
        total_timeout: Seconds for all together, > 0, above ``attempt_timeout``, or None. Default 90.
        budget: A `RetryBudget`. Default None.

    Raises:
        MCPError: the server's, as it is.
        TimeoutExceededError: it took too long.
    """

    def __init__(
        self,
        client: Client,
        *,
        attempts: int = 3,
        wait: FullJitter = FullJitter(0.5, 8.0),  # noqa: B008 - frozen
        max_delay: float | timedelta = 30.0,
        attempt_timeout: float | timedelta | None = 30.0,
        total_timeout: float | timedelta | None = 90.0,
        budget: RetryBudget | None = None,
    ) -> None:
        given: dict[str, Any] = {
            "client": client,
            "attempts": attempts,
            "wait": wait,
            "max_delay": as_seconds(max_delay),
            "attempt_timeout": as_optional_seconds(attempt_timeout),
            "total_timeout": as_optional_seconds(total_timeout),
            "budget": budget,
        }
        for field, value in given.items():
            check(f"ToolCaller.{field}", value, CALLER_FIELDS[field])
        one, total = given["attempt_timeout"], given["total_timeout"]
        if one is not None and total is not None and one >= total:
            raise ConfigurationError(
                "ToolCaller.attempt_timeout",
                got=f"{one:g} with total_timeout={total:g}",
                allowed="shorter than total_timeout",
            )
        outer = [] if total is None else [Timeout(total)]
        inner = [] if one is None else [Timeout(one)]
        retry = Retry(
            attempts,
            on=_worth_another,
            on_result=_is_for_later,
            wait=wait,
            max_delay=given["max_delay"],
            budget=budget,
            retry_after=_pushback,
        )
        self._client = client
        with without_warnings():
            self._once: Pipeline[Any] = Pipeline(*outer, *inner)
            self._again: Pipeline[Any] = Pipeline(*outer, retry, *inner)
        self._tools: dict[str, Tool] = {}

    def __repr__(self) -> str:
        return f"<ToolCaller of {len(self._tools)} tools>"

    async def __call__(
        self, name: str, arguments: Mapping[str, Any] | None = None
    ) -> CallToolResult:
        """The tool's result; one that is still turned away in the end is returned as it is."""
        guard: Callable[..., Any] = self._again if await self._is_repeatable(name) else self._once
        given = None if arguments is None else dict(arguments)
        return await guard(self._client.call_tool, name, given)  # type: ignore[no-any-return]

    async def _is_repeatable(self, tool: str) -> bool:
        if tool not in self._tools:
            self._tools = await self._again(self._listed)
        found = self._tools.get(tool)
        hints = None if found is None else found.annotations
        return hints is not None and (hints.idempotent_hint is True or hints.read_only_hint is True)

    async def _listed(self) -> dict[str, Tool]:
        tools: dict[str, Tool] = {}
        cursor: str | None = None
        for _ in range(_PAGES):
            page = await self._client.list_tools(cursor=cursor)
            tools |= {each.name: each for each in page.tools}
            cursor = page.next_cursor
            if cursor is None:
                break
        return tools


_PAGES = 100
"""Pages of a listing that are read; one that never ends must not hold a call."""


def _pushback(source: object) -> float | None:
    return retry_after_of(source) if isinstance(source, CallToolResult) else None
