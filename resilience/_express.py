"""
The express lane: one generated frame in the place of a step per policy, for calls that succeed at the first attempt.

Why generated: a frame of its own costs a policy more than its work does. Where every policy of a guard has a `Part`,
one coroutine function with the callee's signature is written (`_fronts`) in which their happy paths stand in a row.
Nothing awaits there but the callee, so the order of what comes before it cannot be told.

Why no rule stands here: whatever is not a plain success leaves for the linked steps. Before anything was taken, by a
look at what the policies hold (an open circuit, a full bulkhead, another loop): the linked function is called instead.
After the callee has failed, by `resumed`: the linked steps run, each takes over what the lane took for it instead of
asking again, and the callee they enter ends at once as the real one just did.

In the texts ``$`` stands for a prefix that no parameter has, ``@`` for the number of the part.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, final

from resilience._failures import RETRIES, failure
from resilience._fronts import (
    ANY,
    CALLEE,
    LANE,
    AsyncFunction,
    Laned,
    Signature,
    door,
    function,
    like,
    signature_of,
)  # fmt: skip
from resilience.call import handed, resumed, through
from resilience.here import running_loop, task_of
from resilience.modes import MODES

__all__ = ["HELD", "front", "runner"]

HELD = f"{LANE}held"
"""What a frame of the lane holds places of is in variables whose names begin so."""


@final
class _Role(NamedTuple):
    """
    The texts of a role.

    ``look`` leaves where the linked steps have to see to it; ``take`` may, after the ``undo`` of the parts before.
    ``done`` follows a success. The linked step takes over ``taken``.
    """

    look: str = ""
    take: str = ""
    undo: str = ""
    done: str = ""
    taken: str = "True"


_BEGUN = "$started@ = $clock@.now() if $retrying@.timed else $untimed@"
_CLOSED = """\
if ($generation@ := $circuit@.current).lane != KIND:
    TURN
    LEAVE"""
_TURN = """\
if ($error := $turn_away@($generation@)) is not None:
        FORGET
        try:
            raise $error
        finally:
            del $error"""
_ROLES: dict[str, _Role] = {
    "deadline": _Role(
        look="""\
if ($wheel@ := $wheels@.latest()) is None or $wheel@.loop is not $loop:
    $wheel@ = $wheels@.of($loop)
$entries@ = $wheel@.entries""",
        take="""\
$entries@[$task] = $now + $seconds@
if $wheel@.timer is None:
    $wheel@.arm($now + $seconds@)""",
        done="""\
try:
    del $entries@[$task]
except KeyError:  # cut off, which the callee has swallowed: its result beats the deadline
    $wheel@.swallowed($task)""",
        taken="($wheel@, $task, OUTER)",
    ),
    "retry": _Role(take=_BEGUN, taken="($started@, None)"),
    "retry with a budget": _Role(
        take=_BEGUN,
        done="""\
if ($slot := $ledger@.current).successes >= $slot.edge:
    $slot = $ledger@.turn($ticks@.now())
$slot.successes += 1""",
        taken="($started@, None)",
    ),
    "breaker": _Role(
        look=_CLOSED.replace("KIND", "1"), done="$generation@.successes += 1", taken="$generation@"
    ),
    "breaker in time": _Role(
        look=_CLOSED.replace("KIND", "2"),
        done="""\
if ($moment := $clock@.now()) >= $generation@.edge:
    $generation@.roll($moment)
$generation@.successes += 1""",
        taken="$generation@",
    ),
    "watching breaker": _Role(
        look=_CLOSED.replace("KIND", "3"),
        take="""\
if ($entered@ := $clock@.now()) >= $generation@.due:
    LEAVE
$key@ = $generation@.entered = $generation@.entered + 1
$running@ = $generation@.running
$running@[$key@] = $entered@""",
        undo="$generation@.forget($key@, $entered@)",
        done="""\
if ($moment := $clock@.now()) < $generation@.due and $key@ in $running@:
    del $running@[$key@]
    $generation@.successes += 1
else:
    $circuit@.settle($generation@.ticket_of($key@, $entered@), $success@, $moment)""",
        taken="($generation@, $key@, $entered@)",
    ),
    "places": _Role(
        take="""\
$places@.taken += $weight@ * ($free := not $places@.waiting and $places@.taken + $weight@ <= $places@.limit)
if not $free:
    LEAVE
$held@ = $places@""",
        undo="$places@.give($weight@)",
        done="""\
$places@.taken -= $weight@
if $places@.waiting:
    $places@.advance()""",
    ),
    "tokens": _Role(
        take="if not $bucket@.take($weight@, $clock@.now()):\n    LEAVE",
        undo="$bucket@.at -= $weight@",
    ),
    "load": _Role(
        look="""\
if $clock@.now() >= $load@.edge or ($asked := $load@.requests) >= $minimum@ and $asked > $k@ * $load@.accepts:
    LEAVE""",
        done="$load@.count($level@, accepted=True)",
    ),
    "flight": _Role(
        take="if not $places@.take():\n    LEAVE\n$flight@ = $places@.taken, $clock@.now()",
        undo="$places@.give()",
        done="$succeeded@(*$flight@)",
        taken="$flight@",
    ),
}
_HERE = """\
$loop = $running_loop()
if $loop is None or ($task := $task_of($loop)) is None:
    ELSEWHERE
if $task.cancelling():
    LEAVE"""
_ON_TRIO = """\
$call = $call_of($fn, PACKED)
            try:
                return await $on_trio0($call)
            except BaseException:
                if $call.parked is not None:
                    $call.settle_parked(cut=False)
                raise"""
_AGAIN = "if $task in $entries@ or $wheel@.cut:\n    LEAVE"  # of the deadlines the first is the last to end
_FRAME = """
    async def guarded({signature.parameters}):
        if $modes.in_use:
            LEAVE
{before}
        try:
            $result = await $fn({signature.arguments})
        except BaseException as $error:
{failed}
        else:
{after}
            return $result
        return await $through($step, $call)
    return guarded
"""


def front(laned: Laned, fn: AsyncFunction) -> AsyncFunction:
    """A coroutine function with *fn*'s signature that runs it through the guard, on the engine of this context."""
    parts = laned.parts
    seen = parts is None or laned.key is not None or any(part.sees_arguments for part in parts)
    signature = ANY if seen else signature_of(fn)
    linked = door(laned.guard, laned.step, laned.key, fn, signature, laned.switched)
    if not laned.begins():
        return linked
    return like(fn, _lane(laned, linked, signature, {"fn": fn}), signature)


def runner(laned: Laned, linked: AsyncFunction) -> AsyncFunction:
    """
    The lane for any callee: ``runner(guard, fn, *args, **kwargs)``; *linked* is the same on the linked engine.

    It does not hold the guard, which holds it.
    """
    return _lane(laned._replace(guard=None), linked, CALLEE, {})


def _lane(
    laned: Laned, linked: AsyncFunction, signature: Signature, objects: dict[str, Any]
) -> AsyncFunction:
    parts = laned.parts or ()
    roles = tuple(part.role for part in parts)
    # Until the first of the others a rejection is the call's own end, and need not go round by the steps.
    turning = next((each for each, part in enumerate(parts) if not part.lets_pass), len(parts))
    objects |= {
        "modes": MODES, "linked": linked, "step": laned.step, "call_of": laned.call_of, "resumed": resumed,
        "handed": handed, "through": through, "inf": math.inf, "running_loop": running_loop, "task_of": task_of,
    }  # fmt: skip
    for number, part in enumerate(parts):
        objects |= {f"{name}{number}": value for name, value in part.objects.items()}
    return function(
        (roles, turning, signature.key), lambda: _text(roles, turning, signature), objects
    )


def _text(names: Sequence[str], turning: int, signature: Signature) -> str:
    """The lane of these roles, outermost first; number *turning* may turn away by itself."""
    roles = [
        _Role(*(text.replace("@", str(number)) for text in _ROLES[name]))
        for number, name in enumerate(names)
    ]
    deadlines = [number for number, name in enumerate(names) if name == "deadline"]
    before = [_HERE] if deadlines else []
    # On trio nothing is left to decide where the first step is a scope.
    on_trio = _ON_TRIO.replace("PACKED", signature.packed)
    elsewhere = on_trio if deadlines[:1] == [0] else "LEAVE"
    for number, role in enumerate(roles):
        turn = _TURN.replace("@", str(number)) if number == turning else ""
        before.append(role.look.replace("TURN", turn))
    before += [_AGAIN.replace("@", str(number)) for number in deadlines[:1]]
    undo: list[str] = []
    for number, role in enumerate(roles):
        if number not in deadlines:
            before.append(role.take.replace("LEAVE", "\n    ".join([*undo, "LEAVE"])))
            undo = [role.undo, *undo] if role.undo else undo
    # The deadlines come last: from there on nothing leaves, and there is nothing to take back.
    before += [f"$now = $wheel{number}.now()" for number in deadlines[:1]]
    before += [roles[number].take for number in deadlines]
    outer, goes_on, taken = "$inf", "", list[str]()
    call = f"$call_of($fn, {signature.packed})"
    for number, role in enumerate(roles):
        if names[number] in RETRIES:
            lane = [outer, f"($started{number}, $error)", *reversed(taken)]
            goes_on = f"$call = $handed({call}, [{', '.join(lane)}]); $task = None"
        taken.append(role.taken.replace("OUTER", outer))
        outer = f"$now + $seconds{number}" if number in deadlines else outer
    forget = "".join(
        f"${name}{number} = "
        for number, role in enumerate(roles)
        for name in ("held", "generation")
        if f"${name}" in role.look + role.take
    )
    if deadlines:
        forget += "$task = "
    linked = (
        f"$call = $resumed({call}, $error, [{', '.join([outer, *reversed(taken)])}])\n{forget}None"
    )
    text = _FRAME.format(
        signature=signature,
        before=_indented(before, 8),
        failed=_indented([failure(names, goes_on, linked)], 12),
        after=_indented((role.done for role in reversed(roles)), 12),
    )
    text = text.replace("ELSEWHERE", elsewhere)
    # Who keeps an error keeps this frame: it must not look like a call in flight, nor keep the task that ended with it.
    text = text.replace("FORGET", f"{forget}None")
    leave = f"{forget}None; " if forget else ""
    return text.replace("LEAVE", f"{leave}return await $linked({signature.leaving})")


def _indented(texts: Iterable[str], depth: int) -> str:
    return "\n".join(" " * depth + line for text in texts for line in text.splitlines())
