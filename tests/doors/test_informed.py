"""
`p.informed(fn)`: what a callee is told of its call.
"""

from __future__ import annotations

import pytest

from resilience import (
    Call,
    FullJitter,
    Pipeline,
    Retry,
    Timeout,
)

retry = Retry(3, on=OSError, wait=FullJitter(0, 0))


async def test_an_informed_callee_knows_its_attempt_and_deadline(backend, unit):
    """
    api.md: attempt from 1, deadline, remaining(), key and the error before.
    """
    seen = []

    async def callee(call: Call, sku: str) -> str:
        left = call.remaining()
        seen.append((call.attempt, type(call.previous_error), 0 < left <= 10.1 * unit, call.key))
        assert call.deadline is not None
        if call.attempt < 3:
            raise OSError
        return sku

    guarded = Pipeline(Timeout(10 * unit), retry, key=lambda sku: sku.upper())
    assert "a" == await guarded.informed(callee)("a")
    assert [(1, type(None), True, "A"), (2, OSError, True, "A"), (3, OSError, True, "A")] == seen


async def test_a_call_without_a_deadline_has_all_the_time(backend):
    """
    api.md: without a Timeout the deadline is None and what remains is infinite.
    """

    async def callee(call: Call) -> tuple:
        return call.deadline, call.remaining(), call.key, repr(call)

    assert (None, float("inf"), "tenant", "<Call attempt=1>") == await Pipeline(
        retry, key="tenant"
    ).informed(callee)()


@pytest.mark.parametrize("guarded", [retry, Pipeline(retry)], ids=["policy", "pipeline"])
def test_an_informed_callee_needs_a_place_for_the_call(guarded):
    """
    api.md: a function without an argument for the Call is refused by name.
    """

    async def nothing() -> None: ...

    with pytest.raises(TypeError, match="nothing must take a Call as its first argument"):
        guarded.informed(nothing)
