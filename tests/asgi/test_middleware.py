"""
The middleware: errors as answers, load shedding, and everything else left alone.
"""

from __future__ import annotations

import itertools
import math

import anyio
import pytest

from resilience import (
    Bulkhead,
    BulkheadFullError,
    CircuitBreaker,
    CircuitIsolatedError,
    CircuitOpenError,
    ConfigurationError,
    ConsecutiveFailures,
    DeadlineExpiredError,
    Pipeline,
    RateLimitedError,
    RejectedError,
    ThrottledError,
    Timeout,
    TimeoutExceededError,
    remaining,
)
from resilience.integrations.asgi import ResilienceMiddleware, answer_of
from tests.asgi.kit import ask, scope_of

GROUP = ExceptionGroup(
    "both",
    [RateLimitedError(retry_after=5), ExceptionGroup("inside", [CircuitOpenError("gate")])],
)


def raising(error):
    async def app(scope, receive, send):
        raise error

    return app


async def fine(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})


@pytest.mark.parametrize(
    ("error", "status", "retry_after", "word"),
    [
        (CircuitOpenError("gate", retry_after=12.3), 503, "13", "circuit_open"),
        (CircuitOpenError("gate", state="HALF_OPEN"), 503, "1", "circuit_open"),
        (CircuitIsolatedError("gate"), 503, "1", "circuit_isolated"),
        (BulkheadFullError(policy="Bulkhead(1)"), 503, "1", "bulkhead_full"),
        (ThrottledError(retry_after=0.0), 503, "1", "throttled"),
        (RateLimitedError(retry_after=2.0), 429, "2", "rate_limited"),
        (DeadlineExpiredError(policy="Timeout(2)"), 504, None, "deadline"),
        (TimeoutExceededError(2.0), 504, None, "timeout"),
        (RejectedError("by a policy of one's own", reason="mine"), 503, "1", "mine"),
        (GROUP, 503, "1", "circuit_open"),
        (RateLimitedError(retry_after=math.inf), 429, "1", "rate_limited"),
        (RateLimitedError(retry_after=math.nan), 429, "1", "rate_limited"),
        (RateLimitedError(retry_after=-5.0), 429, "1", "rate_limited"),
        (RateLimitedError(retry_after=1e300), 429, "86400", "rate_limited"),
    ],
    ids=(f"answer-{n}" for n in itertools.count()),
)
async def test_errors_become_answers(backend, error, status, retry_after, word):
    """
    429, 503 or 504, one word, and when to come back in whole seconds, rounded up; nothing of what is behind.
    """
    reply = await ask(ResilienceMiddleware(raising(error)), "GET", "/orders")
    assert (status, retry_after) == (reply.status, reply.headers.get("retry-after"))
    assert word == reply.json["error"]
    assert {"error", "retry_after"} == set(reply.json)
    assert "application/json" == reply.headers["content-type"]
    assert str(len(reply.body)) == reply.headers["content-length"]
    for secret in (b"gate", b"Bulkhead", b"Timeout(", b"own"):
        assert secret not in reply.body


@pytest.mark.parametrize(
    "error", [KeyError("x"), OSError(), TimeoutError(), ExceptionGroup("mixed", [CircuitOpenError("g"), OSError()])]
)  # fmt: skip
async def test_errors_of_others_pass(backend, error):
    """
    What is not this package's, a builtin `TimeoutError` included, passes by identity.
    """
    with pytest.raises(type(error)) as raised:
        await ask(ResilienceMiddleware(raising(error)), "GET", "/")
    assert raised.value is error
    assert answer_of(error) is None


async def test_an_answer_that_has_begun_is_not_answered_twice(backend):
    """
    After the first bytes the error passes: the server breaks the connection off, as it should.
    """
    sent = []

    async def half(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise CircuitOpenError("gate")

    async def send(message):
        sent.append(message)

    with pytest.raises(CircuitOpenError):
        await ResilienceMiddleware(half)(scope_of("GET", "/"), None, send)
    assert [200] == [each["status"] for each in sent]


async def test_head_gets_the_header_alone(backend):
    """
    The answer to HEAD has its length and no body.
    """
    reply = await ask(ResilienceMiddleware(raising(RateLimitedError())), "HEAD", "/")
    assert (429, b"") == (reply.status, reply.body)
    assert int(reply.headers["content-length"]) > 10


async def test_other_protocols_pass(backend):
    """
    Websockets and lifespan go to the application as they are.
    """
    seen = []

    async def app(scope, receive, send):
        seen.append((scope["type"], receive, send))
        raise CircuitOpenError("gate")

    app_with = ResilienceMiddleware(app, shed=1)
    for kind in ("websocket", "lifespan"):
        with pytest.raises(CircuitOpenError):
            await app_with({"type": kind}, 1, 2)
    assert [("websocket", 1, 2), ("lifespan", 1, 2)] == seen


@pytest.mark.parametrize(
    "shed", [2, Bulkhead(2), Pipeline(Bulkhead(2))], ids=["number", "policy", "pipeline"]
)
async def test_load_is_shed_and_exempt_paths_are_not(backend, shed):
    """
    Beyond the limit 503 at once, without the application; health checks always get in; places are given back.
    """
    leave = anyio.Event()
    inside = []

    async def slow(scope, receive, send):
        inside.append(scope["path"])
        if scope["path"] == "/slow":
            await leave.wait()
        await fine(scope, receive, send)

    app = ResilienceMiddleware(slow, shed=shed, exempt=["/health", "/metrics/"])
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(ask, app, "GET", "/slow")
        await anyio.wait_all_tasks_blocked()
        turned_away = await ask(app, "GET", "/fast")
        assert (503, "bulkhead_full") == (turned_away.status, turned_away.json["error"])
        assert 503 == (await ask(app, "GET", "/healthy")).status
        for path in ("/health", "/health/live", "/metrics", "/metrics/x"):
            assert 200 == (await ask(app, "GET", path)).status
        leave.set()
    assert 200 == (await ask(app, "GET", "/fast")).status
    assert "/healthy" not in inside
    assert 1 == inside.count("/fast")


async def test_exempt_may_be_a_function(backend):
    """
    Whoever knows more than paths decides by the scope.
    """
    app = ResilienceMiddleware(
        fine, shed=Bulkhead(0), exempt=lambda scope: scope["method"] == "GET"
    )
    assert (200, 503) == ((await ask(app, "GET", "/")).status, (await ask(app, "POST", "/")).status)


async def test_a_service_behind_a_breaker_tells_when_to_come_back(backend):
    """
    A handler whose dependency fails: its own error first, then 503 with what is left of the break.
    """
    gate = CircuitBreaker("upstream", on=OSError, trip=ConsecutiveFailures(1), break_duration=20)
    guarded = Pipeline(gate, Timeout(2))

    async def upstream():
        raise OSError

    async def app(scope, receive, send):
        await guarded(upstream)

    service = ResilienceMiddleware(app)
    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        await ask(service, "GET", "/")
    reply = await ask(service, "GET", "/")
    assert 503 == reply.status
    assert reply.headers["retry-after"] in {"19", "20", "21"}


async def test_statuses_and_the_unknown_wait_are_the_users(backend):
    """
    Another status for a class, and no ``Retry-After`` where nobody knows.
    """
    app = ResilienceMiddleware(
        raising(CircuitIsolatedError("gate")), retry_after=None, statuses={CircuitOpenError: 502}
    )
    reply = await ask(app, "GET", "/")
    assert (502, None) == (reply.status, reply.headers.get("retry-after"))
    assert reply.json["retry_after"] is None


async def test_a_callers_deadline_cuts_the_request_off(backend, unit):
    """
    A timeout in a header bounds the request and what it calls; over, it is answered 504, and shed places come back.
    """
    left = []
    patience = max(unit, 0.5)  # in real time, enough for a slow machine to begin in

    async def slow(scope, receive, send):
        left.append(remaining())
        await anyio.sleep(3 * patience)
        await fine(scope, receive, send)

    gate = Bulkhead(1)
    app = ResilienceMiddleware(slow, timeout_header="Grpc-Timeout", shed=gate, exempt=["/exempt"])
    for path in ("/", "/exempt"):
        headers = [("grpc-timeout", f"{round(patience * 1000)}m")]
        reply = await ask(app, "GET", path, headers=headers)
        assert (504, "timeout") == (reply.status, reply.json["error"])
    assert 0 == gate.snapshot().in_flight
    assert all(0 < each <= patience for each in left)
    reply = await ask(app, "GET", "/", headers=[("grpc-timeout", "0m")])
    assert (504, "deadline", 2) == (reply.status, reply.json["error"], len(left))
    assert 200 == (await ask(app, "GET", "/")).status
    assert math.inf == left[-1]


@pytest.mark.parametrize("value", ["soon", "-1S", "9" * 100 + "S", "", "1e3S", "\x00"])
async def test_a_header_nobody_can_read_says_nothing(backend, value):
    """
    A hostile header is as if there were none.
    """
    app = ResilienceMiddleware(fine, timeout_header="grpc-timeout", deadline_header="x-deadline")
    for name in ("grpc-timeout", "x-deadline"):
        assert 200 == (await ask(app, "GET", "/", headers=[(name, value)])).status


async def test_of_two_headers_the_earlier_counts_and_longest_caps(backend):
    """
    An instant that has passed wins over a timeout of an hour; a caller who asks for days gets what is allowed.
    """
    left = []

    async def look(scope, receive, send):
        left.append(remaining())
        await fine(scope, receive, send)

    app = ResilienceMiddleware(
        look, timeout_header="grpc-timeout", deadline_header="x-deadline", longest=30
    )
    both = [("grpc-timeout", "1H"), ("x-deadline", "1000.000")]
    assert 504 == (await ask(app, "GET", "/", headers=both)).status
    assert 200 == (await ask(app, "GET", "/", headers=both[:1])).status
    assert 29 < left[0] <= 30


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"timeout_header": "a:b"}, "timeout_header"),
        ({"deadline_header": 5}, "deadline_header"),
        ({"longest": 0}, "longest"),
        ({"shed": 0}, "shed"),
        ({"shed": True}, "shed"),
        ({"shed": "100"}, "shed"),
        ({"exempt": "/health"}, "exempt"),
        ({"exempt": ["health"]}, r"exempt\[0\]"),
        ({"retry_after": -1}, "retry_after"),
        ({"statuses": {CircuitOpenError: 200}}, r"statuses\[CircuitOpenError\]"),
    ],
)
def test_bad_options_are_refused(options, field):
    """
    One error that names the field.
    """
    with pytest.raises(ConfigurationError, match=rf"ResilienceMiddleware\.{field} must be"):
        ResilienceMiddleware(fine, **options)
