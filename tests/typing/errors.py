"""
Lines that must not pass a type checker, each with what mypy says of it. Held by check.py; never run.
"""

from __future__ import annotations

from resilience import (
    Bulkhead,
    Call,
    Chaos,
    CircuitBreaker,
    Fallback,
    Hedge,
    LastGood,
    Pipeline,
    RateLimit,
    Retry,
    RetryBudget,
    Timeout,
    deadline,
)
from resilience.integrations.llm import Providers


async def lookup(sku: str) -> int:
    raise NotImplementedError(sku)


async def attempt(call: Call, sku: str) -> int:
    raise NotImplementedError(call, sku)


def plain(sku: str) -> int:
    raise NotImplementedError(sku)


pipeline = Pipeline(Timeout(2))

# What has to be said is said, and by name.
Retry()  # E: Missing named argument "on" for "Retry"
Retry(3, OSError)  # E: Too many positional arguments for "Retry"
CircuitBreaker("catalogue")  # E: Missing named argument "on" for "CircuitBreaker"
CircuitBreaker(on=OSError)  # E: Missing positional argument "name"

# Options of the wrong kind.
Timeout("2")  # E: incompatible type "str"
Retry("3", on=OSError)  # E: incompatible type "str"
Retry(on=OSError, max_delay="60")  # E: incompatible type "str"
Retry(on="OSError")  # E: incompatible type "str"
Retry(on=OSError())  # E: incompatible type "OSError"
Retry(on=OSError, budget=0.2)  # E: incompatible type "float"
Hedge(1)  # E: Missing named argument "idempotent" for "Hedge"
Hedge(1, idempotent=False)  # E: incompatible type "Literal[False]"
deadline("2")  # E: incompatible type "str"
RetryBudget(0.2, 1)  # E: Too many positional arguments for "RetryBudget"
Retry(on=OSError, wait="fast")  # E: incompatible type "str"
CircuitBreaker("catalogue", on=OSError, probes="1")  # E: incompatible type "str"
CircuitBreaker("catalogue", on=OSError, break_duration="5")  # E: incompatible type "str"
CircuitBreaker("catalogue", on=OSError, trip=0.5)  # E: incompatible type "float"
Pipeline(2)  # E: incompatible type "int"
Pipeline(Timeout)  # E: incompatible type "type[Timeout]"
Fallback(None)  # E: Missing named argument "on" for "Fallback"
Fallback(None, OSError)  # E: Too many positional arguments for "Fallback"
Fallback.using(plain, on=OSError)  # E: incompatible type
Bulkhead("10")  # E: incompatible type "str"
Bulkhead(10, 20)  # E: Too many positional arguments
Bulkhead(10, weight="1")  # E: incompatible type "str"
RateLimit("10")  # E: incompatible type "str"
RateLimit(10, 60)  # E: Too many positional arguments
RateLimit(10).admit("2")  # E: incompatible type "str"
Bulkhead(10).limit = 3  # E: "limit"
Chaos()  # E: Missing positional argument "rate"
Chaos("0.1", fault=OSError)  # E: incompatible type "str"
LastGood("60")  # E: incompatible type "str"

# A frozen value stays what it is.
Timeout(2).seconds = 3  # E: "seconds"


async def doors() -> None:
    # The callee's arguments are checked through every door.
    await pipeline(lookup)  # E: Missing positional argument "sku"
    await pipeline(lookup, 1)  # E: incompatible type "int"
    await pipeline(lookup, "1", fresh=True)  # E: Unexpected keyword argument "fresh"
    await pipeline.wrap(lookup)(1)  # E: incompatible type "int"
    await pipeline.informed(attempt)(1)  # E: incompatible type "int"
    await pipeline.outcome(lookup, 1)  # E: incompatible type "int"
    # What cannot be awaited cannot be guarded, nor can what runs already.
    await pipeline(plain, "1")  # E: incompatible type
    await pipeline(lookup("1"))  # E: incompatible type "Coroutine[Any, Any, int]"
    pipeline.wrap(plain)  # E: incompatible type
    # An outcome has to be asked first.
    (await pipeline.outcome(lookup, "1")).value  # E: has no attribute "value"
    # The result keeps its type.
    text: str = await pipeline(lookup, "1")  # E: expected "Callable[[str], Awaitable[str]]"
    del text
    # A fallback's answer is not hidden.
    item: int = await Fallback(None, on=OSError)(lookup, "1")  # E: expression has type "int | None"
    other: int = await Pipeline(Fallback(None, on=OSError), pipeline)(lookup, "1")  # E: "int | None"
    del item, other
    # A model's arguments are those of its function.
    await Providers(("one", lookup))(1)  # E: incompatible type "int"
    Providers(("one", plain))  # E: incompatible type
