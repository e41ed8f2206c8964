"""
Functions with another function's signature, written as text and compiled once for each; what they know of a guard.

Why text: a parameter list that is written out costs a third less than ``*args, **kwargs``, and an argument that does
not fit is refused as the function itself would refuse it. In the texts ``$`` stands for `LANE`.
"""

from __future__ import annotations

import inspect
import itertools
import linecache
import math
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias, final

from resilience.call import Call, Step, new_call
from resilience.modes import MODES

__all__ = [
    "ANY",
    "CALLEE",
    "LANE",
    "AsyncFunction",
    "Laned",
    "Part",
    "Signature",
    "door",
    "function",
    "like",
    "signature_of",
]

LANE = "\u01c0"
"""The prefix of every name that is not the callee's: a letter that looks like a pipe."""

AsyncFunction: TypeAlias = Callable[..., Any]

_UNPREFIXED = frozenset({"BaseException", "Exception", "KeyError", "isinstance"})
"""The builtins that the texts name."""

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
class Part(NamedTuple):
    """
    What a policy has in the lane.

    Attributes:
        role: Which of those in `resilience._express`.
        objects: What its texts name.
        sees_arguments: It shows a call's arguments to a user's function, which must find them as they were passed.
        lets_pass: A rejection from inside passes it as it is.
    """

    role: str
    objects: Mapping[str, Any] = types.MappingProxyType({})
    sees_arguments: bool = False
    lets_pass: bool = False

    def clocks(self) -> list[Any]:
        """Those it reads."""
        return [self.objects[each] for each in ("clock", "ticks") if each in self.objects]


@final
class Laned(NamedTuple):
    """
    A guard as a front sees it.

    Attributes:
        guard, step, key: The guard, its steps, its key or None.
        parts: One for every policy, outermost first; None where one of them has none.
        switched: What runs a step and a call for it while something is switched.
    """

    guard: Any
    step: Step
    key: Any
    parts: tuple[Part, ...] | None
    switched: AsyncFunction

    def begins(self) -> bool:
        """Whether what is wrapped now has a lane."""
        return self.parts is not None and MODES.engine.get() == "express"

    def call_of(self, *callee: Any) -> Call:
        """A call of this guard."""
        call = new_call(*callee)
        if self.key is not None:
            call.key_of = self.key
        return call


@final
class Signature(NamedTuple):
    """
    What a text is filled with.

    Attributes:
        key: By which it is known.
        parameters: As they are written.
        arguments: What passes them on to the callee.
        leaving: The same for a function with the same parameters.
        packed: The same as a tuple and a dict.
    """

    key: object
    parameters: str
    arguments: str
    leaving: str
    packed: str


ANY = Signature(
    "any", "*$args, **$kwargs", "*$args, **$kwargs", "*$args, **$kwargs", "$args, $kwargs"
)
CALLEE = ANY._replace(
    key="callee",
    parameters="$guard, $fn, /, *$args, **$kwargs",
    leaving="$guard, $fn, *$args, **$kwargs",
)
_KNOWN: dict[object, Signature] = {}
_NUMBERS = itertools.count(1)
_MADE: dict[object, Callable[..., AsyncFunction]] = {}


def signature_of(fn: object) -> Signature:
    """
    The parameters of a function or method written out; `ANY` for other callables.

    Those can tell an argument that was passed from a default.
    """
    plain, first = _plain(fn)
    if plain is None:
        return ANY
    code = plain.__code__
    stars = code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + stars.bit_count()]
    key = (
        first, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, stars, names
    )  # fmt: skip
    known = _KNOWN.get(key)
    if known is None:
        known = ANY
        ours = any(each.startswith(LANE) or each in _UNPREFIXED for each in names)
        if code.co_argcount >= first and not ours:
            known = _written(key, code, first)
        _KNOWN[key] = known
    return known


def _plain(fn: object) -> tuple[types.FunctionType | None, int]:
    """The function as it was defined, and how many of its parameters are bound."""
    first = 0
    if isinstance(fn, types.MethodType):
        fn, first = fn.__func__, 1
    return (fn if isinstance(fn, types.FunctionType) else None), first


def _written(key: object, code: types.CodeType, first: int) -> Signature:
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
    return Signature(key, ", ".join(parameters), passed, passed, packed)


def function(key: object, write: Callable[[], str], objects: Mapping[str, Any]) -> AsyncFunction:
    """What the text of this *key* makes of these objects."""
    make = _MADE.get(key)
    if make is None:
        lines = [f"def make({', '.join(f'${each}' for each in objects)}):", *write().splitlines()]
        text = "".join(f"{line}\n" for line in lines if line.strip()).replace("$", LANE)
        file = f"<resilience express {next(_NUMBERS)}>"
        # Without a time of modification the entry stays; debuggers and tracebacks show the text.
        linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
        namespace: dict[str, Any] = {}
        exec(compile(text, file, "exec"), namespace)  # noqa: S102 - our own texts and names of parameters
        make = _MADE[key] = namespace["make"]
    return make(*objects.values())


def like(fn: object, made: AsyncFunction, signature: Signature) -> AsyncFunction:
    """*made*, with the defaults of *fn*."""
    plain, _ = _plain(fn)
    if signature is not ANY and plain is not None:
        made.__defaults__, made.__kwdefaults__ = plain.__defaults__, plain.__kwdefaults__
    return made


def door(  # noqa: PLR0917 - called in one place
    guard: Any,
    step: Step,
    key: Any,
    fn: AsyncFunction,
    signature: Signature,
    switched: AsyncFunction,
) -> AsyncFunction:
    """
    *fn* through the linked steps.

    Args:
        switched: What runs a step and a call for *guard* while something is switched for the process or the context.
    """
    made = function(
        ("door", signature.key),
        lambda: _DOOR.format(signature=signature),
        {
            "fn": fn, "step": step, "key": key, "guard": guard, "switched": switched,
            "modes": MODES, "Call": Call, "inf": math.inf,
        },
    )  # fmt: skip
    return like(fn, made, signature)
