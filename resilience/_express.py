"""
The express lane: one generated frame in the place of a step per policy, for calls that succeed at the first attempt.

Why generated: a frame of its own costs a policy more than its work does. Where every policy of a guard has a `Part`
here, `front` writes one coroutine function with the callee's signature in which their happy paths stand in a row, and
compiles it once for each (shape, signature). Nothing awaits but the callee, so the order of what happens before it
cannot be told.

Why no rule stands here: whatever is not a plain success leaves for the linked steps. Before anything was taken, by a
look at what the policies hold (an open circuit, a full bulkhead, another loop): the linked function is called instead.
After the callee has failed, by `resumed`: the linked steps run, each takes over what the lane took for it instead of
asking again, and the callee they enter is one that fails as the real one just did.

In the texts ``$`` stands for a prefix that no parameter has, ``@`` for the number of the part.
"""

from __future__ import annotations

import inspect
import itertools
import linecache
import math
import types
from asyncio import current_task
from asyncio.events import _get_running_loop as running_loop
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, final

from resilience.call import Call, Step, new_call
from resilience.modes import MODES

__all__ = ["HELD", "LANE", "Laned", "Part", "front", "parts_of_all", "runner"]

LANE = "\u01c0"
"""The prefix: a letter that looks like a pipe."""
HELD = f"{LANE}held"
"""What a frame of the lane holds places of is in variables whose names begin so."""

AsyncFunction: TypeAlias = Callable[..., Any]


@final
class Part(NamedTuple):
    """
    What a policy has in the lane.

    Attributes:
        role: Which of `_ROLES`.
        objects: What its texts name.
        seconds: Of a deadline; those that cannot be the first to pass are left out.
        sees_arguments: The policy shows a call's arguments to a user's function, which must find them as they were
            passed.
    """

    role: str
    objects: Mapping[str, Any] = types.MappingProxyType({})
    seconds: float = math.inf
    sees_arguments: bool = False


@final
class _Role(NamedTuple):
    """
    Its texts: ``look`` is true where the linked steps have to see to it; ``take`` may leave as well, and then what
    the parts before took is undone; ``undo``; ``done`` after a success; ``token`` is what the linked step takes over.
    """

    look: str = ""
    take: str = ""
    undo: str = ""
    done: str = ""
    token: str = "True"  # noqa: S105 - no secret


_STARTED = """
if $retrying@.timed:
    $started@ = $clock@.now()
else:
    $started@ = $untimed@
"""
_LEAVES_OPEN = """
if ($generation@ := $circuit@.current).lane != KIND:
    LEAVE
"""
_ROLES: dict[str, _Role] = {
    "deadline": _Role(
        look="""
if ($wheel@ := $wheels@.latest()) is None or $wheel@.loop is not $loop:
    $wheel@ = $wheels@.of($loop)
if $task in ($entries@ := $wheel@.entries):
    LEAVE
""",
        take="""
$entries@[$task] = $now + $seconds@
if $wheel@.timer is None:
    $wheel@.arm($now + $seconds@)
""",
        done="""
try:
    del $entries@[$task]
except KeyError:  # cut off, which the callee has swallowed: its result beats the deadline
    $uncancel@($task, 0)
""",
        token="($entries@, $task, OUTER)",
    ),
    "passed deadline": _Role(token="None"),
    "retry": _Role(take=_STARTED, token="$started@"),
    "retry with a budget": _Role(
        take=_STARTED,
        done="""
if ($slot := $ledger@.current).successes >= $slot.edge:
    $slot = $ledger@.turn($ticks@.now())
$slot.successes += 1
""",
        token="$started@",
    ),
    "breaker": _Role(
        look=_LEAVES_OPEN.replace("KIND", "1"),
        done="$generation@.successes += 1",
        token="$generation@",
    ),
    "breaker in time": _Role(
        look=_LEAVES_OPEN.replace("KIND", "2"),
        done="""
if ($moment := $clock@.now()) >= $generation@.edge:
    $generation@.roll($moment)
$generation@.successes += 1
""",
        token="$generation@",
    ),
    "places": _Role(
        take="""
$places@.taken += $weight@ * ($free := not $places@.waiting and $places@.taken + $weight@ <= $places@.limit)
if not $free:
    LEAVE
$held@ = $places@
""",
        undo="$places@.give($weight@)",
        done="""
$places@.taken -= $weight@
if $places@.waiting:
    $places@.advance()
""",
    ),
    "tokens": _Role(
        take="""
if not $bucket@.take($weight@, $clock@.now()):
    LEAVE
""",
        undo="$bucket@.at -= $weight@",
    ),
    "load": _Role(
        look="""
if $clock@.now() >= $load@.edge or ($asked := $load@.requests) >= $minimum@ and $asked > $k@ * $load@.accepts:
    LEAVE
""",
        done="$load@.count($level@, accepted=True)",
    ),
    "flight": _Role(
        take="""
if not $places@.take():
    LEAVE
$flight@ = $places@.taken, $clock@.now()
""",
        undo="$places@.give()",
        done="$succeeded@(*$flight@)",
        token="$flight@",
    ),
}
_HERE = """
$loop = $running_loop()
if $loop is None or ($task := $current_task($loop)) is None or $task.cancelling():
    LEAVE
"""
_LANE = """
    async def guarded({signature.parameters}):
        if $modes.in_use:
            LEAVE
{looks}
{takes}
        try:
            $result = await $fn({signature.arguments})
        except BaseException as $error:
            $call = $resumed($key, $fn, {signature.packed}, $error, [{tokens}])
            {forget}
        else:
{dones}
            return $result
        return await $through($step, $call)
    return guarded
"""
_DOOR = """
    async def guarded({signature.parameters}):
        $call = $Call()
        $call.fn = $fn
        $call.args, $call.kwargs = {signature.packed}
        $call.entered = 0
        $call.until = $inf
        if $key is not None:
            $call.key_of = $key
        if $modes.in_use:
            return await $switched($step, $call, $guard)
        try:
            return await $step($call)
        except BaseException:
            if $call.parked is not None:
                $call.settle_parked(cut=False)
            raise
    return guarded
"""


@final
class Laned(NamedTuple):
    """
    A guard as a front sees it.

    Attributes:
        guard, step, key: The guard, its steps, and its key or None.
        parts: One for every policy, outermost first; None where one of them has none.
        switched: What runs a step and a call while something is switched for the process or the context.
    """

    guard: Any
    step: Step
    key: Any
    parts: tuple[Part, ...] | None
    switched: AsyncFunction

    def begins(self) -> bool:
        """Whether the lane is to be used, for what is wrapped now."""
        return self.parts is not None and MODES.engine.get() == "express"


# ------------------------------------------------------------------------- leaving


@final
class _Replay:
    """In the place of the callee, once: it ends as the callee has just ended."""

    __slots__ = ("_call", "_error", "_fn")

    def __init__(self, call: Call, fn: AsyncFunction, error: BaseException) -> None:
        self._call = call
        self._fn = fn
        self._error: BaseException | None = error

    def __call__(self, *_: Any, **__: Any) -> Any:
        self._call.fn = self._fn
        error, self._error = self._error, None
        assert error is not None
        context = error.__context__
        try:
            raise error
        finally:
            # What is handled around the guarded call would take the place of the error's own context.
            error.__context__ = context
            del error, context


def resumed(
    key: Any,
    fn: AsyncFunction,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    error: BaseException,
    taken: list[Any],
) -> Call:
    """The call that the linked steps go on with. *taken*: see `Call.resume`."""
    call = new_call(fn, args, kwargs)
    if key is not None:
        call.key_of = key
    call.callee = fn
    call.fn = _Replay(call, fn, error)
    call.resume(taken)
    return call


async def through(step: Step, call: Call) -> Any:
    """Run the steps as a door does."""
    try:
        return await step(call)
    except BaseException:
        if call.parked is not None:
            call.settle_parked(cut=False)
        raise


# ------------------------------------------------------------------------- writing


@final
class _Signature(NamedTuple):
    """What a text is filled with: parameters, the arguments that pass them on, the same as a tuple and a dict."""

    parameters: str
    arguments: str
    packed: str
    leaving: str


_ANY = _Signature("*$args, **$kwargs", "*$args, **$kwargs", "$args, $kwargs", "*$args, **$kwargs")
_CALLEE = _ANY._replace(
    parameters="$guard, $fn, /, *$args, **$kwargs", leaving="$guard, $fn, *$args, **$kwargs"
)
_NUMBERS = itertools.count(1)
_MADE: dict[object, Callable[..., AsyncFunction]] = {}


def _signature_of(code: types.CodeType, first: int) -> _Signature:
    """As the function is written, from its *first* parameter on."""
    count, named = code.co_argcount, code.co_kwonlyargcount
    positional, keywords = code.co_varnames[first:count], code.co_varnames[count : count + named]
    rest = list(code.co_varnames[count + named :])
    parameters, arguments = [*positional], [*positional]
    if code.co_posonlyargcount > first:
        parameters.insert(code.co_posonlyargcount - first, "/")
    values = [f"{each}," for each in positional]
    if code.co_flags & inspect.CO_VARARGS:
        star = f"*{rest.pop(0)}"
        parameters.append(star)
        arguments.append(star)
        values.append(f"{star},")
    elif keywords:
        parameters.append("*")
    parameters += keywords
    arguments += [f"{each}={each}" for each in keywords]
    options = [f'"{each}": {each}' for each in keywords]
    if code.co_flags & inspect.CO_VARKEYWORDS:
        star = f"**{rest.pop(0)}"
        for part in (parameters, arguments, options):
            part.append(star)
    passed = ", ".join(arguments)
    packed = f"({' '.join(values)}), {{{', '.join(options)}}}"
    return _Signature(", ".join(parameters), passed, packed, passed)


def _indented(texts: Iterable[str], depth: int) -> str:
    lines = (line for text in texts for line in text.splitlines())
    return "\n".join(" " * depth + line for line in lines if line)


def _lane(roles: Sequence[str], signature: _Signature) -> str:
    """The lane of these roles, outermost first."""
    looks, takes, starts, dones, tokens, undo, held = [], [], [], [], [], [], []
    outer = "$inf"
    for number, name in enumerate(roles):
        look, take, back, done, token = (each.replace("@", str(number)) for each in _ROLES[name])
        looks.append(look)
        # The deadlines come last: from there on nothing leaves, and there is nothing to take back.
        late = starts if name == "deadline" else takes
        late.append(take.replace("LEAVE", "\n    ".join([*reversed(undo), "LEAVE"])))
        dones.insert(0, done)
        tokens.insert(0, token.replace("OUTER", outer))
        if name == "deadline":
            if outer == "$inf":
                looks.insert(0, _HERE)
                starts.insert(0, f"$now = $wheel{number}.now()")
            outer = f"$now + $seconds{number}"
        if back:
            undo.append(back)
        if "$held" in take:
            held.append(f"$held{number} = ")
    return _LANE.format(
        signature=signature,
        looks=_indented(looks, 8),
        takes=_indented([*takes, *starts], 8),
        dones=_indented(dones, 12),
        tokens=", ".join([outer, *tokens]),
        forget="".join(held) + "None",
    )


def _function(key: object, write: Callable[[], str], objects: Mapping[str, Any]) -> AsyncFunction:
    """What the text of this *key* makes of these objects."""
    make = _MADE.get(key)
    if make is None:
        lines = [f"def make({', '.join(f'${each}' for each in objects)}):", *write().splitlines()]
        text = "".join(f"{line}\n" for line in lines if line.strip()).replace("$", LANE)
        file = f"<resilience express {next(_NUMBERS)}>"
        # Without a time of modification the entry stays; debuggers and tracebacks show the text.
        linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
        namespace: dict[str, Any] = {}
        exec(compile(text, file, "exec"), namespace)  # noqa: S102 - fixed texts, and names of parameters
        make = _MADE[key] = namespace["make"]
    return make(*objects.values())


def _roles(parts: Iterable[Part]) -> tuple[str, ...]:
    """Without the deadlines that cannot pass before one around them: those never begin."""
    first, roles = math.inf, []
    for part in parts:
        late = part.role == "deadline" and part.seconds >= first
        roles.append("passed deadline" if late else part.role)
        first = min(first, part.seconds)
    return tuple(roles)


def _lane_of(
    laned: Laned,
    door: AsyncFunction,
    shape: object,
    signature: Callable[[], _Signature],
    **objects: Any,
) -> AsyncFunction:
    parts = laned.parts or ()
    roles = _roles(parts)
    objects |= {
        "modes": MODES, "linked": door, "step": laned.step, "key": laned.key, "resumed": resumed,
        "through": through, "inf": math.inf, "running_loop": running_loop, "current_task": current_task,
    }  # fmt: skip
    for number, part in enumerate(parts):
        objects |= {f"{name}{number}": value for name, value in part.objects.items()}

    def text() -> str:
        filled = signature()
        return _lane(roles, filled).replace("LEAVE", f"return await $linked({filled.leaving})")

    return _function((roles, shape), text, objects)


def parts_of_all(linked: Sequence[Part | None], count: int) -> tuple[Part, ...] | None:
    """Of policies that were linked from inside to outside, outermost first; None unless each of them has one."""
    parts = tuple(each for each in reversed(linked) if each is not None)
    return parts if len(parts) == len(linked) == count else None


def runner(laned: Laned, door: AsyncFunction) -> AsyncFunction:
    """
    The lane for any callee: ``runner(guard, fn, *args, **kwargs)``; *door* is the same on the linked engine.

    It does not hold the guard, which holds it.
    """
    return _lane_of(laned, door, "callee", lambda: _CALLEE)


def front(laned: Laned, fn: AsyncFunction) -> AsyncFunction:
    """A coroutine function with *fn*'s signature that runs it through the guard, on the engine of this context."""
    shape: object = "any"
    signature = lambda: _ANY  # noqa: E731 - one of two
    plain = fn.__func__ if (first := int(isinstance(fn, types.MethodType))) else fn
    exact = _is_exact(laned, plain, first)
    if exact:
        code = plain.__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + 2]
        shape = (
            first,
            code.co_argcount,
            code.co_posonlyargcount,
            code.co_kwonlyargcount,
            code.co_flags & 12,
            names,
        )
        signature = lambda: _signature_of(code, first)  # noqa: E731 - (as above)
    made = _function(
        ("door", shape),
        lambda: _DOOR.format(signature=signature()),
        {
            "fn": fn, "step": laned.step, "key": laned.key, "guard": laned.guard, "switched": laned.switched,
            "modes": MODES, "Call": Call, "inf": math.inf,
        },
    )  # fmt: skip
    lanes = [made]
    if laned.begins():
        lanes.append(_lane_of(laned, made, shape, signature, fn=fn))
    for each in lanes if exact else ():
        each.__defaults__, each.__kwdefaults__ = plain.__defaults__, plain.__kwdefaults__
    return lanes[-1]


def _is_exact(laned: Laned, fn: object, first: int) -> bool:
    """
    Whether the parameters may be written out.

    Other callables than functions can tell an argument that was passed from a default, and so can a user's function
    that is shown the arguments.
    """
    if (
        not isinstance(fn, types.FunctionType)
        or laned.parts is None
        or laned.key is not None
        or any(part.sees_arguments for part in laned.parts)
    ):
        return False
    code = fn.__code__
    return code.co_argcount >= first and not any(each.startswith(LANE) for each in code.co_varnames)
