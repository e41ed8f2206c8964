"""
Tools of a real MCP server behind `ToolGuard`, called by a real client, over both of the library's in-memory ways.

Issue 6.4: MCP tools by its middleware; rejections are results that an agent can read.
"""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import (
    CONNECTION_CLOSED,
    INVALID_PARAMS,
    CallToolResult,
    TextContent,
    ToolAnnotations,
)

from resilience import (
    CircuitState,
    ConfigurationError,
    FullJitter,
    RetryBudget,
    TimeoutExceededError,
)
from resilience.integrations import mcp as ours
from resilience.integrations.mcp import ToolCaller, ToolGuard, crashed, retry_after_of
from resilience.registry import Registry
from resilience.testing import Recorder

_names = itertools.count(1)


@pytest.fixture(params=["auto", "legacy"])
def mode(request) -> str:
    return request.param


class Tools:
    """A server with tools that count and do what they are told, behind a guard."""

    def __init__(self, **settings: Any) -> None:
        self.calls: list[str] = []
        self.todo = "answer"
        self.gate = anyio.Event()
        settings.setdefault("name", f"mcp-{next(_names)}")
        self.guard = ToolGuard(**settings)
        self.server = MCPServer("tools", middleware=[self.guard])
        hints = ToolAnnotations
        for name, hint in {
            "read": hints(read_only_hint=True),
            "put": hints(idempotent_hint=True),
            "pay": hints(idempotent_hint=False),
            "bare": None,
        }.items():
            self.server.add_tool(self.tool(name), name=name, annotations=hint)

    def tool(self, name: str) -> Any:
        async def run(what: str = "") -> str:
            self.calls.append(name)
            match self.todo:
                case "crash":
                    raise ConnectionError("the secret")
                case "complain":
                    raise ToolError("no such city")
                case "refuse":
                    raise MCPError(INVALID_PARAMS, "no")
                case "hang":
                    await self.gate.wait()
            return f"{name} {what}"

        return run


def said(result: CallToolResult) -> dict[str, Any]:
    """What an agent reads: the text and the structured content say the same."""
    assert result.is_error
    text = json.loads(result.content[0].text)
    assert text == result.structured_content
    return text


async def test_a_tool_answers(backend, mode):
    """
    Issue 6.4: a guarded server works as it did, for what is no tool call too.
    """
    tools = Tools()
    async with Client(tools.server, mode=mode) as client:
        assert {"read", "put", "pay", "bare"} == {
            each.name for each in (await client.list_tools()).tools
        }
        result = await client.call_tool("read", {"what": "x"})
    assert (False, "read x") == (result.is_error, result.content[0].text)
    assert {"read"} == set(tools.guard.breakers)


async def test_a_tool_that_crashes_is_not_called(backend, mode):
    """
    Issue 6.4: crashes open the tool's own breaker; then it is not run, the agent reads when to come back, others work.
    """
    tools = Tools(failures=2, break_duration=30)
    tools.todo = "crash"
    async with Client(tools.server, mode=mode) as client:
        for _ in range(2):
            assert (await client.call_tool("read")).is_error
        result = await client.call_tool("read")
        tools.todo = "answer"
        assert not (await client.call_tool("put")).is_error
    answer = said(result)
    assert ("circuit_open", False, "read") == (answer["error"], answer["ran"], answer["tool"])
    assert 25 < answer["retry_after"] <= 30
    assert answer["retry_after"] == retry_after_of(result)
    assert ["read", "read", "put"] == tools.calls
    assert CircuitState.OPEN is tools.guard.breakers["read"].state


async def test_an_answer_with_an_error_is_an_answer(backend, mode):
    """
    Issue 6.4: what a tool says itself, arguments that do not fit and tools that are not there open nothing.
    """
    tools = Tools(failures=1)
    tools.todo = "complain"
    async with Client(tools.server, mode=mode) as client:
        for _ in range(3):
            assert (await client.call_tool("read")).is_error
            assert (await client.call_tool("read", {"what": 7})).is_error
            assert (await client.call_tool("nobody")).is_error
    assert [CircuitState.CLOSED] * 2 == [each.state for each in tools.guard.breakers.values()]
    assert 0 == tools.guard.breakers["read"].snapshot().totals.failures
    assert ["read"] * 3 == tools.calls


async def test_a_protocol_error_passes_and_counts_nothing(backend, mode):
    """
    Issue 6.4: what a tool refuses as a protocol error reaches the client as it is.
    """
    tools = Tools(failures=1)
    tools.todo = "refuse"
    async with Client(tools.server, mode=mode) as client:
        for _ in range(2):
            with pytest.raises(MCPError):
                await client.call_tool("read")
    assert 0 == tools.guard.breakers["read"].snapshot().totals.failures
    assert ["read", "read"] == tools.calls


async def test_a_tool_that_hangs_is_cut_off(backend, mode):
    """
    Issue 6.4: a timeout per tool; it says that the tool ran, and counts.
    """
    tools = Tools(timeout=0.1)
    tools.todo = "hang"
    async with Client(tools.server, mode=mode) as client:
        result = await client.call_tool("read")
    assert {"error": "timeout", "retry_after": None, "ran": True, "tool": "read"} == said(result)
    assert retry_after_of(result) is None
    assert 1 == tools.guard.breakers["read"].snapshot().totals.failures


async def test_places_are_per_tool(backend, mode):
    """
    Issue 6.4: a bulkhead per tool; one that is full turns away, the next tool is free, and places come back.
    """
    tools = Tools(limit=1, timeout=None)
    tools.todo = "hang"
    async with Client(tools.server, mode=mode) as client, anyio.create_task_group() as group:
        group.start_soon(client.call_tool, "read")
        while not tools.calls:  # noqa: ASYNC110 - the server sets no event
            await anyio.sleep(0.01)
        assert "bulkhead_full" == said(await client.call_tool("read"))["error"]
        tools.gate.set()
        tools.todo = "answer"
        assert not (await client.call_tool("put")).is_error
    async with Client(tools.server, mode=mode) as client:
        assert not (await client.call_tool("read")).is_error
    assert ["read", "put", "read"] == tools.calls


async def test_no_limits(backend, mode):
    """
    Issue 6.4: None is no limit.
    """
    tools = Tools(limit=None, timeout=None)
    async with Client(tools.server, mode=mode) as client:
        assert not (await client.call_tool("bare")).is_error
    assert f"<ToolGuard {tools.guard._name!r}>" == repr(tools.guard)
    assert "bare" in tools.guard.tools


async def test_guards_are_found_in_a_registry(backend):
    """
    Issue 6.4: two servers that say the same share the guards of a registry; arguments reach no listener.
    """
    registry, recorder = Registry(), Recorder()
    name = f"mcp-{next(_names)}"
    one, two = (
        Tools(registry=registry, name=name, failures=1, listeners=recorder) for _ in range(2)
    )
    one.todo = "crash"
    async with Client(one.server) as client:
        await client.call_tool("read", {"what": "the prompt"})
    async with Client(two.server) as client:
        assert (
            "circuit_open" == said(await client.call_tool("read", {"what": "the prompt"}))["error"]
        )
    assert [] == two.calls
    assert recorder.events
    assert "prompt" not in repr(recorder.events)
    assert "secret" not in repr(recorder.events)


@pytest.mark.parametrize(
    ("params", "method"),
    [(None, "tools/call"), ({"name": 7}, "tools/call"), ({"name": "x"}, "ping")],
)
async def test_what_is_no_call_passes(backend, params, method):
    """
    Hazard: messages that are malformed are the server's to refuse.
    """
    guard = ToolGuard(name=f"mcp-{next(_names)}")

    async def call_next(ctx: Any) -> Any:
        return {"seen": ctx.method}

    assert {"seen": method} == await guard(SimpleNamespace(params=params, method=method), call_next)
    assert not guard.breakers


# ------------------------------------------------------------------------------------ the client


NOW = FullJitter(0, 0)


@pytest.mark.parametrize(
    ("tool", "times"), [("read", 3), ("put", 3), ("pay", 1), ("bare", 1)]
)  # fmt: skip
async def test_only_what_may_be_repeated_is(backend, mode, tool, times):
    """
    Issue 6.4: retries for idempotentHint and readOnlyHint, and for no other tool.
    """
    tools = Tools(timeout=None)
    tools.todo = "hang"
    async with Client(tools.server, mode=mode) as client:
        call = ToolCaller(client, wait=NOW, attempt_timeout=0.2, total_timeout=20)
        with pytest.raises(TimeoutExceededError):
            await call(tool, {"what": "x"})
    assert [tool] * times == tools.calls


async def test_the_caller_waits_as_it_is_told(backend, mode):
    """
    Issue 6.4, retry_after: a tool that is turned away is called again after the break, and answers.
    """
    tools = Tools(failures=1, break_duration=0.3)
    tools.todo = "crash"
    async with Client(tools.server, mode=mode) as client:
        assert (await client.call_tool("read")).is_error
        tools.todo = "answer"
        call = ToolCaller(client, wait=NOW, attempt_timeout=None)
        started = anyio.current_time()
        result = await call("read", {"what": "x"})
        assert (False, "read x") == (result.is_error, result.content[0].text)
        assert anyio.current_time() - started > 0.1
    assert ["read", "read"] == tools.calls
    assert "<ToolCaller of 4 tools>" == repr(call)


async def test_a_long_break_is_the_agents_affair(backend, mode):
    """
    Issue 6.4: beyond max_delay the result is returned as it is, for a plan around the tool.
    """
    tools = Tools(failures=1, break_duration=300)
    tools.todo = "crash"
    async with Client(tools.server, mode=mode) as client:
        await client.call_tool("read")
        call = ToolCaller(client, total_timeout=None, budget=RetryBudget())
        assert "circuit_open" == said(await call("read"))["error"]
        assert "Unknown tool" in (await call("nobody")).content[0].text
    assert ["read"] == tools.calls


class Pages:
    """Stands for a client with a long listing, and a wire that breaks."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = [*errors]
        self.pages = self.calls = 0

    async def list_tools(self, cursor: str | None = None) -> Any:
        self.pages += 1
        tool = SimpleNamespace(name=f"t{cursor}", annotations=ToolAnnotations(read_only_hint=True))
        return SimpleNamespace(tools=[tool], next_cursor=str(self.pages))

    async def call_tool(self, name: str, arguments: Any) -> Any:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return CallToolResult(content=[])


async def test_a_listing_without_end_and_a_broken_wire(backend, monkeypatch):
    """
    Hazard: a listing that never ends is read to its hundredth page; a lost connection is worth another attempt.
    """
    monkeypatch.setitem(ours.CALLER_FIELDS, "client", ours.instance(Pages, "pages"))
    pages: Any = Pages(MCPError(CONNECTION_CLOSED, "gone"), ConnectionError())
    call = ToolCaller(pages, wait=NOW)
    assert not (await call("t1")).is_error
    assert (100, 3) == (pages.pages, pages.calls)
    pages.errors = [MCPError(INVALID_PARAMS, "no")]
    with pytest.raises(MCPError):
        await call("t2")
    assert (100, 4) == (pages.pages, pages.calls)


def test_what_a_crash_looks_like():
    """
    Issue 6.4: the library's own words for a crash, of the tool's own or of one it called, and nothing else.
    """

    def result(text: Any, *, error: Any = True) -> dict[str, Any]:
        return {"isError": error, "content": [{"type": "text", "text": text}]}

    crashes = ["Error executing tool a", "Error executing tool a: Error executing tool b"]
    others = [
        "Error executing tool a: no such city",
        "Unknown tool: a",
        "Error executing tool ab",
        None,
    ]
    assert [True] * 2 == [crashed("a", result(each)) for each in crashes]
    assert [False] * 4 == [crashed("a", result(each)) for each in others]
    odd = [
        None,
        {},
        {"isError": True},
        {"isError": True, "content": [7]},
        result(crashes[0], error=1),
    ]
    assert [False] * 5 == [crashed("a", each) for each in odd]


@pytest.mark.parametrize("said", [None, True, "3", -1, float("inf"), float("nan")])
def test_what_says_nothing_of_when(said):
    """
    Hazard: the word of a stranger; what is no number of seconds was not said.
    """
    content = [TextContent(type="text", text="x")]
    result = CallToolResult(
        content=content, structured_content={"retry_after": said}, is_error=True
    )
    assert retry_after_of(result) is None
    assert (
        retry_after_of(CallToolResult(content=content, structured_content={"retry_after": 3}))
        is None
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(field, value, id=f"{field}-{rule}")
        for field, allowed in ours.GUARD_FIELDS.items()
        for rule, value in allowed.breaches.items()
    ],
)
def test_each_rule_of_a_guard(field, value):
    """
    Bad input: one error with the field, what it got and what is allowed.
    """
    several = field == "listeners"
    with pytest.raises(ConfigurationError) as caught:
        ToolGuard(**{field: [value] if several else value})
    path = f"ToolGuard.{field}[0]" if several else f"ToolGuard.{field}"
    assert (path, ours.GUARD_FIELDS[field].text) == (caught.value.field, caught.value.allowed)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(field, value, id=f"{field}-{rule}")
        for field, allowed in ours.CALLER_FIELDS.items()
        for rule, value in allowed.breaches.items()
    ],
)
def test_each_rule_of_a_caller(field, value):
    """
    Bad input: one error with the field, what it got and what is allowed.
    """
    given = {"client": Client(MCPServer("tools"))} | {field: value}
    with pytest.raises(ConfigurationError) as caught:
        ToolCaller(**given)
    assert f"ToolCaller.{field}" == caught.value.field


def test_an_attempt_as_long_as_the_whole():
    """
    Bad input: timeouts that contradict each other; a listener that is none.
    """
    with pytest.raises(ConfigurationError) as caught:
        ToolCaller(Client(MCPServer("tools")), attempt_timeout=9, total_timeout=9)
    assert "ToolCaller.attempt_timeout" == caught.value.field
    with pytest.raises(ConfigurationError):
        ToolGuard(listeners=7)
