"""
The operations app: stable JSON, changes for those who may, a stream of events, and an answer to whatever is asked.
"""

from __future__ import annotations

import json
from urllib.parse import quote

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from resilience import (
    CircuitBreaker,
    CircuitOpenError,
    CircuitState,
    ConfigurationError,
    ConsecutiveFailures,
    Pipeline,
    Retry,
    Timeout,
    testing,
)
from resilience.events import EVERYWHERE, CallFinished, CircuitStateChanged
from resilience.integrations.asgi import OperationsApp
from resilience.registry import Registry
from resilience.testing import Script
from resilience.testing.time import follow
from tests.asgi.kit import Viewer, ask, scope_of

HOSTILE = [
    "<script>alert(1)</script>",
    "a/b",
    "a/reset",
    "..",
    ".",
    "%2e%2e",
    "per cent %",
    "q?x=1&y#z",
    "\"quote'",
    "\\back\\slash",
    "naïve-日本-🙂",
    "health",
    "reset",
    "a" * 256,
    "{}; DROP TABLE circuits",
]


def breaker(name="catalogue", **options):
    return CircuitBreaker(name, on=OSError, trip=ConsecutiveFailures(1), **options)


async def test_lists_every_breaker_of_the_process_the_worst_first(backend, operations):
    """
    Without a registry: all that live, with the same keys in every state, a summary and the time.
    """
    app = operations()
    gates = [breaker("b"), breaker("a"), breaker("c")]
    gates[2].admit().failure(OSError("secret"))
    reply = await ask(app, "GET", "/circuit-breakers")
    body = reply.json
    # Breakers of other tests may still be around.
    listed = [each for each in body["circuit_breakers"] if each["name"] in {"a", "b", "c"}]
    assert {"total_count", "timestamp", "summary", "circuit_breakers"} == set(body)
    assert ["c", "a", "b"] == [each["name"] for each in listed]
    assert 3 <= body["total_count"] == body["summary"]["total"] == len(body["circuit_breakers"])
    summary = (await ask(operations(gates), "GET", "/circuit-breakers")).json["summary"]
    assert (3, 2, 1, 66.7) == tuple(
        summary[key] for key in ("total", "closed", "open", "health_percentage")
    )
    assert 1 == len({tuple(each) for each in body["circuit_breakers"]})
    worst, good, _ = listed
    assert {
        "name", "state", "for_seconds", "retry_after", "last_failure", "calls", "failures", "slow",
        "failure_rate", "slow_rate", "generation", "openings", "rejected", "totals", "reason", "transition",
    } == set(worst)  # fmt: skip
    assert ("open", "OSError", "tripped") == (
        worst["state"],
        worst["last_failure"],
        worst["reason"],
    )
    assert {"from": "closed", "calls": 1, "failures": 1, "slow": 0} == worst["transition"]
    assert 0 < worst["retry_after"] <= 30
    assert (None, None, None) == (good["retry_after"], good["failure_rate"], good["reason"])
    assert "secret" not in str(body)
    assert "no-store" == reply.headers["cache-control"]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
async def test_hostile_names_are_names(backend, operations, name):
    """
    Whatever a breaker is called, it is found by its path and by its query, and can be reset by both.
    """
    gate = breaker(name)
    app = operations([gate, breaker("other")], guard=lambda _: True)
    quoted = quote(name, safe="")
    for target in (f"/circuit-breakers/{quoted}", f"/circuit-breakers?name={quoted}"):
        reply = await ask(app, "GET", target)
        assert (200, name) == (reply.status, reply.json["name"])
    for target in (f"/circuit-breakers/{quoted}/reset", f"/circuit-breakers/reset?name={quoted}"):
        gate.admit().failure()
        assert CircuitState.OPEN is gate.state
        reply = await ask(app, "POST", target)
        assert (200, "closed") == (reply.status, reply.json["state"])
        assert CircuitState.CLOSED is gate.state


async def test_health_is_about_this_process(backend, operations):
    """
    An open circuit degrades it; it is no reason to answer anything but 200.
    """
    gate = breaker()
    app = operations([gate])
    assert "healthy" == (await ask(app, "GET", "/health")).json["status"]
    gate.admit().failure()
    for target in ("/health", "/circuit-breakers/health"):
        reply = await ask(app, "GET", target)
        assert (200, "degraded", 1) == (reply.status, reply.json["status"], reply.json["open"])


async def test_read_only_unless_a_guard_allows(backend, operations):
    """
    Without a guard nobody may; with one, whom it says True of, asynchronously too; one that raises says no.
    """
    gate = breaker()

    async def asks(scope):
        await anyio.lowlevel.checkpoint()
        return (b"x-token", b"right") in scope["headers"]

    def broken(scope):
        raise KeyError

    refused = [None, lambda _: False, lambda _: None, lambda _: "yes", asks, broken]
    for guard in refused:
        for action in ("reset", "isolate", "release"):
            reply = await ask(
                operations([gate], guard=guard), "POST", f"/circuit-breakers/catalogue/{action}"
            )
            assert 403 == reply.status
            assert ("read_only" if guard is None else "forbidden") == reply.json["error"]
    assert CircuitState.CLOSED is gate.state
    app = operations([gate], guard=asks)
    right = [("x-token", "right")]
    target = "/circuit-breakers/catalogue/isolate"
    cross = await ask(app, "POST", target, headers=[*right, ("Sec-Fetch-Site", "cross-site")])
    assert (403, "cross_site") == (cross.status, cross.json["error"])
    same = await ask(app, "POST", target, headers=[*right, ("sec-fetch-site", "same-origin")])
    assert (200, "isolated") == (same.status, same.json["state"])
    assert CircuitState.ISOLATED is gate.state


async def test_isolation_holds_until_released(backend, operations):
    """
    Isolated twice is isolated once; somebody else's hold is not released; reset voids them all.
    """
    gate = breaker()
    app = operations([gate], guard=lambda _: True)

    async def act(action):
        reply = await ask(app, "POST", f"/circuit-breakers/catalogue/{action}")
        return reply.json["state"]

    generation = gate.generation
    assert ["isolated", "isolated"] == [await act("isolate"), await act("isolate")]
    assert generation + 1 == gate.generation
    with pytest.raises(CircuitOpenError):
        gate.admit()
    assert "closed" == await act("release")
    assert "closed" == await act("release")
    with gate.isolate():
        assert "isolated" == await act("isolate")
        assert "isolated" == await act("release")
        assert "closed" == await act("reset")
    assert CircuitState.CLOSED is gate.state
    assert "isolated" == await act("isolate")
    assert "closed" == await act("reset")


@pytest.mark.parametrize(
    ("method", "target", "status", "allow"),
    [
        ("GET", "/nothing", 404, None),
        ("GET", "/circuit-breakersx", 404, None),
        ("GET", "/circuit-breakers/nobody", 404, None),
        ("GET", "/circuit-breakers?name=nobody", 404, None),
        ("POST", "/circuit-breakers/catalogue", 404, None),
        ("POST", "/circuit-breakers", 404, None),
        ("POST", "/circuit-breakers/nobody/reset", 404, None),
        ("POST", "/circuit-breakers/reset", 404, None),
        ("POST", "/circuit-breakers/catalogue/explode", 404, None),
        ("PUT", "/circuit-breakers/catalogue", 405, "GET, HEAD, POST"),
        ("DELETE", "/circuit-breakers", 405, "GET, HEAD, POST"),
        ("POST", "/health", 405, "GET, HEAD"),
        ("OPTIONS", "/", 405, "GET, HEAD"),
        ("<script>", "/snapshot", 405, "GET, HEAD"),
        ("GET", "/circuit-breakers?" + "&".join(f"a{n}=1" for n in range(100)), 200, None),
        ("GET", "/circuit-breakers/", 200, None),
        ("GET", "", 200, None),
    ],
)
async def test_whatever_is_asked_is_answered(backend, operations, method, target, status, allow):
    """
    Unknown paths, names and methods: one word of JSON that repeats nothing of the question.
    """
    app = operations([breaker()], guard=lambda _: True)
    reply = await ask(app, method, target)
    assert (status, allow) == (reply.status, reply.headers.get("allow"))
    if status != 200:
        assert {"error"} == set(reply.json)
        assert b"script" not in reply.body


async def test_head_is_get_without_a_body(backend, operations):
    """
    Every page that can be read can be asked for its header.
    """
    app = operations([breaker()])
    lists = ("/circuit-breakers", "/circuit-breakers/catalogue")
    for target in ("/", "/snapshot", "/health", "/events", *lists):
        reply = await ask(app, "HEAD", target)
        assert (200, b"") == (reply.status, reply.body)


@settings(deadline=None)  # a loop per example takes as long as the machine lets it
@given(
    method=some.sampled_from(["GET", "HEAD", "POST", "PUT", "TRACE", "x"]),
    path=some.text(max_size=40)
    | some.builds("/circuit-breakers/{}".format, some.text(max_size=20)),
    query=some.binary(max_size=40),
    root=some.sampled_from(["", "/ops", "/"]),
)
def test_no_request_raises(method, path, query, root):
    """
    Random methods, paths and queries get exactly one answer, and never an error from inside.
    """
    app = OperationsApp([], calls=False, guard=lambda _: True)

    async def main():
        sent = []

        async def send(message):
            sent.append(message)

        async def receive():
            return {"type": "http.disconnect"}

        scope = scope_of(method, "/", root=root) | {"path": path, "query_string": query}
        await app(scope, receive, send)
        assert sent[0]["status"] in {200, 404, 405}
        assert 1 == sum(each["type"] == "http.response.start" for each in sent)

    try:
        testing.run(main, backend="asyncio")
    finally:
        app.close()


@pytest.mark.parametrize("path", ["/ops/health", "/health"])
async def test_may_be_mounted(backend, operations, path):
    """
    Servers and frameworks differ in whether the mount stays in the path; both work.
    """
    app = operations([breaker()])
    assert 200 == (await ask(app, "GET", path, root="/ops")).status
    assert 200 == (await ask(app, "GET", "/ops", root="/ops")).status
    assert 404 == (await ask(app, "GET", "/opsx", root="/ops")).status


async def test_shows_a_registry_alone(backend, operations):
    """
    Given a registry, its breakers and the calls of its pipelines, also of those that come later.
    """
    registered = Registry()
    app = operations(registered)
    foreign = Pipeline(breaker("foreign"), Timeout(5), name="foreign")
    gate = registered.breaker("orders", domain="db", on=OSError)
    mine = registered.pipeline("order reads", gate, Timeout(5))
    for each in (foreign, mine):
        await each(Script())
    body = (await ask(app, "GET", "/snapshot")).json
    assert ["db:orders"] == [each["name"] for each in body["circuit_breakers"]]
    assert ["order reads"] == [each["name"] for each in body["pipelines"]]


async def test_one_view_of_breakers_that_share_a_name(backend, operations):
    """
    The worst of them is shown by name, all of them in the list, and all of them are reset.
    """
    one = breaker("twin")
    with pytest.warns(UserWarning, match="two live"):
        other = breaker("twin")
    app = operations([one, other], guard=lambda _: True)
    other.admit().failure()
    reply = await ask(app, "GET", "/circuit-breakers/twin")
    assert ("open", "tripped") == (reply.json["state"], reply.json["reason"])
    listed = (await ask(app, "GET", "/circuit-breakers")).json["circuit_breakers"]
    # The closed one did not move, so its namesake's transition says nothing about it.
    assert [("open", "tripped"), ("closed", None)] == [(e["state"], e["reason"]) for e in listed]
    await ask(app, "POST", "/circuit-breakers/twin/reset")
    assert CircuitState.CLOSED is other.state


async def test_counts_the_calls_of_the_last_minute(backend, operations, clock):
    """
    Calls, outcomes, attempts per call and mean time by pipeline; what is older than a minute is gone.
    """
    app = operations([])
    guarded = Pipeline(Retry(3, on=OSError, wait=lambda _: 0.0), name="shop")
    for script in (Script(), Script(OSError, 1), Script(OSError)):
        await guarded.outcome(script)
    app._board(
        CallFinished(policy="p", at=0.0, outcome="rejected", attempts=0, elapsed=0.0, error="E")
    )
    app._board(
        CallFinished(policy="p", at=0.0, outcome="cancelled", attempts=1, elapsed=1.0, error="E")
    )
    found = {each["name"]: each for each in (await ask(app, "GET", "/snapshot")).json["pipelines"]}
    assert (3, 2, 1, 6, 2.0, 0.6667) == tuple(
        found["shop"][key]
        for key in ("calls", "success", "failure", "attempts", "attempts_per_call", "success_rate")
    )
    assert (2, 1, 1, 0.5, None) == tuple(
        found["p"][key]
        for key in ("calls", "rejected", "cancelled", "mean_seconds", "success_rate")
    )
    with follow(clock):
        minutes = operations([])
        for _ in range(3):
            minutes._board(
                CallFinished(
                    policy="p", at=0.0, outcome="success", attempts=1, elapsed=0.1, error=None
                )
            )
            clock.advance(20)
        assert [2] == [each["calls"] for each in minutes._board.snapshot()["pipelines"]]
        clock.advance(60)
        assert [0] == [each["calls"] for each in minutes._board.snapshot()["pipelines"]]


async def test_what_is_remembered_is_bounded(backend, operations):
    """
    Names that somebody makes of user ids do not fill the memory.
    """
    app = operations([])
    for n in range(1200):
        app._board(
            CallFinished(
                policy="p",
                pipeline=f"p{n}",
                at=0.0,
                outcome="success",
                attempts=1,
                elapsed=0.1,
                error=None,
            )
        )
        app._board(
            CircuitStateChanged(
                policy=f"g{n}", at=0.0, old="CLOSED", new="OPEN", generation=2, reason="tripped"
            )
        )
    assert 201 == len((await ask(app, "GET", "/snapshot")).json["pipelines"])
    assert 1000 == len(app._board._moved)


async def test_without_calls_no_call_is_counted(backend, operations):
    """
    ``calls=False`` leaves every call's path alone; transitions are still heard.
    """
    gate = breaker()
    app = operations([gate], calls=False)
    assert not EVERYWHERE.per_call
    gate.admit().failure()
    await Pipeline(Timeout(5))(Script())
    body = (await ask(app, "GET", "/snapshot")).json
    assert [] == body["pipelines"]
    assert ["circuit_state_changed"] == [each["event"] for each in body["events"]]
    assert "tripped" == body["circuit_breakers"][0]["reason"]
    app.close()
    gate.reset()
    assert 1 == len((await ask(app, "GET", "/snapshot")).json["events"])


# ---------------------------------------------------------------------- stream


async def soon(holds):
    """Wait until that is so; a minute is more than any machine needs."""
    with anyio.fail_after(60):
        while not holds():  # noqa: ASYNC110 - as a reader would
            await anyio.sleep(0.001)


async def test_a_transition_is_pushed_at_once(backend, unit, operations):
    """
    The first message comes at once, the next when something moves, long before the interval is over.
    """
    gate = breaker()
    app = operations([gate], interval=1800, stream_for=3600)
    viewer = Viewer(app)
    async with anyio.create_task_group() as group:
        group.start_soon(viewer)
        await soon(lambda: viewer.seen)
        assert ["closed"] == [each["circuit_breakers"][0]["state"] for each in viewer.seen]
        gate.admit().failure()
        await soon(lambda: len(viewer.seen) > 1)
        assert "open" == viewer.seen[-1]["circuit_breakers"][0]["state"]
        viewer.gone.set()
        await soon(viewer.ended.is_set)
    start = viewer.messages[0]
    assert (b"content-type", b"text/event-stream") in start["headers"]
    assert viewer.messages[1]["body"].startswith(b"retry: 1000\n\ndata: {")
    assert not viewer.seen[0]["writable"]


async def test_the_numbers_come_every_interval_and_the_stream_ends(backend, unit, operations):
    """
    One message per interval; after ``stream_for`` the stream ends properly, so that a server can go down.
    """
    viewer = Viewer(operations([breaker()], interval=unit, stream_for=4.5 * unit))
    with anyio.fail_after(60):
        await viewer()
    assert (1 if backend == "uvloop" else 4) <= len(viewer.seen) <= 6
    assert b"" == viewer.messages[-1]["body"]
    assert not viewer.messages[-1].get("more_body")


async def test_viewers_are_bounded_and_places_come_back(backend, unit, operations):
    """
    The next viewer gets 503; when one leaves, or is cut off, there is a place again.
    """
    app = operations([], viewers=2, interval=1800, stream_for=3600)
    viewers = [Viewer(app) for _ in range(2)]
    async with anyio.create_task_group() as group:
        for each in viewers:
            group.start_soon(each)
        await soon(lambda: not app._places)
        reply = await ask(app, "GET", "/events")
        assert (503, "too_many_viewers", "5") == (
            reply.status,
            reply.json["error"],
            reply.headers["retry-after"],
        )
        viewers[0].gone.set()
        await soon(viewers[0].ended.is_set)
        third = Viewer(app)
        group.start_soon(third)
        await soon(lambda: third.seen)
        group.cancel_scope.cancel()
    assert 2 == len(app._places)


async def test_other_protocols(backend, operations):
    """
    A websocket is closed, the lifespan is gone through, anything else is a mistake of the server's.
    """
    app = operations([])
    sent = []
    incoming = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive():
        return {"type": next(incoming)}

    async def connect():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    await app({"type": "websocket"}, connect, send)
    assert ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"] == sent
    with pytest.raises(RuntimeError, match="speaks http"):
        await app({"type": "smoke"}, receive, send)


async def test_the_page_may_run_its_own_script_and_nothing_else(backend, operations):
    """
    One file: no address of anybody else in it, and a policy that allows its own script and style by their digests.
    """
    reply = await ask(operations([]), "GET", "/")
    assert "text/html; charset=utf-8" == reply.headers["content-type"]
    policy = reply.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    text = reply.body.decode()
    assert not [
        word for word in ("http://", "https://", "//cdn", "innerHTML", "eval(") if word in text
    ]
    assert text.isascii() or 'charset="utf-8"' in text


def test_what_is_shown_is_json(operations):
    """
    Numbers that JSON has no word for do not reach it.
    """
    gate = breaker(break_duration=lambda _: 1e308)
    gate.admit().failure()
    app = operations([gate])
    json.loads(json.dumps(app._shown(), allow_nan=False))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"guard": True}, "guard"),
        ({"calls": "yes"}, "calls"),
        ({"interval": 0}, "interval"),
        ({"viewers": 0}, "viewers"),
        ({"stream_for": "5"}, "stream_for"),
        ({"breakers": 7}, "breakers"),
    ],
)
def test_bad_options_are_refused(options, field):
    """
    One error that names the field, and nobody listens afterwards.
    """
    with pytest.raises(ConfigurationError, match=rf"OperationsApp\.{field} must be"):
        OperationsApp(**options)
