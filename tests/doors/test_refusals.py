"""
What a door refuses, with the right spelling; and answers that only who asks gets.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import pytest
import tenacity

from resilience import CircuitBreaker, Pipeline, RejectedError, Retry, Timeout
from resilience.core.circuit import LockedCircuit
from resilience.core.generations import CircuitState, Rules
from resilience.core.trips import ConsecutiveFailures, Trip
from resilience.doors import Guard
from resilience.events import error_text_of
from resilience.strategies import AttemptState
from resilience.testing import Script
from resilience.verdicts import Judge, Verdict

guard = Timeout(60)


async def coroutine() -> None: ...


async def rows() -> Any:
    yield 1


@contextlib.asynccontextmanager
async def opens() -> Any:
    yield 1


@contextlib.contextmanager
def opens_now() -> Any:
    yield 1


def plain() -> int:
    return 1


def says_so() -> Any: ...


says_so.__annotations__["return"] = "Awaitable[int]"


@pytest.mark.parametrize(
    ("door", "given", "text"),
    [
        ("opening", coroutine, r"coroutine is a coroutine function: use p\.wrap\(coroutine\)"),
        ("opening", rows, r"put @asynccontextmanager on it, or use p\.stream\(rows\)"),
        ("opening", opens_now, "opens_now makes a context manager that is not async"),
        ("stream", coroutine, r"use p\.wrap\(coroutine\)"),
        ("stream", opens, r"use p\.opening\(opens\)"),
        ("wrap", rows, "rows"),
        ("wrap", plain, "plain"),
        ("wrap", max, "max"),
        ("wrap", functools.partial(plain), "nobody can tell whether partial"),
    ],
    ids=list("abcdefghi"),
)
def test_what_goes_through_another_door(door, given, text):
    """
    Api, Doors: refused where it is wrapped, with the right spelling.
    """
    with pytest.raises(TypeError, match=text):
        getattr(guard, door)(given)


def test_a_generator_in_the_place_of_its_function():
    """
    Api, Doors: the function, then its arguments.
    """
    generator = rows()
    with pytest.raises(TypeError, match=r"p\.stream\(rows\)\(\.\.\.\)"):
        guard.stream(generator)  # type: ignore[arg-type]


def test_an_annotation_is_enough():
    """
    Api, wrap: a plain function that says that it returns an awaitable is taken.
    """
    assert guard.wrap(says_so) is not None


def test_an_informed_function_has_a_place_for_the_call():
    """
    Api, informed: none, or only by name: refused; ``*args`` takes it.
    """

    async def by_name(*, call: Any) -> None: ...

    async def any_place(*args: Any) -> None: ...

    for wrong in (coroutine, by_name):
        with pytest.raises(TypeError, match="must take a Call"):
            guard.informed(wrong)
    assert guard.informed(any_place) is not None


def test_a_policy_that_shares_nothing_says_so():
    """
    Api, Doors: most policies neither share an answer nor race.
    """
    assert (None, None) == (guard._keeper(), guard._racer())
    assert (None, None) == (Guard._keeper(guard), Guard._racer(guard))
    assert Verdict.SUCCESS is Judge(OSError, (), None).result("anything")
    with pytest.raises(NotImplementedError):
        Trip().start(0.0)
    assert "rejected by a policy" == str(RejectedError())


def test_a_text_that_cannot_be_had_is_none():
    """
    Law 36: of an error whose text raises nothing is told.
    """

    class MuteError(Exception):
        def __str__(self) -> str:
            raise KeyError

    assert error_text_of(MuteError(), True) is None  # noqa: FBT003 - the option
    assert error_text_of(MuteError(), False) is None  # noqa: FBT003
    assert AttemptState().seconds_since_start is None


async def test_an_isolated_circuit_is_foreseen(backend):
    """
    Law 25: no wait in front of a circuit that somebody holds isolated.
    """
    breaker = CircuitBreaker(f"foreseen-{backend}", on=OSError, overdue_after=60)
    holds: list[Any] = []

    async def fails() -> None:
        holds.append(breaker.isolate())
        raise OSError

    outcome = await Pipeline(Retry(3, on=OSError, wait=lambda _: 50.0), breaker).outcome(fails)
    assert (1, "circuit_isolated") == (outcome.attempts, outcome.rejection.reason)


async def test_a_strategy_of_tenacitys_is_asked_about_each_leaf(backend):
    """
    Law 7: a group is retried if every leaf is worth it.
    """
    on = tenacity.retry_if_exception_type(OSError)
    both = ExceptionGroup("both", [OSError(), OSError()])
    mixed = ExceptionGroup("mixed", [OSError(), ValueError()])
    for group, calls in ((both, 3), (mixed, 1)):
        script = Script(group)
        with pytest.raises(ExceptionGroup):
            await Retry(3, on=on, wait=lambda _: 0.0)(script)
        assert calls == script.calls


def _circuit(kind: Any) -> Any:
    rules = Rules(
        trip=ConsecutiveFailures(1),
        break_after=lambda _: 30.0,
        probes=1,
        successes_to_close=1,
        probe_lease=60.0,
        overdue_after=None,
    )
    return kind(rules, 0.0, lambda _: None, lambda *_: None)


def test_a_locked_circuit_begins_anew():
    """
    Law 38: other options, a fresh generation of the same state; an open one stays as it is.
    """
    circuit = _circuit(LockedCircuit)
    circuit._renew("changed", 1.0)
    assert (2, CircuitState.CLOSED) == (circuit.current.number, circuit.current.state)
    circuit.force(CircuitState.OPEN, 2.0)
    number = circuit.current.number
    circuit._renew("changed", 3.0)
    assert number == circuit.current.number
