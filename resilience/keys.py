"""
Which calls are the same one, for policies that keep or share an answer.

Why not by the pipeline's key alone: one policy may guard several functions, and the answer of one must never be given
to a call of another. Why types count: ``1``, ``1.0`` and ``True`` are equal, and what they ask for is not.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final, final

from resilience.call import Call
from resilience.events import hook_failed

__all__ = ["NO_KEY", "key_of"]


@final
class _NoKey:
    """In the place of a key: this call is like no other."""


NO_KEY: Final = _NoKey()


def key_of(call: Call, given: Any, owner: str) -> Hashable:
    """
    What this call has in common with those that are the same one; `NO_KEY` if that cannot be told.

    Args:
        call: The call.
        given: The policy's ``key``: a function of the call's arguments, a value, or None: the pipeline's key together
            with the callee, and without one the callee and its arguments.
        owner: The policy's class, for the log: a key that raises or cannot be hashed is logged once.
    """
    try:
        if given is not None:
            found = given(*call.args, **call.kwargs) if callable(given) else given
        else:
            fn = call.callee or call.fn
            if call.key_of is not None:
                found = fn, call.key
            elif call.kwargs:
                values = call.kwargs.values()
                found = (
                    fn,
                    call.args,
                    tuple(map(type, call.args)),
                    frozenset(zip(call.kwargs, values, map(type, values), strict=True)),
                )
            else:
                found = fn, call.args, tuple(map(type, call.args))
        hash(found)
    except Exception as error:  # noqa: BLE001 - law 6: the user's key must not become the call's error
        hook_failed(f"{owner}.key", given if callable(given) else call.fn, error)
        return NO_KEY
    return found  # type: ignore[no-any-return]
