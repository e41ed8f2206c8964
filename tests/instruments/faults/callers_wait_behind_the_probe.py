"""
Half-open is a semaphore: callers queue behind a slow probe instead of being rejected at once.
"""

from __future__ import annotations

from tests.instruments.faults import Edit

RIVALS = "fluxgate"
EDITS = (
    Edit(
        "policies.circuit_breaker:_with_tickets",
        "        if isinstance(answer, Refusal):\n            raise core",
        (
            "        while isinstance(answer, Refusal) and answer.state is CircuitState.HALF_OPEN:\n"
            '            await __import__("anyio").sleep(0.01)\n'
            "            answer = circuit.admit(clock.now(), current_task())\n"
            "        if isinstance(answer, Refusal):\n"
            "            raise core"
        ),
    ),
)
