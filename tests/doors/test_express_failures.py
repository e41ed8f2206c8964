"""
Calls that fail in the express lane: what the parts took is settled there, and the error is raised once.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import traceback

import pytest

from resilience import Bulkhead, CircuitBreaker, CircuitOpenError, Retry, Timeout
from resilience._failures import failure
from resilience.testing import engine
from tests.doors.kit import pipeline, plain_breaker
from tests.doors.lanes import quick_retry
from tests.doors.test_express_shapes import LANES

ENDING = {name: make for name, make in LANES.items() if name != "Retry with strategies"}
"""Those that give up."""
RAISED, HANDED = "raise", "handed"


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ("", RAISED),
        ("breaker", RAISED),
        ("deadline breaker in_time deadline", RAISED),
        ("places", RAISED),
        ("tokens", RAISED),
        ("retry", HANDED),
        ("retry breaker deadline", HANDED),
        ("deadline retry breaker places deadline", HANDED),
        ("deadline retry retry breaker", HANDED),
        ("load", None),
        ("flight", None),
        ("places breaker", None),
        ("breaker retry", None),
        ("places retry breaker", None),
        ("no_such", None),
    ],
)
def test_which_shapes_settle_a_failure_in_the_lane(roles, expected):
    """
    Where it takes no more than single steps, and an interrupted one leaves nothing behind.
    """
    names = [
        each.replace("_", " ")
        for each in roles.replace("breaker in_time", "breaker_in_time").split()
    ]
    text = failure(names, "handed", "linked")
    if expected is None:
        assert "linked" == text
    else:
        assert f"    {expected}\nelse:\n    linked" in text


@pytest.mark.parametrize("make", ENDING.values(), ids=ENDING)
async def test_a_failure_is_the_same_on_both_engines(backend, make):
    """
    Law 35: the error itself, as often asked for, with the same context and notes, and nothing stays taken.
    """
    assert await _failed(make(), "express") == await _failed(make(), "linked")


async def _failed(guard, name):
    """Times entered, the error's context and notes, where the callee raises in a handler."""
    error = OSError("down")
    entered = []

    async def fails() -> None:
        entered.append(None)
        try:
            raise LookupError  # noqa: TRY301 - a context
        except LookupError:
            raise error  # noqa: B904 - (as above)

    with engine(name):
        guarded = guard.wrap(fails)
    with pytest.raises(OSError, match="down") as caught:
        await guarded()
    assert error is caught.value
    with contextlib.suppress(CircuitOpenError):  # some have tripped
        await guard.wrap(_nothing)()
    notes = [re.sub(r"door-\d+", "door", each) for each in getattr(error, "__notes__", [])]
    return len(entered), type(error.__context__), notes


async def _nothing() -> None:
    """Nothing."""


async def test_an_error_passes_one_frame_of_ours(backend):
    """
    Issue 7.2: through a breaker alone no frame but the lane's stands between the caller and the callee.
    """
    if backend == "trio":
        pytest.skip(
            "a guard with a deadline has a lane on asyncio only; one without is the same there"
        )

    async def fails() -> None:
        raise OSError

    with engine("express"):
        guarded = pipeline(plain_breaker(9), Timeout(5)).wrap(fails)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the callee's own
        await guarded()
    names = [each.name for each in traceback.extract_tb(caught.value.__traceback__)]
    assert ["guarded", "fails"] == names[1:]


@pytest.mark.parametrize("total", [False, True])
async def test_a_predicate_that_is_interrupted_leaves_no_deadline_behind(backend, total):
    """
    Trap 1: what a predicate raises ends the call; the deadlines around it must not cut off what the task does next.
    """

    def interrupted(_: Exception) -> bool:
        raise KeyboardInterrupt

    async def fails() -> None:
        raise OSError

    breaker = CircuitBreaker(f"interrupted-{total}-{backend}", on=interrupted)
    inner = [quick_retry(), breaker, Bulkhead(1), Timeout(0.02)]
    with engine("express"):
        guarded = (
            pipeline(Timeout(0.03), *inner).wrap(fails) if total else pipeline(*inner).wrap(fails)
        )
    with pytest.raises(KeyboardInterrupt):
        await guarded()
    if backend != "trio":
        await asyncio.sleep(0.05)
    assert 1 == breaker.snapshot().totals.ignored


async def test_names_of_builtins_may_be_parameters(backend):
    """
    Trap 8: what the lane asks of an error is not what a parameter happens to be called.
    """

    async def fails(isinstance: int, Exception: int) -> None:  # noqa: A002, N803 - the point
        raise OSError(isinstance + Exception)

    with engine("express"):
        guarded = pipeline(quick_retry(2), plain_breaker(9)).wrap(fails)
    with pytest.raises(OSError, match="3"):
        await guarded(1, 2)


async def test_the_first_attempt_counts(backend):
    """
    Law 23: attempts, outcome and what strategies see begin with the one that ran in the lane.
    """
    calls = []
    retry = Retry(3, on=OSError, wait=lambda state: calls.append(state.attempt_number) or 0.0)

    async def fails() -> None:
        raise OSError

    with engine("express"):
        guard = pipeline(Timeout(5), retry, plain_breaker(9))
        guarded = guard.wrap(fails)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        await guarded()
    assert [1, 2] == calls
    assert [
        "resilience: gave up after attempt 3 (attempts); earlier: OSError, OSError"
    ] == caught.value.__notes__
