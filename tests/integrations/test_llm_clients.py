"""
The real clients of openai and anthropic against a real server that rate-limits, fails, hangs and talks nonsense.

Issue 6.4; how often was asked is read in the server's log.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import pickle
from typing import Any

import anthropic
import attrs
import httpx2
import openai
import pytest

from resilience import (
    CircuitOpenError,
    ConfigurationError,
    ConsecutiveFailures,
    FullJitter,
    RateLimitedError,
)
from resilience.domains import Domain, DomainCircuitBreakerManager
from resilience.integrations import anthropic as for_anthropic
from resilience.integrations import openai as for_openai
from resilience.integrations.anthropic import BreakerMiddleware
from resilience.integrations.httpx2 import GuardedTransport, HttpOptions
from resilience.integrations.llm import InvalidAnswerError, Providers
from resilience.registry import Registry
from tests.integrations.server import Server

# On trio httpx2 and openai leave generators of their own to the collector when a body is not read to its end.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Async generator '(http|openai).*' was garbage collected:ResourceWarning"
)

HELLO: Any = [{"role": "user", "content": "the prompt"}]
KEYS = {"api_key": "the key"}


def completion(content: str | None) -> str:
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    head = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
    return json.dumps(head | {"choices": [choice]})


def response(*texts: str) -> str:
    content = [{"type": "output_text", "text": each, "annotations": []} for each in texts]
    head = {"id": "1", "object": "response", "created_at": 1, "model": "m"}
    said = {
        "type": "message",
        "id": "2",
        "role": "assistant",
        "status": "completed",
        "content": content,
    }
    return json.dumps(head | {"output": [said] if texts else []})


def message(*texts: str) -> str:
    content = [{"type": "text", "text": each} for each in texts]
    usage = {"input_tokens": 1, "output_tokens": 1}
    head = {
        "id": "1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "stop_reason": "end_turn",
    }
    return json.dumps(head | {"content": content, "usage": usage})


def chunks(*texts: str) -> str:
    head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    lines = [head | {"choices": [{"index": 0, "delta": {"content": each}}]} for each in texts]
    return "".join(f"data: {json.dumps(each)}\n\n" for each in lines) + "data: [DONE]\n\n"


def error(kind: str = "server_error") -> str:
    return json.dumps({"type": "error", "error": {"type": kind, "message": "no"}})


BODIES = {
    "busy": (429, error("rate_limit_error"), "retry-after-ms: 30"),
    "hour": (429, error("rate_limit_error"), "retry-after: 3600"),
    "quota": (429, json.dumps({"error": {"code": "insufficient_quota", "message": "no"}})),
    "down": (500, error()),
    "final": (500, error(), "x-should-retry: false"),
    "bad": (400, error("invalid_request_error")),
    "key": (401, error("authentication_error")),
    "torn": (200, '{"id": "1", "choi'),
    "object": (200, "{}"),
    "list": (200, "[1]"),
    "stream": (200, chunks("Good ", "day")),
    "silent": (200, chunks()),
    "sick": (200, 'data: {"error": {"message": "no", "type": "server_error"}}\n\n'),
    "models": (200, json.dumps({"data": [], "has_more": False, "first_id": None, "last_id": None})),
}


@attrs.frozen
class Kind:
    """One client, or one of its two ways."""

    name: str
    client: Any
    model: Any
    path: str
    good: str
    empty: str
    text: Any
    options: dict[str, Any]
    prompt: dict[str, Any]


KINDS = {
    "chat": Kind(
        "openai", openai.AsyncOpenAI, for_openai.chat, "/chat/completions", completion("hello"),
        completion(""), lambda value: value.choices[0].message.content, {}, {"messages": HELLO},
    ),
    "responses": Kind(
        "openai", openai.AsyncOpenAI, for_openai.responses, "/responses", response("hello"),
        response(), lambda value: value.output_text, {}, {"input": "the prompt"},
    ),
    "messages": Kind(
        "anthropic", anthropic.AsyncAnthropic, for_anthropic.messages, "/v1/messages",
        message("hello"), message(), lambda value: value.content[0].text, {"max_tokens": 9}, {"messages": HELLO},
    ),
}  # fmt: skip


@pytest.fixture(params=KINDS)
def kind(request) -> Kind:
    return KINDS[request.param]


class World:
    """A client of a kind at a server that does these steps, one after the other."""

    def __init__(self, kind: Kind, server: Server) -> None:
        self.kind, self.server = kind, server
        self.clients: list[Any] = []
        server.bodies |= BODIES | {"good": (200, kind.good), "empty": (200, kind.empty)}

    def client(self, where: str, steps: str, **options: Any) -> Any:
        base = f"{self.server.url}/{where}"
        options.setdefault("default_query", {"do": steps})
        made = self.kind.client(base_url=base, **(KEYS | {"timeout": 30} | options))
        self.clients.append(made)
        return made

    def model(self, where: str, steps: str, **options: Any) -> Any:
        return self.kind.model(self.client(where, steps, **options), where, **self.kind.options)

    def asked(self, where: str) -> int:
        return len(self.server.asked(f"/{where}{self.kind.path}"))


@pytest.fixture
def world(kind, server) -> World:
    return World(kind, server)


@contextlib.asynccontextmanager
async def closing(world: World):
    try:
        yield
    finally:
        for each in world.clients:
            await each.close()


_numbers = itertools.count(1)


def domain(failures: int = 2) -> Domain:
    """With the numbers of ``Domain.LLM``, and a name of its own: two live breakers of one name warn."""
    return Domain(f"models-{next(_numbers)}", failures=failures, break_duration=120)


def providers(*models: Any, **settings: Any) -> Any:
    settings.setdefault("domain", domain())
    settings.setdefault("manager", DomainCircuitBreakerManager(Registry()))
    settings.setdefault("wait", FullJitter(0, 0))
    return Providers(*models, **settings)


@pytest.mark.parametrize(
    ("step", "requests", "why"),
    [
        ("json:down", 2, "InternalServerError"),
        ("json:final", 1, "InternalServerError"),
        ("reset", 2, "APIConnectionError"),
        ("json:hour", 1, "RateLimitError"),
        ("json:quota", 1, "RateLimitError"),
        ("json:key", 1, "AuthenticationError"),
        ("json:torn", 2, "JSONDecodeError"),
        ("json:object", 2, "InvalidAnswerError"),
        ("json:empty", 2, "InvalidAnswerError"),
        ("200", 2, "InvalidAnswerError"),
    ],
)
async def test_failover(backend, world, step, requests, why):
    """
    Issue 6.4: each way to fail passes the model over, after as many requests as it is worth, and the next answers.
    """
    if step == "json:quota" and world.kind.name == "anthropic":
        requests = 2  # it has no such code: that is a 429 like any other
    models = providers(world.model("one", step), world.model("two", "json:good"))
    async with closing(world):
        answer = await models(**world.kind.prompt)
    assert ("two", "hello", {"one": why}) == (
        answer.model, world.kind.text(answer.value), dict(answer.passed_over),
    )  # fmt: skip
    assert (requests, 1) == (world.asked("one"), world.asked("two"))
    totals = models.breakers["one"].snapshot().totals
    unasked = why in {"RateLimitError", "AuthenticationError"} and requests == 1
    counted = 0 if unasked else requests
    assert (0, counted) == (totals.successes, totals.failures)


async def test_a_hang(backend, world):
    """
    Issue 6.4: a server that says nothing costs one attempt timeout, not the client's ten minutes.
    """
    models = providers(
        world.model("one", "hang"), world.model("two", "json:good"), attempts=1, attempt_timeout=0.5
    )  # fmt: skip
    async with closing(world):
        answer = await models(**world.kind.prompt)
    assert {"one": "TimeoutExceededError"} == dict(answer.passed_over)
    assert (1, 1) == (world.asked("one"), world.asked("two"))
    assert 1 == models.breakers["one"].snapshot().totals.failures


async def test_the_last_waits_as_it_is_told(backend, world):
    """
    Issue 6.4, Retry-After: the last model is waited for, retry-after-ms to the millisecond.
    """
    models = providers(world.model("one", "json:busy,json:good"))
    async with closing(world):
        answer = await models(**world.kind.prompt)
    assert ("hello", 2) == (world.kind.text(answer.value), answer.attempts)
    first, second = world.server.asked(f"/one{world.kind.path}")
    assert second.at - first.at >= 0.029


async def test_a_rate_limited_model_rests(backend, world):
    """
    Issue 6.4, Retry-After: the second call does not ask it; alone, it is a rejection with what is left of the time.
    """
    models = providers(world.model("one", "json:hour"))
    async with closing(world):
        with pytest.raises(world_error(world, "RateLimitError")):
            await models(**world.kind.prompt)
        with pytest.raises(RateLimitedError) as caught:
            await models(**world.kind.prompt)
    assert 60 < caught.value.retry_after <= 120
    assert 1 == world.asked("one")


def world_error(world: World, name: str) -> type[Exception]:
    return getattr({"openai": openai, "anthropic": anthropic}[world.kind.name], name)


async def test_an_open_model_costs_no_request(backend, world):
    """
    Issue 6.4: a breaker per model.
    """
    models = providers(world.model("one", "json:down"), world.model("two", "json:good"))
    async with closing(world):
        for _ in range(5):
            answer = await models(**world.kind.prompt)
    assert {"one": "CircuitOpenError"} == dict(answer.passed_over)
    assert (2, 5) == (world.asked("one"), world.asked("two"))


async def test_the_callers_error_is_raised_at_once(backend, world):
    """
    Issue 6.4: a request that is wrong is wrong everywhere.
    """
    models = providers(world.model("one", "json:bad"), world.model("two", "json:good"))
    async with closing(world):
        with pytest.raises(world_error(world, "BadRequestError")):
            await models(**world.kind.prompt)
    assert (1, 0) == (world.asked("one"), world.asked("two"))


async def test_all_fail(backend, world):
    """
    Issue 6.4: the last real error is raised as the client made it.
    """
    models = providers(world.model("one", "reset"), world.model("two", "json:down"))
    async with closing(world):
        with pytest.raises(world_error(world, "InternalServerError")):
            await models(**world.kind.prompt)
    assert (2, 2) == (world.asked("one"), world.asked("two"))


async def test_the_clients_own_retries_are_off(backend, world):
    """
    Issue 6.4: 2 requests, not 2 x 5, though the client is set to retry.
    """
    models = providers(world.model("one", "json:down", max_retries=4))
    async with closing(world):
        with pytest.raises(world_error(world, "InternalServerError")):
            await models(**world.kind.prompt)
    assert 2 == world.asked("one")


async def test_retries_under_retries_are_found_out(backend, world, caplog):
    """
    Issue 6.4: a client that was handed in with its own retries on is told of, once, with the remedy; without secrets.
    """
    client = world.client("one", "json:down", max_retries=1)
    caplog.set_level(logging.WARNING, "resilience")

    async def bare(**request: Any) -> Any:
        request |= world.kind.options | {"model": "one"}
        way = {"/chat/completions": "chat", "/responses": "responses", "/v1/messages": "messages"}
        api: Any = getattr(client, way[world.kind.path])
        api = api.completions if hasattr(api, "completions") else api
        return await api.create(**request)

    models = providers(("one", bare))
    async with closing(world):
        with pytest.raises(world_error(world, "InternalServerError")):
            await models(**world.kind.prompt)
    assert 4 == world.asked("one")
    told = [each.getMessage() for each in caplog.records if each.name == "resilience"]
    assert 1 == len([each for each in told if "max_retries=0" in each])
    assert not [each for each in told if "the prompt" in each or "the key" in each]


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ("sse:silent", "InvalidAnswerError"),
        ("sse:sick", "APIError"),
        ("json:down", "InternalServerError"),
    ],
)
async def test_a_stream(backend, server, step, why):
    """
    Issue 6.4: openai's streams are guarded up to the first chunk.
    """
    world = World(KINDS["chat"], server)
    models = providers(world.model("one", step), world.model("two", "sse:stream"))
    async with closing(world), models.stream(messages=HELLO, stream=True) as answer:
        said = [each.choices[0].delta.content async for each in answer.value]
    assert (["Good ", "day"], {"one": why}) == (said, dict(answer.passed_over))
    assert (2, 1) == (world.asked("one"), world.asked("two"))


async def test_the_transport_of_openais_client(backend, server):
    """
    Issue 6.4: the client's own hook is its http_client; what our transport turns away is a rejection here too.
    """
    world = World(KINDS["chat"], server)
    options = HttpOptions(attempts=1, minimum_calls=1, attempt_timeout=20, window=60)
    transport = GuardedTransport(options=options, name="openai-hook")
    client = httpx2.AsyncClient(transport=transport, timeout=30)
    one = world.model("one", "json:down", http_client=client)
    models = providers(one, world.model("two", "json:good"), domain=domain(9))
    async with closing(world):
        answer = await models(messages=HELLO)
        assert {
            "one": "CircuitOpenError"
        } == answer.passed_over  # the second attempt, by the transport's
        with transport.breakers[0].isolate():
            answer = await models(messages=HELLO)
    assert (1, 2) == (world.asked("one"), world.asked("two"))
    assert 1 == models.breakers["one"].snapshot().totals.failures
    assert {"one": "CircuitIsolatedError"} == answer.passed_over


# ------------------------------------------------------------------------ anthropic's middleware


def anthropic_world(server: Server, steps: str, **options: Any) -> tuple[World, Any]:
    world = World(KINDS["messages"], server)
    manager = DomainCircuitBreakerManager(Registry())
    middleware = BreakerMiddleware(manager, domain=domain())
    client = world.client("one", steps, middleware=[middleware], **({"max_retries": 0} | options))
    return world, (client, manager, middleware._domain.name)


async def create(client: Any, model: str = "m") -> Any:
    return await client.messages.create(model=model, max_tokens=9, messages=HELLO)


async def test_middleware_counts_attempts_and_turns_away(backend, server):
    """
    Issue 6.4: inside anthropic's own retries each attempt is counted; what is open is neither sent nor retried.
    """
    world, (client, manager, where) = anthropic_world(server, "json:down", max_retries=1)
    async with closing(world):
        with pytest.raises(anthropic.InternalServerError):
            await create(client)
        with pytest.raises(CircuitOpenError) as caught:
            await create(client)
        assert 2 == world.asked("one")
        with pytest.raises(anthropic.InternalServerError):
            await create(client, "another")  # which has a breaker of its own
    assert f"{where}:m" == caught.value.breaker
    assert 4 == world.asked("one")
    assert {"m", "another"} == set(manager.get_domain_status(where).breakers)


@pytest.mark.parametrize(
    ("step", "successes", "failures"),
    [
        ("json:good", 1, 0),
        ("json:bad", 0, 0),
        ("json:hour", 0, 0),
        ("json:down", 0, 1),
        ("reset", 0, 1),
    ],
)
async def test_middleware_verdicts(backend, server, step, successes, failures):
    """
    Issue 6.4: what a status says of the model, and nothing for what is the caller's or a rate limit with a time.
    """
    world, (client, manager, where) = anthropic_world(server, step)
    async with closing(world):
        with contextlib.suppress(anthropic.APIError):
            await create(client)
    totals = manager.get_domain_status(where).breakers["m"].totals
    assert (1, successes, failures) == (world.asked("one"), totals.successes, totals.failures)


async def test_middleware_passes_what_names_no_model(backend, server):
    """
    Issue 6.4: other requests are not guarded.
    """
    world, (client, manager, where) = anthropic_world(server, "json:models")
    async with closing(world):
        await client.models.list()
    assert (where, "m") not in manager.registry
    assert f"<BreakerMiddleware of {where}>" == repr(client.middleware[0])


async def test_a_breaker_that_is_there_is_taken_as_it_is(backend, server):
    """
    Issue 6.4: who made the model's breaker said how.
    """
    world, (client, manager, where) = anthropic_world(server, "json:down")
    own = manager.registry.breaker("m", domain=where, on=OSError, trip=ConsecutiveFailures(1))
    async with closing(world):
        with pytest.raises(anthropic.InternalServerError):
            await create(client)
        with pytest.raises(CircuitOpenError):
            await create(client)
    assert (1, 1) == (world.asked("one"), own.snapshot().totals.failures)


@pytest.mark.parametrize("make", [for_openai.chat, for_openai.responses, for_anthropic.messages])
def test_bad_arguments(make):
    """
    Bad input: one error with the field, for clients of another kind and names that are none.
    """
    module = for_anthropic if make is for_anthropic.messages else for_openai
    kind = anthropic.AsyncAnthropic if module is for_anthropic else openai.AsyncOpenAI
    good = {"client": kind(**KEYS), "model": "m"}
    for field in good:
        for value in module.FIELDS[field].breaches.values():
            given = good | {field: value}
            with pytest.raises(ConfigurationError) as caught:
                make(given["client"], given["model"])
            assert caught.value.field.endswith(f"{make.__name__}.{field}")


@pytest.mark.parametrize("field", ["manager", "domain"])
def test_bad_middleware(field):
    """
    Bad input: each rule of each argument.
    """
    for value in for_anthropic.FIELDS[field].breaches.values():
        with pytest.raises(ConfigurationError) as caught:
            BreakerMiddleware(**{field: value})
        assert f"BreakerMiddleware.{field}" == caught.value.field


def test_errors_of_ours_survive():
    """
    What a validator refused names its model and nothing else.
    """
    assert "model 'm' gave an answer" in str(InvalidAnswerError("m"))
    copied = pickle.loads(pickle.dumps(InvalidAnswerError("m")))  # noqa: S301 - our own
    assert ("m", str(InvalidAnswerError("m"))) == (copied.model, str(copied))
