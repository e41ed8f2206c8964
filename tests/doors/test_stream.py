"""
`p.stream(agen_fn)`: guarded up to the first item, never replayed, its permits held to the end where that is asked for.
"""

from __future__ import annotations

import anyio
import pytest

from resilience import (
    FullJitter,
    Pipeline,
    Retry,
    Timeout,
    TimeoutExceededError,
)
from resilience.testing import Wait
from tests.doors.kit import plain_breaker

retry = Retry(3, on=OSError, wait=FullJitter(0, 0))


class Source:
    """An async generator function that records its life."""

    def __init__(self, *runs) -> None:
        self.runs = list(runs)
        self.starts = self.closed = 0

    async def __call__(self, *_):
        run = self.runs[min(self.starts, len(self.runs) - 1)]
        self.starts += 1
        try:
            for item in run:
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, Wait):
                    await anyio.sleep(item.seconds)
                    continue
                yield item
        finally:
            self.closed += 1


async def test_a_stream_is_retried_up_to_its_first_item_and_never_replayed(backend):
    """
    api.md: what was delivered is not delivered again; an error after the first item is the consumer's.
    """
    source = Source([OSError("start")], [1, 2, OSError("middle")])
    seen = []
    with pytest.raises(OSError, match="middle"):  # noqa: PT012 - the items are what raises
        async with Pipeline(retry).stream(source)("q") as items:
            async for item in items:
                seen.append(item)  # noqa: PERF401 - what came before the error counts
    assert ([1, 2], 2, 2) == (seen, source.starts, source.closed)


async def test_an_empty_stream_is_empty(backend):
    """
    api.md: a stream without items is a success and iterates over nothing.
    """
    async with retry.stream(Source([]))() as items:
        assert [] == [item async for item in items]


async def test_a_stream_that_was_not_entered_says_so(backend):
    """
    api.md: without ``async with`` nothing guards it; to look like an empty stream would hide that.
    """
    source = Source([1])

    with pytest.raises(RuntimeError, match=r"async with p\.stream\(fn\)\(\.\.\.\) as items"):
        await anext(retry.stream(source)())

    assert 0 == source.starts


async def test_a_stream_can_be_entered_again(backend):
    """
    Each entering is a call of its own: a new generator, and attempts that count from one.
    """
    watched = plain_breaker(1)
    source = Source([1, 2], [3])
    stream = watched.stream(source, hold=True)()

    seen = []
    for _ in range(2):
        async with stream as items:
            seen.append([item async for item in items])

    assert ([[1, 2], [3]], 2) == (seen, source.closed)
    assert 2 == watched.snapshot().totals.successes


@pytest.mark.parametrize("hold", [False, True])
async def test_an_iterator_that_cannot_be_closed_is_a_stream_too(backend, hold):
    """
    Clients hand out async iterators that are no generators: there is nothing to close, and nothing goes wrong.
    """

    class Items:
        def __init__(self):
            self.left = [3, 2, 1]

        def __aiter__(self):
            return self

        async def __anext__(self):
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop()

    async with retry.stream(Items, hold=hold)() as items:
        assert [1, 2, 3] == [item async for item in items]


async def test_what_is_no_stream_is_pythons_error(backend):
    """
    The error of the iteration is not replaced by one of the closing.
    """
    with pytest.raises(TypeError, match="async iterator"):
        async with retry.stream(dict)():
            pass


async def test_the_first_item_has_a_deadline_and_the_others_have_not(backend, unit):
    """
    api.md, H17: no deadline stays open across a yield.
    """
    slow = Source([Wait(5 * unit), 1])
    with pytest.raises(TimeoutExceededError):
        async with Timeout(unit).stream(slow)() as items:
            raise AssertionError
    assert 1 == slow.closed
    async with Timeout(unit).stream(Source([1, Wait(3 * unit), 2]))() as items:
        assert [1, 2] == [item async for item in items]


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("end", ["all", "early", "fails", "body", "cancelled"])
async def test_a_held_stream_is_judged_at_its_end(backend, unit, hold, end):
    """
    api.md: with `hold` the permits last to the end: an error is a failure, a consumer who stops early or leaves is not.
    """
    breaker = plain_breaker(1)
    source = Source([1, 2, OSError("end")] if end == "fails" else [1, 2])

    async def consume():
        async with breaker.stream(source, hold=hold)() as items:
            assert not hold or 0 == breaker.snapshot().totals.successes
            async for _ in items:
                if end == "early":
                    break
                if end == "body":
                    raise KeyError
                if end == "cancelled":
                    await anyio.sleep(50 * unit)

    if end == "cancelled":
        with anyio.move_on_after(unit):
            await consume()
    elif end in {"fails", "body"}:
        with pytest.raises(OSError if end == "fails" else KeyError):
            await consume()
    else:
        await consume()

    totals = breaker.snapshot().totals
    counted = totals.successes, totals.failures, totals.ignored
    ended = {"fails": (0, 1, 0), "cancelled": (0, 0, 1)}
    assert (ended.get(end, (1, 0, 0)) if hold else (1, 0, 0)) == counted
    assert 1 == source.closed


async def test_a_stream_that_a_later_policy_fails_gives_its_permit_back(backend):
    """
    api.md, law 33: a held permit is settled when the stream never starts.
    """
    breaker = plain_breaker(1)
    picky = Retry(2, on=OSError, on_result=lambda _: 1 / 0, wait=lambda _: 0.0)
    with pytest.warns(match="hang"):
        guarded = Pipeline(picky, breaker)
    async with guarded.stream(Source([1], [2]), hold=True)() as items:
        assert [2] == [item async for item in items]
    totals = breaker.snapshot().totals
    assert (2, 0, 0) == (totals.successes, totals.failures, totals.ignored)
