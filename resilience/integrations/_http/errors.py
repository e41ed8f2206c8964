"""
Errors that are ours and the client's at once.

Code around a client catches what that client raises. A rejection that only we know would pass it by; one that only the
client knows would hide why and for how long. So a rejection leaves an adapter as an instance of a class that derives
from both, and that keeps our attributes. The class is made when it is first needed, and found again by what it joins:
that is how it is pickled.
"""

from __future__ import annotations

from typing import Any

from resilience.errors import ResilienceError

__all__ = ["joined"]


def joined(error: ResilienceError, client: type[Exception], blank: dict[str, Any]) -> Exception:
    """
    *error* once more, as an instance of its own class and of *client*.

    Args:
        error: Ours.
        client: The client's class, whose constructor is not run.
        blank: Attributes that the constructor would have set.
    """
    return _revive(type(error), client, error.args, blank | error.__dict__).with_traceback(
        error.__traceback__
    )


_made: dict[tuple[type, type], type[Exception]] = {}


def _class_of(ours: type[ResilienceError], client: type[Exception]) -> type[Exception]:
    """One class for each pair, whoever asks first."""
    made = _made.get((ours, client))
    return _made.setdefault((ours, client), _joining(ours, client)) if made is None else made


def _joining(ours: type[ResilienceError], client: type[Exception]) -> type[Exception]:
    def reduce(self: Exception) -> tuple[Any, ...]:
        return _revive, (ours, client, self.args, self.__dict__.copy())

    text = f"`{ours.__name__}` that is also a ``{client.__module__}.{client.__name__}``."
    return type(
        ours.__name__,
        (ours, client),
        {"__doc__": text, "__module__": ours.__module__, "__reduce__": reduce},
    )


def _revive(
    ours: type[ResilienceError],
    client: type[Exception],
    args: tuple[Any, ...],
    state: dict[str, Any],
) -> Exception:
    made = _class_of(ours, client)
    error = made.__new__(made, *args)
    error.args = args
    error.__dict__.update(state)
    return error
