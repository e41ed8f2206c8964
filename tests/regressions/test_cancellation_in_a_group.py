"""
A callee that hands the cancellation of a deadline on in an exception group, alone or together with errors.
"""

import anyio
import pytest

from resilience import Pipeline, Timeout, TimeoutExceededError
from tests.composition.support import breaker, pending_cancellations


def grouped(*errors):
    async def callee():
        try:
            await anyio.sleep_forever()
        except BaseException as cancelled:  # noqa: BLE001 - handed on
            raise BaseExceptionGroup("ended", [cancelled, *errors])  # noqa: B904 - as callees do

    return callee


def guarded_by(unit):
    outside, inside = (breaker(failures=2, overdue_after=3600) for _ in range(2))
    return outside, Pipeline(outside, Timeout(unit), inside), inside


async def test_a_group_of_nothing_but_our_cancellation_is_a_timeout(backend, unit):
    """Laws 3 and 29: our deadline cut the call: a timeout, a failure for the breakers on both sides of it."""
    outside, guarded, inside = guarded_by(unit)

    with pytest.raises(TimeoutExceededError):
        await guarded(grouped())

    assert [1, 1] == [each.snapshot().totals.failures for each in (outside, inside)]
    assert 0 == pending_cancellations()
    await anyio.sleep(unit / 10)


async def test_errors_beside_our_cancellation_are_raised_without_it(backend, unit):
    """Laws 3 and 7: the errors are the callee's own; the cancellation was ours and leaves no group behind."""
    outside, guarded, inside = guarded_by(unit)

    with pytest.raises(ExceptionGroup) as caught:
        await guarded(grouped(error := OSError("cleaning up")))

    assert (error,) == caught.value.exceptions
    assert [1, 1] == [each.snapshot().totals.failures for each in (outside, inside)]
    assert 0 == pending_cancellations()
    await anyio.sleep(unit / 10)


async def test_a_callers_cancellation_in_a_group_stays_in_it(backend, unit):
    """Law 2: what the caller does is not ours to take out, and is nobody's failure."""
    outside, guarded, inside = guarded_by(50 * unit)
    seen = []

    async def caller():
        try:
            await guarded(grouped())
        except BaseException as error:
            seen.append(error)
            raise

    with anyio.move_on_after(unit):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller)

    (group,) = seen
    assert isinstance(group.exceptions[0], anyio.get_cancelled_exc_class())
    assert [0, 0] == [each.snapshot().totals.failures for each in (outside, inside)]
    assert [1, 1] == [each.snapshot().totals.ignored for each in (outside, inside)]
