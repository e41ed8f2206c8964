"""
Providers of language models: which is asked, what counts, what is waited for; with plain functions, in virtual time.

Issue 6.4: failover, Retry-After, a breaker per model, the response judged before the verdict.
"""

from __future__ import annotations

import gc
import itertools
import json
import logging
import math
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from resilience import (
    CircuitOpenError,
    ConfigurationError,
    DeadlineExpiredError,
    FullJitter,
    RateLimitedError,
    RetryBudget,
    TimeoutExceededError,
    deadline,
)
from resilience.domains import Domain, DomainCircuitBreakerManager, default_manager
from resilience.integrations import llm
from resilience.integrations.llm import Answer, InvalidAnswerError, Providers
from resilience.registry import Registry
from resilience.testing import Recorder

NOW = FullJitter(0, 0)


class StatusError(Exception):
    """In the shape of the clients' errors, which are tested with the clients themselves."""

    def __init__(self, status: int, code: str | None = None, **headers: str) -> None:
        super().__init__("the text holds a prompt")
        self.status_code = status
        self.code = code
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        retries = given.pop("x-stainless-retry-count", "0")
        request = SimpleNamespace(headers={"x-stainless-retry-count": retries})
        self.response = SimpleNamespace(headers=given, status_code=status, request=request)


class Script:
    """A model that does one thing after the other, the last for good."""

    def __init__(self, *steps: Any) -> None:
        self.steps = [*steps]
        self.calls: list[Any] = []

    def next(self, prompt: Any) -> Any:
        self.calls.append(prompt)
        return self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]

    async def __call__(self, prompt: str) -> Any:
        step = self.next(prompt)
        await anyio.lowlevel.checkpoint()
        if isinstance(step, Exception):
            raise step
        if isinstance(step, float):
            await anyio.sleep(step)
            return "late"
        return step


_numbers = itertools.count(1)


def domain(failures: int = 2, break_duration: float = 120.0) -> Domain:
    """With the numbers of ``Domain.LLM``, and a name of its own: two live breakers of one name warn."""
    return Domain(f"llm-{next(_numbers)}", failures=failures, break_duration=break_duration)


def providers(**settings: Any) -> Any:
    settings.setdefault("domain", domain())
    models = {key: settings.pop(key) for key in ("a", "b", "c") if key in settings}
    settings.setdefault("manager", DomainCircuitBreakerManager(Registry()))
    settings.setdefault("wait", NOW)
    return Providers(*models.items(), **settings)


def counts(*scripts: Script) -> list[int]:
    return [len(each.calls) for each in scripts]


async def test_the_first_that_answers(backend):
    """
    Issue 6.4: the first is asked, and the caller sees that it was; no other is.
    """
    one, two = Script("yes"), Script("no")
    answer = await providers(a=one, b=two)("secret")
    assert ("a", "yes", 1, {}) == (
        answer.model, answer.value, answer.attempts, dict(answer.passed_over),
    )  # fmt: skip
    assert [1, 0] == counts(one, two)
    assert "yes" not in repr(answer)
    assert "<str>" in repr(answer)


@pytest.mark.parametrize(
    "error",
    [StatusError(500), StatusError(529), StatusError(408), StatusError(409), StatusError(200),
     ConnectionError(), TimeoutError(), json.JSONDecodeError("no", "", 0)],
    ids=lambda error: f"{type(error).__name__}-{getattr(error, 'status_code', '')}",
)  # fmt: skip
async def test_a_failure_is_tried_again_then_passed_over(backend, error):
    """
    Issue 6.4: a model in trouble is asked as often as allowed, then the next answers; its breaker has heard of each.
    """
    one, two = Script(error), Script("yes")
    models = providers(a=one, b=two, domain=domain(failures=9))
    answer = await models("x")
    assert [2, 1] == counts(one, two)
    assert ("b", 3, {"a": type(error).__name__}) == (
        answer.model, answer.attempts, dict(answer.passed_over),
    )  # fmt: skip
    assert (2, 0) == tuple(each.snapshot().failures for each in models.breakers.values())


async def test_an_open_model_is_not_asked(backend):
    """
    Issue 6.4: a breaker per model; one that is open costs no request, the others are as they were.
    """
    one, two = Script(StatusError(500)), Script("yes")
    models = providers(a=one, b=two)
    await models("x")  # two failures open a language model's breaker
    answer = await models("x")
    assert [2, 2] == counts(one, two)
    assert ("b", 1, {"a": "CircuitOpenError"}) == (
        answer.model, answer.attempts, dict(answer.passed_over),
    )  # fmt: skip


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_the_callers_own_error_ends_it(backend, status):
    """
    Issue 6.4: what every model would refuse is raised at once, and counts against none.
    """
    error = StatusError(status)
    one, two = Script(error), Script("yes")
    models = providers(a=one, b=two)
    with pytest.raises(StatusError) as caught:
        await models("x")
    assert caught.value is error
    assert [1, 0] == counts(one, two)
    assert 0 == models.breakers["a"].snapshot().totals.failures


@pytest.mark.parametrize(
    "error",
    [StatusError(401), StatusError(403), StatusError(404), StatusError(429, "insufficient_quota", retry_after="1")],
    ids=["401", "403", "404", "quota"],
)  # fmt: skip
async def test_a_refused_key_moves_on_and_counts_nothing(backend, error):
    """
    Issue 6.4: this key or model is not to be had, another one may be; a hundred times leave the circuit closed.
    """
    one, two = Script(error), Script("yes")
    models = providers(a=one, b=two, domain=domain(break_duration=0.001))
    for _ in range(100):
        assert "b" == (await models("x")).model
        await anyio.sleep(0.01)
    assert [100, 100] == counts(one, two)
    assert 0 == models.breakers["a"].snapshot().totals.failures


async def test_a_bug_is_no_verdict(backend):
    """
    Issue 6.4: an error of the caller's own code ends the call and counts for nothing.
    """
    one, two = Script(KeyError("x")), Script("yes")
    models = providers(a=one, b=two)
    with pytest.raises(KeyError):
        await models("x")
    assert [1, 0] == counts(one, two)
    assert 0 == models.breakers["a"].snapshot().totals.failures


async def test_a_rate_limit_is_left_alone_until_then(backend, unit):
    """
    Issue 6.4, Retry-After: the next is asked at once, this one not before the time it named, and nothing is counted.
    """
    busy = StatusError(429, retry_after_ms=str(int(5000 * unit)), retry_after="3600")
    one, two = Script(busy, "back"), Script("yes")
    models = providers(a=one, b=two)
    assert {"a": "StatusError"} == (await models("x")).passed_over
    assert {"a": "RateLimitedError"} == (await models("x")).passed_over
    assert [1, 2] == counts(one, two)
    await anyio.sleep(5.1 * unit)
    assert "a" == (await models("x")).model
    assert 0 == models.breakers["a"].snapshot().totals.failures


async def test_the_last_is_waited_for(backend, unit):
    """
    Issue 6.4, Retry-After: where no other is left, the time it names is waited, to the millisecond.
    """
    one = Script(StatusError(429, retry_after_ms=str(int(2000 * unit))), "yes")
    models = providers(a=one, max_delay=5 * unit)
    started = anyio.current_time()
    answer = await models("x")
    assert ("yes", 2) == (answer.value, answer.attempts)
    assert anyio.current_time() - started >= 2 * unit - 0.001


async def test_a_long_pause_is_not_waited_for(backend):
    """
    Issue 6.4, Retry-After: beyond max_delay the error is raised; then calls are turned away with what is left of it.
    """
    error = StatusError(429, retry_after="60")
    one = Script(error)
    models = providers(a=one)
    with pytest.raises(StatusError) as caught:
        await models("x")
    assert caught.value is error
    with pytest.raises(RateLimitedError) as turned_away:
        await models("x")
    assert 55 < turned_away.value.retry_after <= 60
    assert "model 'a'" in str(turned_away.value)
    assert [1] == counts(one)


async def test_no_pause_is_for_ever(backend):
    """
    Hazard: a server that says 10 years is believed for as long as its breaker would stay open.
    """
    models = providers(
        a=Script(StatusError(503, retry_after="999999999")), domain=domain(break_duration=7)
    )
    with pytest.raises(StatusError):
        await models("x")
    with pytest.raises(RateLimitedError) as caught:
        await models("x")
    assert 6 < caught.value.retry_after <= 7


async def test_a_429_without_a_time_counts(backend):
    """
    Issue 6.4: who says no and not until when is in trouble.
    """
    one = Script(StatusError(429))
    models = providers(a=one)
    with pytest.raises(StatusError):
        await models("x")
    assert [2] == counts(one)
    with pytest.raises(CircuitOpenError):
        await models("x")


@pytest.mark.parametrize(
    ("error", "asked"),
    [(StatusError(500, x_should_retry="false"), 1), (StatusError(400, x_should_retry="true"), 2)],
    ids=["false", "true"],
)
async def test_x_should_retry(backend, error, asked):
    """
    The clients' own header: it knows better than the status whether to ask again.
    """
    one, two = Script(error), Script("yes")
    assert "b" == (await providers(a=one, b=two)("x")).model
    assert [asked, 1] == counts(one, two)


@pytest.mark.parametrize("nothing", [None, "", "  \n"])
async def test_the_response_is_judged_before_the_verdict(backend, nothing):
    """
    Issue 6.4: an empty answer is a failure of its model, not a success with a complaint afterwards.
    """
    one, two = Script(nothing), Script("yes")
    models = providers(a=one, b=two)
    assert {"a": "InvalidAnswerError"} == (await models("x")).passed_over
    totals = models.breakers["a"].snapshot().totals
    assert (0, 2) == (totals.successes, totals.failures)


async def test_a_predicate_of_ones_own(backend, caplog):
    """
    Issue 6.4, law 6: on_result decides; one that raises counts as refused, and the log has no answer in it.
    """
    one, two = Script("secret"), Script({"answer": 1})
    models = providers(a=one, b=two, on_result=lambda value: value["answer"] < 1)
    assert "b" == (await models("x")).model
    assert "on_result" in caplog.text
    assert "secret" not in caplog.text
    assert "" == (await providers(a=Script(""), on_result=None)("x")).value


async def test_all_fail(backend):
    """
    Issue 6.4: the last real error, itself, whatever was turned away besides.
    """
    first, last = StatusError(500), StatusError(503)
    one, two, three = Script(first), Script(last), Script("never")
    models = providers(a=one, b=two, c=three)
    with models.breakers["c"].isolate(), pytest.raises(StatusError) as caught:
        await models("x")
    assert caught.value is last
    assert [2, 2, 0] == counts(one, two, three)


async def test_none_is_asked(backend):
    """
    Issue 6.4: the rejection that can be tried again soonest, if no model could be asked.
    """
    scripts = [
        Script(StatusError(429, retry_after="40")),
        Script(StatusError(429, retry_after="20")),
        Script("x"),
    ]
    models = providers(a=scripts[0], b=scripts[1], c=scripts[2])
    with models.breakers["c"].isolate():
        with pytest.raises(StatusError):
            await models("x")
        with pytest.raises(RateLimitedError) as caught:
            await models("x")
    assert 15 < caught.value.retry_after <= 20
    assert [1, 1, 0] == counts(*scripts)


async def test_a_rejection_inside_is_not_counted(backend):
    """
    Issue 6.4, nested breakers: what was turned away inside a client counts nowhere and moves on.
    """
    inner = type("APIConnectionError", (Exception,), {"__module__": "openai._exceptions"})
    wrapped = type("APIError", (inner,), {"__module__": "openai._exceptions"})("Connection error.")
    wrapped.__cause__ = CircuitOpenError("host", retry_after=3)
    one, two = Script(wrapped), Script("yes")
    models = providers(a=one, b=two)
    answer = await models("x")
    assert {"a": "CircuitOpenError"} == answer.passed_over
    assert [1, 1] == counts(one, two)
    assert 0 == models.breakers["a"].snapshot().totals.failures
    with pytest.raises(CircuitOpenError) as caught:
        await providers(a=Script(wrapped))("x")
    assert 3 == caught.value.retry_after


async def test_a_hang_is_cut_off_and_passed_over(backend, unit):
    """
    Issue 6.4: attempt timeouts count against the model and leave time for the next.
    """
    one, two = Script(60.0 * unit), Script("yes")
    models = providers(a=one, b=two, attempt_timeout=1 * unit, total_timeout=30 * unit)
    answer = await models("x")
    assert {"a": "TimeoutExceededError"} == answer.passed_over
    assert [2, 1] == counts(one, two)
    assert 2 == models.breakers["a"].snapshot().totals.failures


async def test_one_deadline_over_all(backend, unit):
    """
    Issue 6.4: the total deadline cuts the attempt that runs, counts it, and no other model is asked after it.
    """
    one, two, three = Script(60.0 * unit), Script(60.0 * unit), Script("never")
    models = providers(
        a=one, b=two, c=three, attempts=1, attempt_timeout=2 * unit, total_timeout=3 * unit
    )  # fmt: skip
    started = anyio.current_time()
    with pytest.raises(TimeoutExceededError):
        await models("x")
    assert 3 * unit <= anyio.current_time() - started + 0.001 < 3.9 * unit
    assert [1, 1, 0] == counts(one, two, three)
    assert [1, 1, 0] == [each.snapshot().totals.failures for each in models.breakers.values()]


async def test_without_timeouts(backend):
    """
    Issue 6.4: None is no limit.
    """
    models = providers(a=Script("yes"), attempt_timeout=None, total_timeout=None)
    assert "yes" == (await models("x")).value


async def test_no_time_at_all(backend):
    """
    Law: a deadline that has passed before the first attempt is a rejection; nothing was asked.
    """
    one = Script("yes")
    with deadline(0), pytest.raises(DeadlineExpiredError):
        await providers(a=one)("x")
    assert [0] == counts(one)


async def test_a_cancellation_passes_and_counts_nothing(backend, unit):
    """
    Law 2: who leaves is no failure of the model, and no other is asked.
    """
    one, two = Script(60.0 * unit), Script("yes")
    models = providers(a=one, b=two)
    with anyio.move_on_after(unit) as scope:
        await models("x")
    assert scope.cancelled_caught
    assert [1, 0] == counts(one, two)
    assert 0 == models.breakers["a"].snapshot().totals.failures


async def test_a_budget_pays_for_second_attempts(backend):
    """
    Retries are bought; where the budget is empty the next model is asked at once.
    """
    budget = RetryBudget(ratio=0.1, minimum_per_second=0)
    one, two = Script(StatusError(500)), Script("yes")
    assert "b" == (await providers(a=one, b=two, budget=budget)("x")).model
    assert [1, 1] == counts(one, two)


async def test_groups_count_by_their_leaves(backend):
    """
    Law: a group moves on if all in it would; the caller's own in it ends the call.
    """
    one = Script(ExceptionGroup("", [StatusError(500), ConnectionError()]))
    assert "b" == (await providers(a=one, b=Script("yes"))("x")).model
    mixed = Script(ExceptionGroup("", [StatusError(500), KeyError()]))
    with pytest.raises(ExceptionGroup):
        await providers(a=mixed, b=Script("yes"))("x")


async def test_a_client_that_retries_too_is_told_of_once(backend, caplog):
    """
    Issue 6.4: retries under retries are found out by the clients' own header, and logged once per model.
    """
    error = StatusError(500, x_stainless_retry_count="2")
    models = providers(a=Script(error), b=Script("yes"), domain=domain(failures=100))
    for _ in range(3):
        await models("x")
    told = [each for each in caplog.records if "max_retries=0" in each.getMessage()]
    assert [logging.WARNING] == [each.levelno for each in told]
    assert "'a'" in told[0].getMessage()


async def test_events_and_reprs_hold_no_prompts(backend):
    """
    Bad for business: neither prompts nor answers nor error texts reach listeners, errors or reprs.
    """
    recorder = Recorder()
    models = providers(a=Script(StatusError(500)), b=Script("answer"), listeners=recorder)
    await models("prompt")
    assert recorder.events
    seen = f"{recorder.events!r} {models!r} {InvalidAnswerError('a')} {models.breakers!r}"
    assert not [
        each for each in ("prompt", "answer", "holds") if each in seen.replace("an answer", "")
    ]
    assert "<Providers a, b>" == repr(models)


async def test_breakers_are_shared_by_name(backend):
    """
    Issue 6.4: two lists that name one model share its breaker, and the process has one manager by default.
    """
    manager = DomainCircuitBreakerManager(Registry())
    kind = domain()
    one = providers(a=Script("x"), manager=manager, domain=kind)
    two = providers(a=Script("x"), manager=manager, domain=kind, attempt_timeout=90)
    assert one.breakers["a"] is two.breakers["a"]
    assert f"{kind.name}:a" == one.breakers["a"].name
    mine = Providers(("shared-with-all", Script("x")))
    found = default_manager().get_circuit_breaker(Domain.LLM, "shared-with-all")
    assert found is mine.breakers["shared-with-all"]
    await default_manager().remove(Domain.LLM, "shared-with-all")


# ------------------------------------------------------------------------------------- streams


class Items:
    """A stream as the clients have them: to be awaited, iterated, closed; with a script for each."""

    def __init__(self, *items: Any, close: str = "close") -> None:
        self.items = [*items]
        self.closed = 0
        setattr(self, close, self._close)

    def __aiter__(self) -> Items:
        return self

    async def __anext__(self) -> Any:
        await anyio.lowlevel.checkpoint()
        if not self.items:
            raise StopAsyncIteration
        item = self.items.pop(0)
        if isinstance(item, Exception):
            raise item
        if isinstance(item, float):
            await anyio.sleep(item)
        return item

    async def _close(self) -> None:
        self.closed += 1
        await anyio.lowlevel.checkpoint()


async def test_a_stream_fails_over_until_its_first_item(backend):
    """
    Issue 6.4: streams are guarded up to the first chunk; those that failed are closed.
    """
    broken, empty, good = Items(StatusError(500)), Items(), Items("a", "b", close="aclose")
    models = providers(a=Script(broken, empty), b=Script(good))
    async with models.stream("x") as answer:
        assert ["a", "b"] == [each async for each in answer.value]
    assert ("b", 3, {"a": "InvalidAnswerError"}) == (
        answer.model, answer.attempts, dict(answer.passed_over),
    )  # fmt: skip
    assert [1, 1, 1] == [broken.closed, empty.closed, good.closed]
    assert 2 == models.breakers["a"].snapshot().totals.failures


async def test_after_its_first_item_a_stream_is_the_readers(backend):
    """
    Issue 6.4: an error after the first chunk is raised where it is read; nothing is asked again, no item twice.
    """
    two = Script(Items("other"))
    models = providers(a=Script(Items("first", StatusError(500))), b=two)
    seen = []
    with pytest.raises(StatusError):  # noqa: PT012 - the block is the reader
        async with models.stream("x") as answer:
            async for each in answer.value:
                seen.append(each)  # noqa: PERF401
    assert (["first"], []) == (seen, two.calls)


async def test_a_reader_who_stops_early_closes_it(backend):
    """
    Issue 6.4: leaving the block closes the stream; that is no failure.
    """
    items = Items("a", "b")
    models = providers(a=Script(items))
    async with models.stream("x") as answer:
        assert "a" == await anext(aiter(answer.value))
    assert 1 == items.closed
    assert 0 == models.breakers["a"].snapshot().totals.failures


async def test_a_stream_that_hangs_before_its_first_item(backend, unit):
    """
    Issue 6.4: the attempt timeout holds until the first chunk, and not after it.
    """
    late = Items("first", 3.0 * unit)
    models = providers(
        a=Script(Items(60.0 * unit)), b=Script(late), attempts=1,
        attempt_timeout=1 * unit, total_timeout=2.5 * unit,
    )  # fmt: skip
    async with models.stream("x") as answer:
        assert ["first", 3.0 * unit] == [each async for each in answer.value]
    assert {"a": "TimeoutExceededError"} == answer.passed_over


async def test_generators_are_streams_too(backend):
    """
    Issue 6.4: a model may be an async generator function; what cannot be closed is not.
    """

    async def count(prompt: str) -> Any:
        yield prompt
        yield 2

    class Bare:
        def __aiter__(self) -> Any:
            return count("bare")

    async with providers(a=count).stream("x") as answer:
        assert ["x", 2] == [each async for each in answer.value]
    async with providers(a=Script(Bare())).stream("x") as answer:
        assert ["bare", 2] == [each async for each in answer.value]
    gc.collect()


# -------------------------------------------------------------------------- judgements, settings


def of(**fields: Any) -> SimpleNamespace:
    return SimpleNamespace(**fields)


def test_what_is_empty():
    """
    Issue 6.4: chat completions, responses and messages without content; calls of tools and refusals are content.
    """
    call, text, blank = of(type="tool_use"), of(type="text", text="x"), of(type="text", text=" ")
    said = {
        "content": None,
        "tool_calls": None,
        "refusal": None,
        "audio": None,
        "function_call": None,
    }
    empty = [
        None, "", of(choices=[]), of(choices=None), of(choices=[of(message=None)]),
        of(choices=[of(message=of(**said))]), of(choices=[of(message=of(**said | {"content": " "}))]),
        of(content=[]), of(content=None), of(content=[blank]), of(output=[]), of(output=None),
    ]  # fmt: skip
    full = [
        "x", 0, of(), of(choices=[of(message=of(**said | {"content": "x"}))]),
        of(choices=[of(message=of(**said | {"tool_calls": [call]}))]),
        of(choices=[of(message=of(**said | {"refusal": "no"}))]),
        of(choices=[of(message=of(**said | {"content": ["part"]}))]),
        of(content=[call]), of(content=[blank, text]), of(output=[of(type="reasoning")]),
    ]  # fmt: skip
    assert [True] * len(empty) == [llm.is_empty(each) for each in empty]
    assert [False] * len(full) == [llm.is_empty(each) for each in full]


def test_what_a_stranger_says_is_no_error():
    """
    Hazard: errors of any shape are judged without raising; nonsense says nothing.
    """

    class Hostile:
        def get(self, *_: Any) -> Any:
            raise ValueError

    error = StatusError(429)
    error.response.headers = Hostile()
    assert llm.pause_of(error) is None
    assert llm.pause_of(StatusError(429, retry_after="soon")) is None
    assert llm.pause_of(ValueError()) is None
    assert 1.5 == llm.pause_of(StatusError(429, retry_after_ms="1500"))
    odd = ValueError()
    odd.status_code = "500"
    assert not llm.is_failure(odd)
    odd.status_code, odd.response = None, of(status_code=503, headers=7)
    assert llm.is_failure(odd)
    assert not llm.is_retryable(CircuitOpenError("x"))
    transport = type("TransportError", (Exception,), {"__module__": "httpx"})
    assert llm.is_failure(transport())
    assert llm.moves_on(CircuitOpenError("x"))


SOME = {"a": Script("x")}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(field, value, id=f"{field}-{rule}")
        for field, allowed in llm.FIELDS.items()
        for rule, value in allowed.breaches.items()
    ],
)
def test_each_rule_of_each_setting(field, value):
    """
    Bad input: one error with the field, what it got and what is allowed.
    """
    models, given, path = (*SOME.items(),), {field: value}, f"Providers.{field}"
    if field == "models":
        models, given, path = (value,), {}, "Providers.models[0]"
    elif field == "listeners":
        given, path = {"listeners": [value]}, "Providers.listeners[0]"
    with pytest.raises(ConfigurationError) as caught:
        Providers(*models, **given)
    assert (path, llm.FIELDS[field].text) == (caught.value.field, caught.value.allowed)


def test_settings_that_contradict_each_other():
    """
    Bad input: no model, two of one name, an attempt as long as the whole, a listener that is none.
    """
    refused = [
        ("models", (), {}),
        ("models", (("a", SOME["a"]), ("a", SOME["a"])), {}),
        ("attempt_timeout", (("a", SOME["a"]),), {"attempt_timeout": 5, "total_timeout": 5}),
        ("listeners[0]", (("a", SOME["a"]),), {"listeners": 7}),
    ]
    for field, models, given in refused:
        with pytest.raises(ConfigurationError) as caught:
            Providers(*models, **given)
        assert f"Providers.{field}" == caught.value.field
    assert llm.MODEL.breaches
    assert not [each for each in llm.MODEL.breaches.values() if llm.MODEL.accepts(each)]


def test_an_answer_is_a_value():
    """
    Its repr tells the type of what came, and nothing of it.
    """
    answer = Answer(model="a", value="secret", attempts=1, passed_over={})
    assert "Answer(model='a', value=<str>, attempts=1, passed_over={})" == repr(answer)
    assert math.inf == llm._when(RateLimitedError())
