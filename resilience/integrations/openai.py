"""
openai's client under our guards: its own retries off, so that nobody retries what is retried already.

The client has no middleware; its hook is the ``http_client``, which a guarded transport of
`resilience.integrations.httpx2` fits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import openai

from resilience.integrations.llm import MODEL, InvalidAnswerError
from resilience.validation import check, instance

__all__ = ["chat", "responses"]

FIELDS = {
    "client": instance(openai.AsyncOpenAI, "an openai.AsyncOpenAI"),
    "model": MODEL,
}
"""What each argument takes."""


def chat(
    client: openai.AsyncOpenAI, model: str, /, **options: Any
) -> tuple[str, Callable[..., Awaitable[Any]]]:
    """
    A model for `Providers`, through ``client.chat.completions.create``.

    Args:
        client: Is shared, its connections too; its ``max_retries`` does not apply here.
        model: Its name, there and in the breakers.
        options: Of every request, such as ``temperature``; those of a call win.

    Raises:
        ConfigurationError: an argument that is not allowed.
    """
    alone = _alone("chat", client, model)
    return _asking(model, alone.chat.completions.create, options)


def responses(
    client: openai.AsyncOpenAI, model: str, /, **options: Any
) -> tuple[str, Callable[..., Awaitable[Any]]]:
    """As `chat`, through ``client.responses.create``."""
    alone = _alone("responses", client, model)
    return _asking(model, alone.responses.create, options)


def _alone(owner: str, client: openai.AsyncOpenAI, model: str) -> openai.AsyncOpenAI:
    check(f"openai.{owner}.client", client, FIELDS["client"])
    check(f"openai.{owner}.model", model, FIELDS["model"])
    return client.with_options(max_retries=0)


def _asking(
    model: str, create: Callable[..., Awaitable[Any]], options: dict[str, Any]
) -> tuple[str, Callable[..., Awaitable[Any]]]:
    async def ask(**request: Any) -> Any:
        answer = await create(**(options | request | {"model": model}))
        if isinstance(answer, str):  # what the client makes of a page that is no JSON
            raise InvalidAnswerError(model)
        return answer

    return model, ask
