"""What a refused result holds, a connection of a pool, is given back before the retry waits."""

from __future__ import annotations

import logging

import anyio
import pytest

from resilience import Pipeline, Retry, Timeout
from resilience.pipeline import without_warnings


def refusing(unit, log, release):
    """A retry whose first result is refused, and which waits for a second then."""

    @Retry(2, on=OSError, on_result=lambda result: result == 1, wait=lambda _: unit).informed
    async def fetch(call):
        call.release = release
        log.append((f"attempt {call.attempt}", anyio.current_time()))
        return call.attempt

    return fetch


async def test_a_refused_result_is_released_before_the_wait(backend, unit):
    """Issue 4: responses are closed before a retry, not after its wait; the last result is not."""
    log = []

    async def release(result):
        log.append((f"released {result}", anyio.current_time()))

    assert 2 == await refusing(unit, log, release)()

    assert ["attempt 1", "released 1", "attempt 2"] == [what for what, _ in log]
    (_, first), (_, released), (_, second) = log
    assert released - first < second - released


async def test_a_release_that_fails_is_logged_and_changes_nothing(backend, unit, caplog):
    """Law 6: the next attempt may well succeed without."""

    async def release(result):
        raise ConnectionError("cannot even be closed")

    with caplog.at_level(logging.ERROR, "resilience"):
        assert 2 == await refusing(unit, [], release)()

    assert "release" in caplog.text
    assert "cannot even be closed" not in caplog.text


def test_a_pipeline_whose_findings_are_known_warns_of_none():
    """Api, Pipeline: errors stay errors."""
    nested = [Retry(3, on=OSError), Retry(3, on=OSError)]

    with without_warnings():
        pipeline = Pipeline(*nested, name="known")

    assert isinstance(pipeline, Pipeline)
    assert ["nested-retries"] == [each.code for each in pipeline.explain().findings]
    with pytest.raises(ValueError, match="can never fire"):
        Pipeline(Timeout(1), Timeout(2))
