"""
Law 15 in the bytecode: the shared counters are read, added to and written without a place to switch threads between.

CPython hands the GIL over, and runs signal handlers and the collector, only at calls, at the start of functions and at
backward jumps. This holds for the Python that runs the test; all supported ones run it.
"""

from __future__ import annotations

import dis
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resilience import budgets
from resilience.core import budget, circuit, generations, windows
from resilience.policies import (
    _breaker_core,
    _retrying,
    chaos,
    circuit_breaker,
    last_good,
    single_flight,
)

SWITCHES = (
    "CALL",
    "PRECALL",
    "RESUME",
    "JUMP_BACKWARD",
    "SEND",
    "YIELD",
    "FOR_ITER",
    "INSTRUMENTED",
)

# Written by several threads without a lock; core/circuit's docstring lists the kinds.
SHARED = {
    "successes": (circuit_breaker, circuit, generations, _retrying, budgets, budget),
    "others": (generations,),
    "failures": (generations, circuit),
    "ignored": (circuit,),
    "slow": (circuit,),
    "rejected": (circuit, _breaker_core),
    "asleep": (budget,),
    "spent": (budget,),
    "refused": (budget,),
    "good": (circuit,),
    "kept": (last_good,),
    "served": (last_good,),
    "missed": (last_good,),
    "started": (single_flight,),
    "joined": (single_flight,),
    "abandoned": (single_flight,),
    "calls": (chaos,),
    "injected": (chaos,),
    "_hits_sum": (windows,),
    "_others_sum": (windows,),
}


def codes(module: types.ModuleType) -> Iterator[types.CodeType]:
    """Every code object of a module's source."""
    source = Path(module.__file__ or "").read_text(encoding="utf-8")
    stack = [compile(source, module.__name__, "exec")]
    while stack:
        code = stack.pop()
        yield code
        stack.extend(each for each in code.co_consts if isinstance(each, types.CodeType))


def additions(code: types.CodeType, name: str) -> Iterator[list[str]]:
    """
    The instructions from the read to the write of each ``x.name += y`` in *code*.
    """
    instructions = list(dis.get_instructions(code))
    for place, instruction in enumerate(instructions):
        if instruction.opname != "STORE_ATTR" or instruction.argval != name:
            continue
        start = next(
            (
                before
                for before in range(place - 1, -1, -1)
                if instructions[before].opname == "LOAD_ATTR"
                and instructions[before].argval == name
            ),
            None,
        )
        between = instructions[start or 0 : place + 1]
        adds = [each for each in between if each.opname == "BINARY_OP" and "=" in each.argrepr]
        if start is not None and adds:
            yield [each.opname for each in between]


def switches(opnames: list[str]) -> list[str]:
    return [name for name in opnames if name.startswith(SWITCHES)]


@pytest.mark.parametrize(
    ("name", "module"),
    [(name, module) for name, modules in SHARED.items() for module in modules],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_shared_counter_is_added_to_in_a_straight_line(name, module):
    """
    Law 15: between the read and the write of each `+=` on a shared counter no thread can be switched.
    """
    found = [line for code in codes(module) for line in additions(code, name)]
    assert found, f"{module.__name__} adds to no {name}: the list above is out of date"
    assert [] == [switches(line) for line in found if switches(line)]


def with_a_call(counter, more: Callable[[], int]) -> None:
    counter.successes += more()


def with_a_loop(counter) -> None:
    counter.successes += sum(number for number in range(3))


@pytest.mark.parametrize("control", [with_a_call, with_a_loop])
def test_the_reader_sees_a_call_between(control):
    """
    Law 15, trap 6: the control, which loses counts, is told from the straight line.
    """
    (line,) = additions(control.__code__, "successes")
    assert switches(line)


def test_a_watched_call_leaves_its_register_in_a_straight_line():
    """
    Laws 15 and 18: from the look at whether anybody is late to the count of the success nobody comes between.
    """
    (watched,) = (each for each in codes(circuit_breaker) if each.co_name == "watched")
    names = [(each.opname, each.argval) for each in dis.get_instructions(watched)]
    leaving = names.index(("DELETE_SUBSCR", None))
    look = max(place for place, each in enumerate(names[:leaving]) if each == ("LOAD_ATTR", "due"))
    counted = names.index(("STORE_ATTR", "successes"))
    assert look < leaving < counted
    assert [] == switches([opname for opname, _ in names[look : counted + 1]])


def test_a_watched_call_takes_its_number_in_a_straight_line():
    """
    Laws 15 and 18: no two calls have one number.
    """
    (watched,) = (each for each in codes(circuit_breaker) if each.co_name == "watched")
    names = [(each.opname, each.argval) for each in dis.get_instructions(watched)]
    read, written = names.index(("LOAD_ATTR", "entered")), names.index(("STORE_ATTR", "entered"))
    assert read < written
    assert [] == switches([opname for opname, _ in names[read : written + 1]])
