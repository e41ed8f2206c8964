"""Endpoints."""

from app.core.resilience.unified_circuit_breaker import unified_circuit_breaker


def endpoint(client):
    @unified_circuit_breaker("agents_triage")
    async def triage(request):
        return await client(request)

    return triage
