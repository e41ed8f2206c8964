"""
Every ``+=`` on something that threads share, found in the source and read in the bytecode.

`resilience.core.circuit` claims that such a line is not interrupted under the GIL. CPython hands the GIL over, runs
signal handlers and collects at calls, at the start of functions and at backward jumps, so none of these may stand
between the read and the write. The lines are found in the syntax tree and not listed by hand: a new one is judged
too. An attribute that is a property, or a class with a ``__setattr__`` of its own, would hide a call in the read or
the write; the documented counters are plain slots.
"""

from __future__ import annotations

import ast
import dis
import types
from collections.abc import Iterator
from pathlib import Path

import attrs

from resilience import budgets
from resilience.core import buckets, budget, circuit, generations, lines, load, trips, windows
from resilience.core.buckets import Bucket
from resilience.core.budget import Ledger, Slot
from resilience.core.generations import Closed, HalfOpen, Totals
from resilience.core.lines import Line, Places
from resilience.policies import (
    _breaker_core,
    bulkhead,
    circuit_breaker,
    concurrency_limit,
    rate_limit,
    throttle,
)

__all__ = ["DOCUMENTED", "MODULES", "Line", "controls", "hidden_calls", "lines_of"]

MODULES: tuple[types.ModuleType, ...] = (
    buckets,
    circuit,
    generations,
    lines,
    load,
    trips,
    windows,
    bulkhead,
    _breaker_core,
    circuit_breaker,
    budget,
    budgets,
    rate_limit,
    throttle,
    concurrency_limit,
)

# What `core.circuit`, `core.lines` and the policies over them promise to add to in a straight line.
DOCUMENTED: dict[str, type] = {
    "successes": Closed,
    "failures": Totals,
    "ignored": Totals,
    "slow": Totals,
    "rejected": Totals,
    "openings": Totals,
    "others": Closed,
    "good": HalfOpen,
    "taken": Places,
    "waiting": Line,
    "queued": Line,
    "at": Bucket,
    "asleep": Ledger,
    "spent": Slot,
}

_SWITCHES = (
    "CALL",
    "PRECALL",
    "RESUME",
    "JUMP_BACKWARD",
    "SEND",
    "YIELD",
    "FOR_ITER",
    "GET_AWAITABLE",
    "RETURN_GENERATOR",
)


@attrs.frozen
class Line:
    """One augmented assignment: what it writes, where, and what between read and write lets another thread in."""

    target: str
    where: str
    switches: tuple[str, ...]


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def lines_of(source: str, name: str) -> list[Line]:
    """The augmented assignments to attributes and elements in *source*, judged for the running Python."""
    nodes = {
        (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset): node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.AugAssign) and not isinstance(node.target, ast.Name)
    }
    found: list[Line] = []
    for node in nodes.values():
        opnames = list(_between(source, name, node))
        assert opnames, f"{name}:{node.lineno} has no bytecode"
        switches = tuple(each for each in opnames if each.startswith(_SWITCHES))
        found.append(Line(ast.unparse(node.target), f"{name}:{node.lineno}", switches))
    return found


def _between(source: str, name: str, node: ast.AugAssign) -> Iterator[str]:
    """The instructions of *node*, from the first read of its target to the write."""
    inside = False
    for code in _codes(compile(source, name, "exec")):
        for instruction in dis.get_instructions(code):
            at = instruction.positions
            if at is None or at.lineno is None or at.end_lineno is None:
                continue
            start, end = (at.lineno, at.col_offset), (at.end_lineno, at.end_col_offset)
            first = (node.lineno, node.col_offset)
            last = (node.end_lineno, node.end_col_offset)
            if not (first <= start and end <= last):  # type: ignore[operator]  # columns are there
                continue
            if instruction.opname.startswith("RESUME"):
                inside = True
            inside = inside or instruction.opname.startswith(("LOAD_ATTR", "BINARY_SUBSCR"))
            if inside:
                yield instruction.opname
            if instruction.opname in {"STORE_ATTR", "STORE_SUBSCR"}:
                return


def module_lines() -> list[Line]:
    """All of them in the modules whose objects threads share."""
    return [
        line
        for module in MODULES
        for line in lines_of(Path(str(module.__file__)).read_text("utf-8"), module.__name__)
    ]


def hidden_calls() -> list[str]:
    """Documented counters whose read or write would run Python code."""
    return [
        f"{owner.__name__}.{name}"
        for name, owner in DOCUMENTED.items()
        if not isinstance(getattr(owner, name), types.MemberDescriptorType)
        or owner.__setattr__ is not object.__setattr__
    ]


_CONTROLS = """
def called(counter, more):
    counter.successes += more()

def looped(counter):
    counter.successes += [each for each in range(9) if each][0]

async def awaited(counter, more):
    counter.successes += await more
"""


def controls() -> list[Line]:
    """Lines that must be refused."""
    return lines_of(_CONTROLS, "control")
