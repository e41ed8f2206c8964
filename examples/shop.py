"""
A shop that asks a catalogue over HTTP, and goes on answering when the catalogue does not.

    python examples/catalogue.py 9000 &
    CATALOGUE_URL=http://127.0.0.1:9000 uvicorn --app-dir examples shop:app

Kill the catalogue, or stop it with ``kill -STOP``, ask for http://127.0.0.1:8000/items/7 and look at
http://127.0.0.1:8000/operations/. With ``RESILIENCE_CATALOGUE_MODE=observe`` the circuit only watches.

Three lines do it; they are marked.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from resilience.integrations.asgi import OperationsApp, answer_of
from resilience.integrations.httpx2 import GuardedTransport, HttpOptions

OPTIONS = HttpOptions(
    total_timeout=3,
    attempts=2,
    backoff=0.1,
    attempt_timeout=1,
    failure_ratio=0.5,
    minimum_calls=6,
    window=10,
    break_duration=2,
)
"""For people who wait: the defaults would let them wait for 30 seconds."""

catalogue = httpx2.AsyncClient(
    base_url=os.environ.get("CATALOGUE_URL", "http://127.0.0.1:9000"),
    transport=GuardedTransport(name="catalogue", options=OPTIONS),  # 1: every request is guarded
)
operations = OperationsApp()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """The client and the page live as long as the service."""
    yield
    operations.close()
    await catalogue.aclose()


app = FastAPI(lifespan=lifespan)
app.mount(
    "/operations", operations
)  # 2: circuits can be looked at; mount it where only operators can


@app.exception_handler(httpx2.TransportError)
async def no_answer(_: Request, error: Exception) -> Response:
    """503 with Retry-After from an open circuit, 504 after a deadline, 502 where the catalogue itself failed."""
    answer = answer_of(error)  # 3: what a policy of ours ended has an answer
    if answer is None:
        return JSONResponse({"error": "catalogue"}, 502)
    return Response(answer.body, answer.status, answer.headers)


@app.get("/items/{sku}")
async def item(sku: str) -> Response:
    """An item of the catalogue, as the catalogue describes it."""
    found = await catalogue.get(f"/items/{sku}")
    return Response(found.content, found.status_code, media_type=found.headers["content-type"])
