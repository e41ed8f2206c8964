"""
anthropic's client under our guards: a model for `Providers`, and a breaker for each model as the client's middleware.

The middleware runs inside the client's own retries, once per attempt, and sees every status. So it counts what is sent
and leaves retrying to the client; under `Providers` the client's retries are off.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, final

import anthropic

from resilience.domains import Domain, DomainCircuitBreakerManager, default_manager
from resilience.integrations.llm import MODEL, InvalidAnswerError, breaker_of, is_failure
from resilience.validation import check, instance

__all__ = ["BreakerMiddleware", "messages"]

FIELDS = {
    "client": instance(anthropic.AsyncAnthropic, "an anthropic.AsyncAnthropic"),
    "model": MODEL,
    "manager": instance(
        DomainCircuitBreakerManager, "a DomainCircuitBreakerManager", none=True
    ),
    "domain": instance(Domain, "a Domain"),
}  # fmt: skip
"""What each argument takes."""


def messages(
    client: anthropic.AsyncAnthropic, model: str, /, **options: Any
) -> tuple[str, Callable[..., Awaitable[Any]]]:
    """
    A model for `Providers`, through ``client.messages.create``.

    Args:
        client: Is shared, its connections and middleware too; its ``max_retries`` does not apply here.
        model: Its name, there and in the breakers.
        options: Of every request, such as ``max_tokens``, which anthropic requires; those of a call win.

    Raises:
        ConfigurationError: an argument that is not allowed.
    """
    check("anthropic.messages.client", client, FIELDS["client"])
    check("anthropic.messages.model", model, FIELDS["model"])
    create: Any = client.with_options(max_retries=0).messages.create

    async def ask(**request: Any) -> Any:
        answer = await create(**(options | request | {"model": model}))
        if isinstance(answer, str):  # what the client makes of a page that is no JSON
            raise InvalidAnswerError(model)
        return answer

    return model, ask


class _StatusError(Exception):
    """An answer in the shape of an error, for the one judgement there is."""

    def __init__(self, response: Any) -> None:
        super().__init__()
        self.response = response
        self.status_code: int = response.status_code


@final
class BreakerMiddleware(anthropic.Middleware):
    """
    A breaker for each model: ``AsyncAnthropic(middleware=[BreakerMiddleware()])``.

    Attempts are counted by their status, one by one; a body is not read. What is rejected is not sent and not retried
    by the client. Not for a client of `Providers`, which asks the same breakers itself.

    Args:
        manager: Where the breakers live: ``llm:model``. Default: that of the process.
        domain: What new ones begin with. Default ``Domain.LLM``.

    Raises:
        CircuitOpenError: out of the client's own methods, as it is.
    """

    def __init__(
        self,
        manager: DomainCircuitBreakerManager | None = None,
        *,
        domain: Domain = Domain.LLM,
    ) -> None:
        check("BreakerMiddleware.manager", manager, FIELDS["manager"])
        check("BreakerMiddleware.domain", domain, FIELDS["domain"])
        self._manager = default_manager() if manager is None else manager
        self._domain = domain

    def __repr__(self) -> str:
        return f"<BreakerMiddleware of {self._domain.name}>"

    async def handle_async(self, request: Any, call_next: Any) -> Any:
        """One attempt."""
        body = request.json
        model: Any = body.get("model") if isinstance(body, Mapping) else None
        if not MODEL.accepts(model):
            return await call_next(request)  # a list of models, a batch
        with breaker_of(self._manager, self._domain, model).admit() as permit:
            response = await call_next(request)
            if response.status_code >= 400:  # noqa: PLR2004 - RFC 9110, 15
                error = _StatusError(response)
                if is_failure(error):
                    permit.failure(error)
                else:
                    permit.ignore()
            return response
