"""What the demo's tests share: the two backends, and a service that runs inside the test."""

import contextlib
import io
from collections.abc import AsyncIterator, Callable

import anyio
import attrs
import pytest

from resilience.demo import plan as plans
from resilience.demo.plan import Mode, Phase, Plan
from resilience.demo.records import Request, read_log
from resilience.demo.server import Config, serve

# Real sockets need real time: these tests are plain functions and do not run on the virtual clock.
loops = pytest.mark.parametrize("loop", ["asyncio", "trio"])


@attrs.frozen
class Served:
    """A service in this process, and the log it writes."""

    port: int
    stop: Callable[[], None]
    log: io.StringIO

    def requests(self) -> tuple[Request, ...]:
        return read_log(self.log.getvalue().splitlines(keepends=True))


def plan_of(monkeypatch: pytest.MonkeyPatch, *phases: tuple[Mode, float]) -> str:
    """Add a plan under the name it returns."""
    made = Plan("made for a test", tuple(Phase(*phase) for phase in phases))
    monkeypatch.setitem(plans.PLANS, made.name, made)
    return made.name


@contextlib.asynccontextmanager
async def service(plan: str, *, workers: int = 2, queue: int = 2) -> AsyncIterator[Served]:
    """Run the plan at its own length, from now."""
    config = Config(
        plan=plan,
        seconds=plans.PLANS[plan].seconds,
        seed=7,
        workers=workers,
        queue=queue,
        backend="",
        log="",
    )
    log, ports = io.StringIO(), []
    started, stopped, announced = anyio.Event(), anyio.Event(), anyio.Event()

    def announce(port: int) -> None:
        ports.append(port)
        announced.set()

    async def run() -> None:
        await serve(config, log, announce=announce, started=started, stopped=stopped)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await announced.wait()
        started.set()
        yield Served(ports[0], stopped.set, log)
        stopped.set()
