"""
The old report's agent suite (10 tests), anew: call counts at every stage.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from resilience import CircuitOpenError, Pipeline, Timeout
from resilience.compat import unified
from resilience.compat.unified import (
    UnifiedCircuitBreaker,
    UnifiedCircuitConfig,
    get_circuit_breaker,
)
from resilience.domains import Domain, DomainCircuitBreakerManager
from resilience.registry import Registry

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

STAGES = ("supervisor", "llm", "tool", "data")


class Stages:
    """Four stages that count, each of which may be broken or slow."""

    def __init__(self) -> None:
        self.calls = dict.fromkeys(STAGES, 0)
        self.broken: set[str] = set()

    async def work(self, stage: str, task: str) -> str:
        self.calls[stage] += 1
        await anyio.lowlevel.checkpoint()
        if stage in self.broken:
            raise ConnectionError("Agent execution failed")
        return f"{task}>{stage}"


def test_imports():
    """
    Agents 1: what agents import is there.
    """
    assert {"AgentCircuitBreaker", "UnifiedRetryHandler", "UnifiedCircuitBreaker"} <= {
        *unified.__all__
    }


def test_four_breakers(named):
    """
    Agents 2, 5: four breakers, independent: one that is open leaves three.
    """
    breakers = {stage: get_circuit_breaker(f"{named}-{stage}") for stage in STAGES}
    assert all(each.can_execute() for each in breakers.values())
    for _ in range(5):
        breakers["llm"].record_failure()
    assert {"supervisor": True, "llm": False, "tool": True, "data": True} == {
        stage: each.can_execute() for stage, each in breakers.items()
    }


def test_six_failures(named):
    """
    Agents 3: refused from the fifth on, and every failure counted.
    """
    breaker = get_circuit_breaker(named)
    for _ in range(6):
        breaker.record_failure("LLMError")
    assert not breaker.can_execute()
    assert (6, {"LLMError": 6}) == (breaker.metrics.failed_calls, breaker.metrics.failure_types)


async def test_an_executor_behind_two_breakers(backend, named):
    """
    Agents 4: both asked first, both recorded; one open, and the executor is not called.
    """
    llm, tools = (get_circuit_breaker(f"{named}-{each}") for each in ("llm", "tools"))
    stages = Stages()

    async def execute(task: str) -> str:
        for breaker in (llm, tools):
            if not breaker.can_execute():
                raise unified.CircuitBreakerOpenError(breaker.name)
        try:
            result = await stages.work("tool", task)
        except ConnectionError as error:
            for breaker in (llm, tools):
                breaker.record_failure(error)
            raise
        for breaker in (llm, tools):
            breaker.record_success()
        return result

    assert "task>tool" == await execute("task")
    stages.broken.add("tool")
    for _ in range(5):
        with pytest.raises(ConnectionError, match="Agent execution failed"):
            await execute("fail_task")
    with pytest.raises(unified.CircuitBreakerOpenError) as caught:
        await execute("task")
    assert (llm.name, 6) == (caught.value.circuit_name, stages.calls["tool"])
    assert [(1, 5), (1, 5)] == [
        (each.metrics.successful_calls, each.metrics.failed_calls) for each in (llm, tools)
    ]


@pytest.mark.parametrize("kind", [ConnectionError, RuntimeError])
async def test_decorated_stages(backend, named, kind):
    """
    Agents 6, 7: a model's call and a tool's: errors by identity, counted once.
    """
    error = kind("stage")

    @unified.unified_circuit_breaker(named)
    async def stage() -> None:
        raise error

    with pytest.raises(kind) as caught:
        await stage()
    assert error is caught.value
    assert 1 == get_circuit_breaker(named).metrics.failed_calls


def test_what_was_missing_is_here():
    """
    Agents 8: the old test wanted features to be missing; these three are where they were looked for.
    """
    from resilience import Fallback, RetryBudget  # noqa: PLC0415 - the imports are the test
    from resilience.registry import default_registry  # noqa: PLC0415

    assert all(map(callable, (Fallback, RetryBudget, default_registry)))


async def test_a_chain_is_cut_at_the_open_stage(backend):
    """
    Agents 9, acceptance: supervisor, llm, tool, data: the open stage is not called, nor what comes after it.
    """
    manager, stages = DomainCircuitBreakerManager(Registry()), Stages()
    domains = dict(
        zip(STAGES, (Domain.AGENT, Domain.LLM, Domain.EXTERNAL_API, Domain.DATABASE), strict=True)
    )
    guards = {
        stage: Pipeline(manager.get_circuit_breaker(domain, "x"), Timeout(5))
        for stage, domain in domains.items()
    }

    async def chain(task: str) -> str:
        for stage, guard in guards.items():
            task = await guard(stages.work, stage, task)
        return task

    assert "t>supervisor>llm>tool>data" == await chain("t")
    stages.broken.add("llm")
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await chain("t")
    for _ in range(5):
        with pytest.raises(CircuitOpenError, match="llm:x"):
            await chain("t")
    assert {"supervisor": 8, "llm": 3, "tool": 1, "data": 1} == stages.calls
    assert ["llm:x"] == [
        name
        for name, each in manager.get_all_status().breakers.items()
        if each.state.name == "OPEN"
    ]


async def test_nested_breakers(backend, named):
    """
    Acceptance: the inner one's rejection is not counted outside, five times over.
    """
    manager, stages = DomainCircuitBreakerManager(Registry()), Stages()
    inner, outer = (
        manager.get_circuit_breaker(domain, "x") for domain in (Domain.LLM, Domain.AGENT)
    )
    stages.broken.add("llm")
    model = Pipeline(inner, Timeout(5)).wrap(stages.work)
    agent = Pipeline(outer, Timeout(10)).wrap(model)
    seen: list[Any] = []
    for _ in range(7):
        try:
            await agent("llm", "t")
        except (ConnectionError, CircuitOpenError) as error:
            seen.append(type(error).__name__)
    assert ["ConnectionError"] * 2 + ["CircuitOpenError"] * 5 == seen
    assert (2, "CLOSED") == (outer.snapshot().totals.failures, outer.state.name)


async def test_timeouts_protect(backend, named, unit):
    """
    Agents 10: 0.1 s for 0.2 s of work: it ends in time, counts, and two of them open; it had run to its end.
    """
    breaker = UnifiedCircuitBreaker(
        UnifiedCircuitConfig(name=named, failure_threshold=2, timeout_seconds=0.1 * unit)
    )
    ended = 0

    async def work() -> None:
        nonlocal ended
        await anyio.sleep(0.2 * unit)
        ended += 1

    for _ in range(2):
        with pytest.raises(TimeoutError):
            await breaker.call(work)
    with pytest.raises(unified.CircuitBreakerOpenError):
        await breaker.call(work)
    assert (0, 2, 1) == (ended, breaker.metrics.timeouts, breaker.metrics.rejected_calls)


async def test_an_agent_with_retries(backend, named):
    """
    Section 3, base_agent: retries inside one check; a failed task is one failure, an open breaker no attempt.
    """
    stages = Stages()
    breaker = unified.AgentCircuitBreaker(named, failure_threshold=2)
    retries = unified.UnifiedRetryHandler(
        named, unified.RetryConfig(max_attempts=3, base_delay=0.0), environ={}
    )

    async def run(task: str) -> str:
        if not breaker.can_execute_agent():
            return "unavailable"
        result = await retries.execute_with_retry_async(stages.work, "llm", task)
        if result.success:
            breaker.record_success()
            return str(result.result)
        breaker.record_agent_error(type(result.final_exception).__name__)
        return "failed"

    assert "t>llm" == await run("t")
    stages.broken.add("llm")
    assert ["failed", "failed", "unavailable"] == [await run("t") for _ in range(3)]
    assert (7, 2) == (stages.calls["llm"], breaker.metrics.failed_calls)
