"""
Law 36: events, logs and reprs carry no arguments, no results, and of errors the type name only.

Secrets are put wherever a call can carry one; then everything that was said is searched for them.
"""

import json
import logging
import pickle

import anyio
import attrs
import pytest
from tenacity import retry_if_result, wait_none

from resilience import (
    ConsecutiveFailures,
    Pipeline,
    ResilienceWarning,
    Retry,
    SlowRate,
    Timeout,
    TimeWindow,
)
from resilience.testing import Hang, Recorder, Script
from tests.composition.support import breaker, timed

CANARIES = {
    "argument": "canary-argument-1b2c",
    "keyword": "canary-keyword-3d4e",
    "result": "canary-result-5f6a",
    "error": "canary-error-7b8c",
    "cause": "canary-cause-9d0e",
    "local": "canary-local-1f2a",
    "key": "canary-key-3b4c",
    "hook": "canary-hook-5d6e",
}


class SecretError(OSError):
    """An error with a secret in its text, its repr, its arguments and its attributes."""

    def __init__(self):
        super().__init__(CANARIES["error"])
        self.token = CANARIES["error"]
        self.__cause__ = KeyError(CANARIES["cause"])


async def failing(argument, *, keyword):
    local = CANARIES["local"]
    raise SecretError if local else ValueError


async def returning(argument, *, keyword):
    return {"secret": CANARIES["result"]}


async def hanging(argument, *, keyword):
    local = CANARIES["local"]
    await anyio.sleep_forever()
    return local


class Said:
    """Everything that was said: events, log records as they would be written, and reprs."""

    def __init__(self, caplog):
        caplog.set_level(logging.DEBUG)
        self.caplog = caplog
        self.recorder = Recorder()
        self.texts = []

    def add(self, *things):
        for thing in things:
            self.texts += [repr(thing), str(thing), f"{thing}"]

    def all(self):
        """Also what lies in the events' fields, and in the records' arguments and extras."""
        texts = list(self.texts)
        for event in self.recorder:
            texts += [
                repr(event),
                str(event),
                json.dumps(attrs.asdict(event)),
                repr(pickle.dumps(event)),
            ]
        formatter = logging.Formatter("%(message)s %(exc_text)s %(stack_info)s")
        for record in self.caplog.records:
            texts += [formatter.format(record), repr(vars(record))]
        return texts

    def check(self, *allowed):
        texts = self.all()
        assert len(texts) > 4, "nothing was said, so nothing was searched"
        for name, canary in CANARIES.items():
            if name not in allowed:
                assert not [text for text in texts if canary in text], name


@pytest.fixture
def said(caplog):
    return Said(caplog)


async def exercise(guarded, said, callee, **options):
    """Through every door that has something to say."""
    arguments = {"argument": CANARIES["argument"], "keyword": CANARIES["keyword"]}
    outcome = await guarded.outcome(callee, **arguments)
    said.add(outcome)
    await timed(guarded(callee, **arguments))
    await timed(guarded.wrap(callee)(**arguments))

    async def informed(call, argument, *, keyword):
        said.add(call)
        return await callee(argument, keyword=keyword)

    await timed(guarded.informed(informed)(**arguments))
    said.add(guarded, guarded.policies, guarded.explain())
    return outcome


@pytest.mark.parametrize("callee", [failing, returning, hanging], ids=lambda c: c.__name__)
async def test_no_secret_of_a_call_is_said(backend, unit, said, callee):
    """
    Arguments, results, error texts, locals and keys: none is in an event, a log record or a repr (law 36).
    """
    gate = breaker(4, on=Exception)
    guarded = Pipeline(
        Timeout(9 * unit),
        Retry(2, on=OSError, on_result=lambda r: True, wait=wait_none()),
        gate,
        Timeout(unit),
        name="canaries",
        key=lambda *a, **k: CANARIES["key"],
        listeners=[said.recorder],
    )

    await exercise(guarded, said, callee)
    said.add(gate, gate.snapshot(), gate.state)
    gate.reset()
    said.add(permit := gate.admit())
    permit.failure(SecretError())
    said.add(permit, gate.snapshot())

    kinds = set(said.recorder.kinds)
    assert {"CallFinished", "RetryStopped"} <= kinds
    said.check()


async def test_no_secret_is_said_of_rejections(backend, said):
    """
    An open circuit tells its name and the type of the last failure (law 36).
    """
    gate = breaker(1, on=Exception)
    guarded = Pipeline(gate, Timeout(50), listeners=[said.recorder])
    await timed(guarded(failing, CANARIES["argument"], keyword=CANARIES["keyword"]))

    outcome = await exercise(guarded, said, failing)

    assert "SecretError" == outcome.error.last_failure
    said.add(outcome.error, vars(outcome.error))
    assert "CallRejected" in said.recorder.kinds
    said.check()


async def test_no_secret_is_said_of_slow_and_observed_calls(backend, said):
    """
    Nor by a breaker that only observes, or opens for slowness (law 36).
    """
    trip = ConsecutiveFailures(1) | SlowRate(0.5, 1e-9, TimeWindow(10), 1)
    observing = breaker(trip=trip)
    observing.observe()
    guarded = Pipeline(observing, Timeout(50), listeners=[said.recorder])

    await exercise(guarded, said, failing)
    await exercise(guarded, said, returning)

    assert "CircuitTripped" in said.recorder.kinds
    said.check()


async def test_no_secret_is_said_of_hooks_that_fail(backend, said):
    """
    A predicate, a listener or a strategy raises with a secret in its text: its name is logged, and its type (law 36).
    """

    def leaky_hook(*_):
        raise RuntimeError(CANARIES["hook"])

    guarded = Pipeline(
        Timeout(leaky_hook),
        Retry(
            2,
            on=leaky_hook,
            on_result=leaky_hook,
            wait=leaky_hook,
            stop=leaky_hook,
            retry_after=leaky_hook,
        ),
        breaker(
            9, on=leaky_hook, ignore=leaky_hook, on_result=leaky_hook, break_duration=leaky_hook
        ),
        Timeout(50),
        listeners=[leaky_hook, said.recorder],
        enabled=leaky_hook,
    )

    await exercise(guarded, said, failing)
    await exercise(guarded, said, returning)
    said.check()


async def test_no_secret_is_said_in_warnings(backend, said):
    """
    A wait strategy that returns a secret in the place of a number is warned of without it (law 36).
    """
    retry = Retry(2, on=OSError, wait=lambda state: CANARIES["result"], max_delay=0.001)

    with pytest.warns(ResilienceWarning) as warned:
        await timed(retry(Script(OSError)))

    said.add(*[each.message for each in warned], retry, retry, retry)
    said.check()


async def test_notes_tell_types_only(backend, said):
    """
    The note on the last error names the earlier ones by type: it is printed with every traceback (law 36).
    """
    error = OSError("fine")

    await timed(Retry(3, on=OSError, wait=wait_none())(Script(SecretError(), SecretError(), error)))

    (note,) = error.__notes__
    assert "SecretError, SecretError" in note
    said.add(note, note)
    said.check()


async def test_timeouts_tell_their_limit_only(backend, unit, said):
    """
    The timeout's own error, event and log line (law 36).
    """
    guarded = Pipeline(Timeout(unit), listeners=[said.recorder])

    error, _ = await timed(guarded(hanging, CANARIES["argument"], keyword=CANARIES["keyword"]))

    said.add(error, vars(error), error.args)
    assert "TimedOut" in said.recorder.kinds
    said.check()


async def test_refusing_what_cannot_be_called_tells_types_only(backend, said):
    """
    The errors of the doors name what they got by type or function (law 36).
    """
    guarded = Pipeline()
    coroutine = returning(CANARIES["argument"], keyword=CANARIES["keyword"])
    for wrong in (coroutine, CANARIES["argument"]):
        with pytest.raises(TypeError) as caught:
            await guarded(wrong)
        said.add(caught.value)
    said.check()


async def test_a_held_stream_and_an_opened_manager_say_nothing(backend, said):
    """
    Reprs of streams and managers, whose callees hold arguments (law 36).
    """
    gate = breaker(1)
    guarded = Pipeline(gate, Timeout(50), listeners=[said.recorder])

    async def rows(argument):
        yield CANARIES["result"]
        raise SecretError

    async with guarded.stream(rows, hold=True)(CANARIES["argument"]) as items:
        said.add(items)
        assert CANARIES["result"] == await anext(items)
        with pytest.raises(SecretError):
            await anext(items)

    assert "OPEN" == gate.state.name
    said.add(gate, gate.snapshot())
    said.check()


async def test_with_error_text_the_text_is_there_and_tame(backend, said):
    """
    Opted in: at most 200 characters, control characters escaped, and still no argument or result (law 36).
    """
    nasty = f"{CANARIES['error']}\r\nFAKE LOG LINE\x1b[31m\x00\u202e" + "x" * 500

    async def nasty_failing(argument, *, keyword):
        raise OSError(nasty)

    gate = breaker(2, error_text=True, on=OSError)
    guarded = Pipeline(
        Retry(2, on=OSError, wait=wait_none(), error_text=True),
        gate,
        Timeout(50),
        listeners=[said.recorder],
    )
    await exercise(guarded, said, nasty_failing)

    texts = [
        event.error_text
        for event in said.recorder
        if getattr(event, "error_text", None) is not None
    ] + [gate.snapshot().last_failure_text]
    assert len(texts) >= 3
    for text in texts:
        assert text.startswith(CANARIES["error"])
        assert len(text) <= 200
        assert text.isprintable()
        assert text.isascii()
    said.check("error")


async def test_without_it_the_same_events_have_none(backend, said):
    """
    The default is no text (law 36).
    """
    gate = breaker(1)
    guarded = Pipeline(
        Retry(2, on=OSError, wait=wait_none()), gate, Timeout(50), listeners=[said.recorder]
    )
    await exercise(guarded, said, failing)

    assert {None} == {getattr(event, "error_text", None) for event in said.recorder}
    assert gate.snapshot().last_failure_text is None
    said.check()


async def test_a_strategy_of_tenacitys_in_a_repr_tells_no_state(backend, said):
    """
    A repr is what one would type; objects of others are shown by their type (law 36).
    """
    retry = Retry(2, on=retry_if_result(lambda r: r == CANARIES["result"]), wait=wait_none())
    await timed(retry(returning, CANARIES["argument"], keyword=CANARIES["keyword"]))

    said.add(retry, Pipeline(retry))
    said.check()


async def test_hung_calls_in_flight_are_not_described(backend, unit, said):
    """
    While calls run, breaker and pipeline tell of none of them (law 36).
    """
    gate = breaker(1, overdue_after=unit)
    guarded = Pipeline(gate, Timeout(9 * unit), listeners=[said.recorder])

    async def call():
        await timed(guarded(Script(Hang()), CANARIES["argument"], keyword=CANARIES["keyword"]))

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await anyio.sleep(2 * unit)
        said.add(gate, gate.snapshot(), guarded, vars(gate) if hasattr(gate, "__dict__") else gate)
        group.cancel_scope.cancel()
    said.check()
