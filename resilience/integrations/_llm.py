"""
What an error or a response of a language model says of it. No client is imported: status, headers, names of classes.
"""

from __future__ import annotations

import json
from typing import Any, final

from resilience.clock import PROCESS_CLOCK
from resilience.core.pushback import seconds_until
from resilience.errors import RejectedError, ResilienceError
from resilience.integrations._http.guard import pushback

__all__ = [
    "MANY",
    "UNAVAILABLE",
    "InvalidAnswerError",
    "is_empty",
    "is_failure",
    "is_retryable",
    "moves_on",
    "pause_of",
    "rejection_of",
    "status_of",
]

MANY, UNAVAILABLE = 429, 503
_RETRIED = frozenset({408, 409, MANY})
"""What the clients repeat by themselves, besides 500 and above."""
_DENIED = frozenset({401, 403, 404})
"""This key, or this model, is not to be had here; another one may."""
_ERRORS = {
    "anthropic": "APIError",
    "httpx": "TransportError",
    "httpx2": "TransportError",
    "openai": "APIError",
}
"""Library -> the class of its errors that the wire or the other side is to blame for, where they carry no status."""


@final
class InvalidAnswerError(ResilienceError):
    """
    A model answered, and the answer is worth nothing: empty, or refused by ``on_result``.

    Attributes:
        model: The model's name.
    """

    def __init__(self, model: str = "") -> None:
        super().__init__()
        self.model = model

    def __str__(self) -> str:
        return f"model {self.model!r} gave an answer that is empty or was refused"


def status_of(error: Exception) -> int | None:
    status = getattr(error, "status_code", None)
    if status is None:
        status = getattr(getattr(error, "response", None), "status_code", None)
    return status if type(status) is int else None


def _headers(error: Exception) -> Any:
    headers = getattr(getattr(error, "response", None), "headers", None)
    return headers if hasattr(headers, "get") else {}


def _from_a_client(error: Exception) -> bool:
    return any(
        _ERRORS.get(kind.__module__.partition(".")[0]) == kind.__name__
        for kind in type(error).__mro__
    )


def rejection_of(error: Exception) -> RejectedError | None:
    """What turned the request away before it was sent; clients wrap it in errors of their own."""
    if isinstance(error, RejectedError):
        return error
    cause = error.__cause__ if _from_a_client(error) else None
    return cause if isinstance(cause, RejectedError) else None


def is_failure(error: Exception) -> bool:
    """
    Whether an error tells that a model is in trouble: what its breaker counts.

    Those are lost connections, timeouts, 408, 409, 500 and above, answers that cannot be read or are worth nothing, and
    429 without a time to come back. A 429 that names one is none, nor are a key, a model or credit that is refused, and
    what the caller did wrong.
    """
    if rejection_of(error) is not None:
        return False
    if isinstance(
        error, InvalidAnswerError | TimeoutError | ConnectionError | json.JSONDecodeError
    ):
        return True
    status = status_of(error)
    if status is None:
        return _from_a_client(error)
    if status == MANY:
        return pause_of(error) is None and _is_for_now(error)
    # Below 400: the answer could not be read, or the error came in the stream.
    return status in _RETRIED or status >= 500 or status < 400  # noqa: PLR2004 - RFC 9110, 15


def is_retryable(error: Exception) -> bool:
    """Whether the same model may do better at once: a failure or a 429; ``x-should-retry`` knows better than both."""
    if rejection_of(error) is not None:
        return False
    said = _headers(error).get("x-should-retry")
    if said in {"true", "false"}:
        return bool(said == "true")
    return is_failure(error) or _is_for_now(error)


def moves_on(error: Exception) -> bool:
    """
    Whether another model may do better: failures, rate limits, and a key or model that is refused (401, 403, 404).

    What is left is the caller's own, such as 400 and 422: every model would say so.
    """
    return (
        is_failure(error)
        or is_retryable(error)
        or rejection_of(error) is not None
        or status_of(error) in _DENIED | {MANY}
    )


def _is_for_now(error: Exception) -> bool:
    # An account without credit says 429 as well, and goes on to.
    return status_of(error) == MANY and getattr(error, "code", None) != "insufficient_quota"


def pause_of(error: Exception) -> float | None:
    """Seconds that the server asks to wait, by ``retry-after-ms`` or ``retry-after``; None if it asks nothing."""
    try:
        said = pushback(getattr(error, "response", None))
        return None if said is None else seconds_until(said, PROCESS_CLOCK.wall())
    except Exception:  # noqa: BLE001 - a stranger's object; whatever it does, it said nothing
        return None


def is_empty(response: Any) -> bool:
    """
    Whether there is nothing in it: None, blank text, a chat completion without a message, a message without content.

    Tool calls, refusals and audio are content. Of what it does not know it says no.
    """
    if response is None or isinstance(response, str):
        return not (response or "").strip()
    if hasattr(response, "choices"):
        choices = response.choices
        return not isinstance(choices, list) or all(map(_says_nothing, choices))
    for field in ("output", "content"):
        if hasattr(response, field):
            blocks = getattr(response, field)
            return not isinstance(blocks, list) or all(map(_is_blank, blocks))
    return False


def _says_nothing(choice: object) -> bool:
    message = getattr(choice, "message", None)
    content = getattr(message, "content", None)
    said = bool(content.strip()) if isinstance(content, str) else bool(content)
    others = ("tool_calls", "refusal", "audio", "function_call")
    return not said and not any(getattr(message, each, None) for each in others)


def _is_blank(block: object) -> bool:
    text = getattr(block, "text", None)
    return getattr(block, "type", None) == "text" and not (text or "").strip()
