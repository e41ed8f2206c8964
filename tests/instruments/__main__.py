"""
The instruments by hand, with their tables: ``python -m tests.instruments [WHAT]``.

``points --write`` renews the list of points at which a call can be cancelled. The differential oracle has a command of
its own, ``python -m tests.instruments.differential``; here it plays its first plans.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable

from resilience.events import LOGGER
from tests.instruments import bytecode, cancellation, examination, model, threads
from tests.instruments.differential.comparing import sweep
from tests.instruments.faults import faults

Row = tuple[object, ...]


def show(title: str, heads: Row, rows: list[Row]) -> None:
    """Print a table."""
    told = [tuple(map(str, row)) for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*told, strict=True)]
    print(f"\n{title}")
    for row in told:
        cells = zip(row, widths, strict=True)
        print("  " + "  ".join(cell.ljust(width) for cell, width in cells).rstrip())


def model_table(reports: list[model.Report]) -> None:
    heads = ("driven through", "shape", "states", "edges", "depth", "unsafe", "never close", "s")
    rows: list[Row] = [
        (
            "the policy" if each.world == "BreakerWorld" else "the circuit",
            each.shape,
            each.states,
            each.edges,
            each.depth,
            len(each.unsafe),
            each.stuck + each.stuck_when_healthy,
            f"{each.seconds:.1f}",
        )
        for each in reports
    ]
    show("Model check: every state of the real circuit", heads, rows)


def cancellation_table(report: cancellation.Report) -> None:
    points: Counter[str] = Counter()
    scenarios: Counter[str] = Counter()
    for (backend, _), places in report.points.items():
        points[backend] += len(places)
        scenarios[backend] += 1
    rows: list[Row] = [
        (how, scenarios[how.split()[0]], points[how.split()[0]], number)
        for how, number in report.runs.items()
    ]
    show(
        f"Cancellation before every step: {len(report.wrong)} wrong, {report.seconds:.1f} s",
        ("how", "scenarios", "points", "cancellations"),
        rows,
    )


def faults_table(findings: list[examination.Finding]) -> None:
    rows: list[Row] = [
        (each.fault.name, each.fault.of, ", ".join(_finders(each)) or "NOTHING")
        for each in findings
    ]
    observed = sum(each.fault.observed for each in findings)
    show(
        f"Planted faults: {len(findings)}, {observed} of them observed in rivals",
        ("fault", "of", "found by"),
        rows,
    )


def _finders(finding: examination.Finding) -> list[str]:
    return [said if name == "laws" else name for name, said in finding.by.items()]


def threads_table(outcomes: list[threads.Outcome]) -> None:
    rows: list[Row] = [
        (each.what, each.did, "; ".join(each.lost)[:60] or "nothing", f"{each.seconds:.1f}")
        for each in outcomes
    ]
    show("Threads: what was lost", ("measured", "work", "lost", "s"), rows)


def bytecode_table(lines: list[bytecode.Line]) -> None:
    told: Counter[str] = Counter()
    for line in lines:
        told[line.target, line.where.partition(":")[0]] += 1  # type: ignore[index]
    python = ".".join(map(str, sys.version_info[:3]))
    broken = sum(bool(line.switches) for line in lines)
    rows: list[Row] = [(*key, number) for key, number in told.items()]
    show(
        f"Straight lines on {python}: {len(lines)}, {broken} of them interruptible",
        ("what is added to", "in", "times"),
        rows,
    )


def run_model() -> bool:
    reports = [model.explore(shape, world) for world, shape in model.SHAPES]
    model_table(reports)
    return not any(each.verdict for each in reports)


def run_cancellation(*, write: bool = False) -> bool:
    report = cancellation.sweep(cancellation.scenarios())
    cancellation_table(report)
    for where, what in report.wrong[:20]:
        print(f"  {what}: {where}")
    text = cancellation.points_text(report)
    if write:
        cancellation.POINTS_FILE.write_text(text, encoding="utf-8")
    kept = cancellation.POINTS_FILE.read_text(encoding="utf-8")
    if text != kept:
        print(f"  {cancellation.POINTS_FILE.name} is another list")
    return not report.wrong and text == kept


def run_faults() -> bool:
    findings = [examination.examine(fault) for fault in faults()]
    faults_table(findings)
    return all(each.by for each in findings)


def run_threads() -> bool:
    outcomes = list(threads.everything())
    threads_table(outcomes)
    lines = bytecode.module_lines()
    bytecode_table(lines)
    real = [each for each in outcomes if not each.control]
    return not any(each.lost for each in real) and not any(line.switches for line in lines)


def run_differential() -> bool:
    reports = {"asyncio": sweep("asyncio", range(2_000)), "trio": sweep("trio", range(500))}
    rows: list[Row] = [
        (backend, report.plans, report.entries, report.lane, len(report.wrong), len(report.crashed))
        for backend, report in reports.items()
    ]
    show(
        "Plans played on both engines",
        ("backend", "plans", "callee entered", "by the lane", "told apart", "without an end"),
        rows,
    )
    for mismatch in (each for report in reports.values() for each in report.wrong[:3]):
        print(f"\n{mismatch}")
    return not any(report.wrong or report.crashed for report in reports.values())


RUNS: dict[str, Callable[[], bool]] = {
    "model": run_model,
    "cancellation": run_cancellation,
    "threads": run_threads,
    "faults": run_faults,
    "differential": run_differential,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.instruments")
    parser.add_argument("what", nargs="?", choices=[*RUNS, "points"])
    parser.add_argument("--write", action="store_true", help="renew the list of points")
    chosen = parser.parse_args()
    LOGGER.disabled = True
    if chosen.what == "points":
        return 0 if run_cancellation(write=chosen.write) else 1
    wanted = [chosen.what] if chosen.what else list(RUNS)
    failed = [name for name in wanted if not RUNS[name]()]
    if failed:
        print(f"\nnot as it should be: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
