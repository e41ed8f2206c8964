"""
The targets of the express lane, and what was measured of each, on every Python whose results are there.

A row says where its figure comes from, so that nothing has to be copied by hand; one that was not measured is a dash,
one that missed is bold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

__all__ = ["TARGETS", "Target", "page"]

Data = Mapping[str, Any]
_MIX = "hyx + circuitbreaker + asyncio.timeout"
_THREE = "resilience, three layers"


def _cell(run: Data, part: str, table: str, column: str, **where: Any) -> float:
    """The number in the row whose cells are these."""
    for row in run["parts"][part][table]["rows"]:
        if all(row.get(name) == value for name, value in where.items()):
            return float(row[column])
    raise KeyError(where)


def _cost(table: str, call: str, unit: str = "W") -> Callable[[Data], float]:
    return lambda run: _cell(run, "cost", table, f"x {unit}", call=call)


def _times(table: str, call: str, than: str, unit: str = "W") -> Callable[[Data], float]:
    """How many times as dear the first is as the second, in one table."""
    return lambda run: _cost(table, call, unit)(run) / _cost(table, than, unit)(run)


def _added(tasks: int, call: str) -> Callable[[Data], float]:
    return lambda run: _cell(run, "concurrency", "tasks", "added ns", tasks=tasks, call=call)


def _over_windows(run: Data) -> float:
    costs = [
        row["x W"]
        for row in run["parts"]["windows"]["windows"]["rows"]
        if row["breaker"] == "resilience: all succeed"
    ]
    return max(costs) / min(costs)  # type: ignore[no-any-return]


class Target(NamedTuple):
    """
    One row.

    Attributes:
        case: What is measured.
        figure: The figure in the results of one Python.
        at_most, at_least: The target, one of the two.
        older: What is to be reached before 3.13, where that is something else.
        unit: Of the figure.
    """

    case: str
    figure: Callable[[Data], float]
    at_most: float = math.inf
    at_least: float = -math.inf
    older: float | None = None
    unit: str = "W"

    def text(self) -> str:
        """The target in words."""
        if self.at_least > 0:
            return f">= {self.at_least:g} {self.unit}"
        older = "" if self.older is None else f" (before 3.13: {self.older:g})"
        return f"<= {self.at_most:g} {self.unit}{older}"

    def measured(self, run: Data, python: str) -> str:
        """The cell of one Python; bold where the target is missed."""
        try:
            value = self.figure(run)
        except (KeyError, TypeError, ZeroDivisionError):
            return "-"
        most = self.at_most if self.older is None or python == "3.13" else self.older
        text = f"{value:.2f}" if value < 100 else f"{value:,.0f}"
        return text if self.at_least <= value <= most else f"**{text}**"


def _at_once(rival: str) -> Callable[[Data], float]:
    return _times("layers", rival, "resilience")


TARGETS: tuple[Target, ...] = (
    Target("breaker alone, a count window, exact signature", _cost("breaker", "resilience, rate of 100 calls"), 0.9),
    Target("breaker alone, a count window, `*args, **kwargs`", _cost("breaker", "resilience, rate of 100 calls, any arguments"), 1.25),
    Target("breaker alone, the default time window", _cost("breaker", "resilience, rate of 30 s"), 1.25),
    Target("breaker alone, with a slow rate", _cost("breaker", "resilience, rate of 30 s or slow rate"), 1.9),
    Target("breaker alone, with `overdue_after`", _cost("breaker", "resilience, rate of 30 s and overdue_after"), 1.9),
    Target("breaker, retry and timeout, succeeds at once", _cost("layers", "resilience"), 1.8, older=3.0),
    Target("the same, suspends once", _cost("layers_suspending", "resilience"), 1.12),
    Target("the canonical five", _cost("compositions", "Timeout + Retry + CircuitBreaker + Bulkhead + Timeout"), 2.6),
    Target("breaker, retry and timeout on the linked steps", _cost("compositions", "Retry + CircuitBreaker + Timeout, linked steps"), 7.0),
    Target("`await p(fn, x)`, not wrapped", _cost("doors", "await p(fn, x)"), 3.0),
    Target("a listener for transitions, retries and rejections, against none", _times("listeners", "resilience, a listener for transitions, retries and rejections", "resilience, three layers, no listener"), 1.05, unit="x"),
    Target("nopanic, against ours", _at_once("nopanic"), at_least=10, unit="x"),
    Target("pyresilience, against ours", _at_once("pyresilience"), at_least=12, unit="x"),
    Target("the fastest mix of libraries, against ours", _at_once(_MIX), at_least=8, unit="x"),
    Target("interlock-cb, against ours", _at_once("interlock-cb"), at_least=100, unit="x"),
    Target("rejected by an open circuit, raised", _cost("rejected", "resilience", "raised and caught"), 1.8, unit="x raised and caught"),
    Target("rejected by an open circuit, as an outcome", _times("rejected", "resilience, as an outcome", "W", "raised and caught"), 1.5),
    Target("three failing attempts of a retry, no wait", _cost("failing_retry", "resilience", "the bare loop"), 2.2, unit="x the bare loop"),
    Target("`asyncio.timeout`, against our timeout", _times("timeout", "asyncio.timeout", "resilience"), at_least=5, unit="x"),
    Target("`anyio.fail_after` on asyncio, against our timeout", _times("timeout", "anyio.fail_after", "resilience"), at_least=18, unit="x"),
    Target("`trio.fail_after`, against our timeout on trio", _times("trio", "trio.fail_after", "resilience, timeout"), at_least=1.1, unit="x"),
    Target("added by three layers at 10,000 tasks, against 1 task", lambda run: _added(10_000, _THREE)(run) / _added(1, _THREE)(run), 1.4, unit="x"),
    Target("added by three layers at 100,000 tasks, against what W adds", lambda run: _added(100_000, _THREE)(run) / _added(100_000, "W")(run), 2.5, unit="x"),
    Target("p99.9 at 1,000 tasks, against bare", lambda run: _cell(run, "concurrency", "waiting", "p99.9 x bare", call=_THREE), 1.1, unit="x"),
    Target("a window of 10 to 100,000 calls, dearest against cheapest", _over_windows, 1.15, unit="x"),
    Target("bytes added to a call in flight, three layers", lambda run: _cell(run, "memory", "in_flight", "bytes", call=_THREE), 450, unit="bytes"),
    Target("bytes of an idle breaker", lambda run: _cell(run, "memory", "idle", "alone", breaker="resilience, time"), 700, unit="bytes"),
    Target("bytes of a keyed breaker", lambda run: _cell(run, "memory", "idle", "alone", breaker="resilience, time, keyed in a family"), 700, unit="bytes"),
    Target("8 threads x 8 loops on one breaker, against 8 breakers", lambda run: _cell(run, "threads", "threads", "share", breaker="resilience"), at_least=0.95, unit="x"),
    Target("10,000 tasks over real sockets, against bare", lambda run: _cell(run, "sockets", "sockets", "of bare", call=_THREE), at_least=0.97, unit="x"),
    Target("`from resilience import CircuitBreaker, Pipeline, Retry, Timeout`, against `import anyio, attrs`", lambda run: _cell(run, "startup", "import", "x anyio, attrs", call="resilience"), 1.5, unit="x"),
    Target("`import resilience` alone, a directory of names", lambda run: _cell(run, "startup", "import", "x anyio, attrs", call="resilience, no name of it yet"), 1.5, unit="x"),
    Target("building a pipeline", lambda run: _cell(run, "startup", "build", "µs here", what="resilience: build the pipeline"), 100, unit="µs"),
    Target("wrapping a known shape", lambda run: _cell(run, "startup", "build", "µs here", what="resilience: wrap a function"), 25, unit="µs"),
)  # fmt: skip


def page(runs: Mapping[str, Data]) -> str:
    """benchmarks/results/targets.md, of what was measured on these Pythons."""
    lines = [
        "| case | target | " + " | ".join(runs) + " |",
        "|---|---" + "|--:" * len(runs) + "|",
    ]
    for target in TARGETS:
        cells = [target.measured(run, python) for python, run in runs.items()]
        lines.append(f"| {target.case} | {target.text()} | " + " | ".join(cells) + " |")
    reading = (
        "Written by `nox -s bench`; nothing here is written by hand. W is the cheapest generic wrapper Python allows. "
        "**Bold**: missed; what was tried, and where the time goes, stands in "
        "[what it costs](../../docs/design/performance.md)."
    )
    table = "\n".join(lines)
    return f"# Targets\n\n{reading}\n\n{table}\n"
