"""
One run of the demo: the server's process, the two groups, the view, and a clean end whatever ends it.

Signals are caught by a handler that only remembers them, and a task that looks ten times a second cancels the run: the
same on asyncio and trio and on every platform, where a `KeyboardInterrupt` would rise in the middle of some client's
bookkeeping. The server lives in a session of its own, so that a terminal's Ctrl-C reaches it only through us.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from subprocess import PIPE
from types import FrameType
from typing import TextIO

import anyio
import attrs
from anyio.abc import ByteSendStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream

from resilience import CircuitState
from resilience.demo.clients import Group, SendOnce, bare
from resilience.demo.guard import guarded
from resilience.demo.plan import PLANS, Plan, arrivals
from resilience.demo.records import BARE, GUARDED, Call, read_log
from resilience.demo.report import Run
from resilience.demo.server import Config
from resilience.demo.view import Scene, View, quiet
from resilience.events import CircuitStateChanged

__all__ = ["Options", "Result", "Signals", "play"]

_TICK = 0.1
_START_SECONDS = 15.0
_STOP_SECONDS = 3.0


@attrs.frozen
class Options:
    """
    What to run.

    Attributes:
        plan: Name of a plan in `PLANS`.
        seconds: Length of the plan.
        rate: Calls per second of each group.
        seed: Of arrivals and faults.
        backend: ``asyncio`` or ``trio``.
        log: Where to leave the server's request log; None: nowhere.
    """

    plan: str
    seconds: float
    rate: float
    seed: int
    backend: str
    log: Path | None = None

    def timetable(self) -> Plan:
        """The plan at its length."""
        return PLANS[self.plan].lasting(self.seconds)

    @property
    def limit(self) -> int:
        """Calls a group may have in flight: what arrives in two and a half seconds."""
        return math.ceil(self.rate * 2.5)

    def server(self, log: Path) -> Config:
        """The server for this load: busy to about a seventh while it is healthy."""
        return Config(
            plan=self.plan,
            seconds=self.seconds,
            seed=self.seed,
            workers=max(2, math.ceil(self.rate / 10)),
            queue=math.ceil(self.rate * 4),
            backend=self.backend,
            log=str(log),
        )


@attrs.frozen
class Result:
    """
    What is left after a run.

    Attributes:
        run: The records; None if it ended before the first call could have been made.
        problem: What went wrong with the server, in one line.
    """

    run: Run | None
    problem: str | None


class Signals:
    """Remembers the first SIGINT or SIGTERM that came while it was entered."""

    def __init__(self) -> None:
        self.caught: int | None = None

    @contextlib.contextmanager
    def watched(self) -> Iterator[Signals]:
        """Catch them from here to the end of the block."""

        def remember(number: int, _frame: FrameType | None) -> None:
            self.caught = self.caught or number

        before = {
            number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def play(options: Options, view: View, signals: Signals) -> Result:
    """Run it. Signals end it early; the result then holds what there was until then."""
    with tempfile.TemporaryDirectory(prefix="resilience-demo-") as folder:
        log = options.log or Path(folder, "requests.jsonl")
        complaints = Path(folder, "stderr.txt")
        stage = _Stage(options, view)
        with quiet(), complaints.open("w", encoding="utf-8") as stderr:
            try:
                anyio.run(stage.run, log, stderr, signals, backend=options.backend)
            finally:
                view.end()
        problem = stage.problem
        if problem is not None:
            problem = ": ".join([problem, *_last_words(complaints.read_text(encoding="utf-8"))])
        if stage.began is None:
            return Result(None, problem)
        with log.open(encoding="utf-8") as lines:
            return Result(stage.records(lines), problem)


def _last_words(text: str) -> list[str]:
    """The last line that says something; an exception group's traceback ends in a line of dashes."""
    return [line.strip(" |") for line in text.splitlines() if re.search(r"\w", line)][-1:]


@contextlib.asynccontextmanager
async def _process(config: Config, stderr: TextIO) -> AsyncIterator[Process]:
    """The server's process, which ends when its standard input does, and is killed if that takes too long."""
    process = await anyio.open_process(
        [sys.executable, "-m", "resilience.demo.server", json.dumps(attrs.asdict(config))],
        stdin=PIPE,
        stdout=PIPE,
        stderr=stderr,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            await _stdin(process).aclose()
            with anyio.move_on_after(_STOP_SECONDS):
                await process.wait()
            if process.returncode is None:
                process.kill()
            await process.aclose()


def _stdin(process: Process) -> ByteSendStream:
    assert process.stdin is not None  # noqa: S101 - it was opened with a pipe
    return process.stdin


async def _port(process: Process) -> int | None:
    """The port the server announces; None if it ends, or says nothing for too long."""
    assert process.stdout is not None  # noqa: S101 - it was opened with a pipe
    with anyio.move_on_after(_START_SECONDS), contextlib.suppress(anyio.IncompleteRead):
        line = await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 200)
        port: int = json.loads(line)["port"]
        return port
    return None


class _Stage:
    """The state of a run while it lasts, and the pipeline's listener."""

    listens_to = (CircuitStateChanged,)

    def __init__(self, options: Options, view: View) -> None:
        self.began: float | None = None
        self.problem: str | None = None
        self._options = options
        self._view = view
        self._ended: float | None = None
        self._groups: dict[str, Group] = {}
        self._openings: list[float] = []

    def _now(self) -> float:
        return 0.0 if self.began is None else anyio.current_time() - self.began

    def __call__(self, event: CircuitStateChanged) -> None:
        """Remember when the circuit opened, and show each transition."""
        if event.new == CircuitState.OPEN.name:
            self._openings.append(self._now())
        self._view.circuit(event)

    async def run(self, log: Path, stderr: TextIO, signals: Signals) -> None:
        """Start the server, perform, and stop the server, whatever happens."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._tick, signals, tasks.cancel_scope)
            async with _process(self._options.server(log), stderr) as process:
                await self._perform(process)
            tasks.cancel_scope.cancel()

    async def _tick(self, signals: Signals, scope: anyio.CancelScope) -> None:
        """Refresh the view until a signal has come."""
        while signals.caught is None:
            await anyio.sleep(_TICK)
            self._view.refresh()
        scope.cancel()

    async def _perform(self, process: Process) -> None:
        """Wait for the server, start its plan, and let both groups call until all their calls have ended."""
        port = await _port(process)
        if port is None:
            self.problem = "the server did not start"
            return
        pipeline = guarded([self])

        async def guard(send: SendOnce, call: Call) -> None:
            await pipeline(send, call)

        self._groups = {
            name: Group(name, door, port=port, limit=self._options.limit, clock=self._now)
            for name, door in ((BARE, bare), (GUARDED, guard))
        }
        plan = self._options.timetable()
        times = arrivals(self._options.rate, plan.seconds, self._options.seed)
        await _stdin(process).send(b"\n")
        self.began = anyio.current_time()
        self._view.begin(
            Scene(
                plan,
                self._options.backend,
                self._options.rate,
                self._groups,
                pipeline,
                clock=self._now,
            )
        )
        try:
            async with anyio.create_task_group() as tasks:
                for group in self._groups.values():
                    tasks.start_soon(group.run, times)
        finally:
            self._ended = self._now()
        if process.returncode is not None:
            self.problem = f"the server ended early, with code {process.returncode}"

    def records(self, log: TextIO) -> Run:
        """What was written down, by us and by the server."""
        return Run(
            plan=self._options.timetable(),
            elapsed=self._ended or 0.0,
            calls={name: group.calls for name, group in self._groups.items()},
            attempts={name: group.attempts for name, group in self._groups.items()},
            log=read_log(log),
            openings=self._openings,
        )
