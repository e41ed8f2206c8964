"""
The operations app: what the breakers do, for machines as JSON and for people as a page that keeps itself up to date.

Read-only, unless a guard says of a request that it may change something. It answers whatever it is asked: names, paths
and methods come from outside.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import json
import re
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any, TypeAlias, final
from urllib.parse import parse_qs

import anyio

from resilience.events import CircuitStateChanged, hook_failed
from resilience.integrations.asgi.board import Board, counted
from resilience.integrations.asgi.types import Receive, Scope, Send, header, respond
from resilience.telemetry import EventQueue
from resilience.telemetry._sources import Breakers, severity
from resilience.validation import as_seconds, check, count, duration, flag, one_of

__all__ = ["OperationsApp"]

ROOT = "/circuit-breakers"
ACTIONS = ("reset", "isolate", "release")

_JSON = {
    "content-type": "application/json",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
}

MayChange: TypeAlias = "Callable[[Scope], bool | Awaitable[bool]]"

_GUARD = one_of(
    "None, or a function of the scope that returns whether this request may change something",
    lambda value: value is None or (callable(value) and not isinstance(value, type)),
    {"boolean": True, "text": "admin", "class": Board},
)


@final
class OperationsApp:
    """
    An ASGI application to be mounted, or served by itself.

    ========================================= =================================================================
    ``GET /``                                 the live page
    ``GET /events``                           what it shows, pushed as server-sent events
    ``GET /snapshot``                         the same, once
    ``GET /health``                           200, ``healthy`` or ``degraded``: an open circuit is no reason to
                                              restart this process
    ``GET /circuit-breakers``                 all breakers, the worst first
    ``GET /circuit-breakers/{name}``          one; also ``/circuit-breakers?name=...`` for names that no path can hold
    ``POST /circuit-breakers/{name}/reset``   closed and empty
    ``POST /circuit-breakers/{name}/isolate`` rejects every call until ``/release`` or ``/reset``
    ========================================= =================================================================

    It listens to the process from the moment it is made until ``close()``.

    Args:
        breakers: None: every breaker of the process; a `Registry`; breakers; or a function that gives them.
        guard: A function of the ASGI scope, async or not, that says whether this request may reset, isolate or release.
            None (the default), or one that raises: nobody may. Requests that a browser sends from another site never
            may.
        calls: Count the calls of all pipelines, for rates and attempts per call. Default True.
        interval: Seconds between two pushes, > 0; a transition is pushed at once. Default 1.
        viewers: Streams at once, >= 1; the next gets 503. Default 32.
        stream_for: Seconds after which a stream ends and the page asks for another, > 0, so that a server that is
            shutting down does not wait for it. Default 30.

    Raises:
        ConfigurationError: an argument is not allowed.
    """

    def __init__(
        self,
        breakers: Breakers = None,
        *,
        guard: MayChange | None = None,
        calls: bool = True,
        interval: float = 1.0,
        viewers: int = 32,
        stream_for: float = 30.0,
    ) -> None:
        check("OperationsApp.guard", guard, _GUARD)
        check("OperationsApp.calls", calls, flag())
        check("OperationsApp.interval", pause := as_seconds(interval), duration())
        check("OperationsApp.viewers", viewers, count())
        check("OperationsApp.stream_for", length := as_seconds(stream_for), duration())
        self._guard = guard
        self._interval = pause
        self._stream_for = length
        self._places = [None] * viewers
        self._held: dict[str, list[Any]] = {}
        self._board = Board(breakers, calls=calls)

    def close(self) -> None:
        """Listen to the process no longer."""
        self._board.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1000})
            case "lifespan":
                await _lifespan(receive, send)
            case _:
                raise RuntimeError("an OperationsApp speaks http, websocket and lifespan")

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = _path_of(scope), scope["method"]
        reads = {
            "": self._page,
            "/": self._page,
            "/events": self._events,
            "/snapshot": self._snapshot,
            "/health": self._health,
        }
        handler = reads.get(path)
        if handler is None and not (path == ROOT or path.startswith(f"{ROOT}/")):
            await _error(scope, send, 404, "not_found")
        elif method in {"GET", "HEAD"}:
            if handler is not None:
                await handler(scope, receive, send)
            else:
                await self._read(scope, send, path[len(ROOT) :].lstrip("/"))
        elif method == "POST" and handler is None:
            await self._change(scope, send, path[len(ROOT) :].lstrip("/"))
        else:
            allowed = "GET, HEAD" if handler is not None else "GET, HEAD, POST"
            await _error(scope, send, 405, "method_not_allowed", {"allow": allowed})

    # ----------------------------------------------------------------- reading

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as all
        body, policy = _page()
        headers = {
            "content-type": "text/html; charset=utf-8",
            "content-security-policy": policy,
            "cache-control": "no-cache",
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
        }
        await respond(scope, send, 200, body, headers)

    async def _snapshot(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await _json(scope, send, self._shown())

    async def _health(self, scope: Scope, receive: Receive | None, send: Send) -> None:  # noqa: ARG002
        states = [each.snapshot().state for each in self._board.find()]
        summary = counted(states)
        degraded = summary["open"] + summary["half_open"] + summary["isolated"]
        await _json(scope, send, {"status": "degraded" if degraded else "healthy"} | summary)

    async def _read(self, scope: Scope, send: Send, name: str) -> None:
        named = name or _query(scope, "name")
        if named is None:
            found = self._board.snapshot()
            keys = ("timestamp", "summary", "circuit_breakers")
            body = {"total_count": found["summary"]["total"]} | {key: found[key] for key in keys}
            await _json(scope, send, body)
        elif (one := self._one(named)) is not None:
            await _json(scope, send, one)
        elif named == "health":
            await self._health(scope, None, send)
        else:
            await _error(scope, send, 404, "no_such_circuit_breaker")

    def _shown(self) -> dict[str, Any]:
        return self._board.snapshot(limit=200) | {"writable": self._guard is not None}

    def _one(self, name: str) -> dict[str, Any] | None:
        found = [(each.snapshot(), each) for each in self._board.named(name)]
        if not found:
            return None
        return self._board.circuit(*min(found, key=lambda pair: severity(pair[0])))

    # ---------------------------------------------------------------- changing

    async def _change(self, scope: Scope, send: Send, rest: str) -> None:
        name, _, action = rest.rpartition("/")
        if not name:
            name = _query(scope, "name") or ""
        if action not in ACTIONS:
            await _error(scope, send, 404, "not_found")
            return
        if (refusal := await self._refusal(scope)) is not None:
            await _error(scope, send, 403, refusal)
            return
        breakers = self._board.named(name)
        if not breakers:
            await _error(scope, send, 404, "no_such_circuit_breaker")
            return
        held = self._held.pop(name, [])
        if action == "isolate":
            # Before the old holds go, so that an isolated circuit lets nobody in between.
            self._held[name] = [each.isolate() for each in breakers]
        for each in held:
            each.release()
        if action == "reset":
            for each in breakers:
                each.reset()
        await _json(scope, send, self._one(name) or {})

    async def _refusal(self, scope: Scope) -> str | None:
        """Why this request may not change anything; None if it may."""
        if self._guard is None:
            return "read_only"
        if header(scope, b"sec-fetch-site") not in {None, b"same-origin", b"none"}:
            return "cross_site"
        try:
            answer = self._guard(scope)
            allowed = await answer if inspect.isawaitable(answer) else answer
        except Exception as error:  # noqa: BLE001 - the guard is the user's; in doubt nobody may
            hook_failed("OperationsApp.guard", self._guard, error)
            return "forbidden"
        return None if allowed is True else "forbidden"

    # ---------------------------------------------------------------- streaming

    async def _events(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._places:
            await _error(scope, send, 503, "too_many_viewers", {"retry-after": "5"})
            return
        self._places.pop()
        try:
            await self._stream(scope, receive, send)
        finally:
            self._places.append(None)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {
            b"content-type": b"text/event-stream",
            b"cache-control": b"no-store",
            b"x-accel-buffering": b"no",
            b"x-content-type-options": b"nosniff",
        }
        start = {"type": "http.response.start", "status": 200, "headers": list(headers.items())}
        await send(start)
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        async with anyio.create_task_group() as group:
            group.start_soon(_until_gone, receive, group.cancel_scope)
            await self._push(send)
            group.cancel_scope.cancel()

    async def _push(self, send: Send) -> None:
        async with EventQueue(1, listens_to=(CircuitStateChanged,)) as moved:
            begin = b"retry: 1000\n\n"
            with anyio.move_on_after(self._stream_for):
                while True:
                    data = json.dumps(self._shown(), allow_nan=False).encode()
                    body = begin + b"data: " + data + b"\n\n"
                    begin = b""
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                    with anyio.move_on_after(self._interval):
                        await anext(moved)
                        # What comes in a burst goes out together.
                        await anyio.sleep(min(0.05, self._interval))
        await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"].removeprefix("lifespan.")
        await send({"type": f"lifespan.{kind}.complete"})
        if kind == "shutdown":
            return


def _path_of(scope: Scope) -> str:
    """The path below the mount; some servers and frameworks leave the mount in it, and some do not."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return path


def _query(scope: Scope, key: str) -> str | None:
    text = scope.get("query_string", b"").decode("latin-1")
    try:
        values = parse_qs(text, keep_blank_values=True, max_num_fields=16)
    except ValueError:  # more fields than that
        return None
    return next(iter(values.get(key, ())), None)


async def _json(scope: Scope, send: Send, value: object, status: int = 200) -> None:
    await respond(scope, send, status, json.dumps(value, allow_nan=False).encode(), _JSON)


async def _error(
    scope: Scope, send: Send, status: int, word: str, headers: dict[str, str] | None = None
) -> None:
    body = json.dumps({"error": word}).encode()
    await respond(scope, send, status, body, _JSON | (headers or {}))


_pages: list[tuple[bytes, str]] = []


def _page() -> tuple[bytes, str]:
    """The page, and the policy that lets it run its own script and style, ask this app, and nothing else."""
    if not _pages:
        text = (
            resources.files("resilience.integrations.asgi").joinpath("page.html").read_text("utf-8")
        )
        sources = {
            tag: " ".join(
                f"'sha256-{_digest(body)}'"
                for body in re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
            )
            for tag in ("script", "style")
        }
        policy = (
            f"default-src 'none'; script-src {sources['script']}; style-src {sources['style']}; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        _pages.append((text.encode(), policy))
    return _pages[0]


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
