"""
Random plans. A plan is nothing but data: it prints as text that can be read, and it can be cut down piece by piece.

Lengths of time lie on a coarse grid, so that a deadline, an answer and a caller who leaves often fall on one instant:
that is where engines differ.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple

__all__ = [
    "Act",
    "Asked",
    "Caller",
    "Cut",
    "Part",
    "Pipe",
    "Plan",
    "Script",
    "make",
    "possibilities",
]


class Part(NamedTuple):
    """A policy or a budget; options by name, in words where they are more than numbers."""

    kind: str
    options: dict[str, Any]


class Pipe(NamedTuple):
    """A pipeline of parts, by their place in the plan, and of pipelines in it."""

    parts: tuple[Any, ...]
    name: str | None = None
    key: str | None = None
    enabled: str = "on"
    listeners: tuple[str, ...] = ()


class Script(NamedTuple):
    """What the callee does when it is entered: some steps, and an end."""

    steps: tuple[tuple[Any, ...], ...]
    end: tuple[Any, ...]


class Asked(NamedTuple):
    """One call: through which door of which pipeline, with a script for each attempt (the last one is repeated)."""

    token: int
    door: str
    pipe: int
    callee: str
    scripts: tuple[Script, ...]
    around: tuple[tuple[Any, ...], ...] = ()
    level: bool = False
    pause: float = 0.0
    number: int = 0


class Caller(NamedTuple):
    """A task that makes calls; ``after``: what it does with a cancellation that it was told of."""

    start: float
    calls: tuple[Asked, ...]
    after: str = "uncancel"


class Cut(NamedTuple):
    """A caller is cancelled: at an instant, or before or after one of its steps."""

    caller: int
    how: str
    when: str
    at: float
    times: int = 1


class Act(NamedTuple):
    """Something is changed from outside while calls run."""

    at: float
    what: str
    part: int
    value: Any = None


class Plan(NamedTuple):
    """All of it."""

    seed: int
    backend: str
    eager: bool
    log: bool
    clock: bool
    parts: tuple[Part, ...]
    pipes: tuple[Pipe, ...]
    callers: tuple[Caller, ...]
    cuts: tuple[Cut, ...] = ()
    acts: tuple[Act, ...] = ()

    def text(self) -> str:
        """The plan to be read."""
        eager, logs = " (eager tasks)" * self.eager, ", logging" * self.log
        clock = ", a clock set by hand" * self.clock
        lines = [f"seed {self.seed} on {self.backend}{eager}{logs}{clock}"]
        for place, part in enumerate(self.parts):
            options = ", ".join(f"{name}={value!r}" for name, value in part.options.items())
            lines.append(f"  {place}: {part.kind}({options})")
        lines += [f"  pipeline {place}: {pipe}" for place, pipe in enumerate(self.pipes)]
        for place, caller in enumerate(self.callers):
            lines.append(f"  caller {place} at {caller.start} ({caller.after} when cancelled)")
            for asked in caller.calls:
                extras = [f"in {around}" for around in asked.around]
                extras += ["in a scope"] * asked.level + [f"then waits {asked.pause}"] * bool(
                    asked.pause
                )
                lines.append(
                    f"    call {asked.token}: {asked.door}"
                    f"{f' {asked.number}' if asked.number else ''} of {asked.callee}"
                    f" through pipeline {asked.pipe} {' '.join(extras)}"
                )
                for script in asked.scripts:
                    steps = " ".join(str(each) for each in (*script.steps, script.end))
                    lines.append(f"      {steps}")
        lines += [f"  {each}" for each in (*self.cuts, *self.acts)]
        return "\n".join(lines)


_SPANS = (0.25, 0.5, 0.5, 1.0, 1.0, 2.0)
_ERRORS = (
    "Boom", "Boom", "OSError", "OSError", "ConnectionError", "ValueError", "TimeoutError",
    "pushback", "rejected", "circuit open", "group", "mixed group", "shared", "chained", "in an except",
    "timeout exceeded", "StopIteration", "try again", "cancelled group", "Bye", "Bye group", "cancelled",
)  # fmt: skip
_GATES = (
    "CircuitBreaker", "CircuitBreaker", "CircuitBreaker", "Bulkhead", "Bulkhead", "RateLimit",
    "RateLimit", "Throttle", "ConcurrencyLimit",
)  # fmt: skip
_DOORS = (
    ("wrap", 50), ("call", 18), ("outcome", 10), ("policy wrap", 4), ("policy call", 3), ("closed", 3),
    ("thrown", 2), ("unstarted", 1), ("interleaved", 2), ("task", 3), ("informed", 2), ("wrapped now", 2),
    ("misfit", 1), ("gathered", 1),
)  # fmt: skip
_CALLEES = (
    ("plain", 8), ("defaults", 3), ("varargs", 3), ("keyword", 2), ("method", 3), ("bound", 2), ("partial", 2),
    ("object", 2), ("names", 2), ("awaitable", 2), ("shared args", 1),
)  # fmt: skip
_ENTRY = {"closed", "thrown", "interleaved"}
_EVENTS = (
    "all", "attempts", "calls", "raises", "transitions", "transitions", "rejections", "rejections", "retries",
    "retries", "retries", "timeouts", "timeouts",
)  # fmt: skip
_RETRIED = (
    "Exception", "Exception", "Exception", "OSError", "Boom", "Boom or OSError", "predicate", "async", "raises",
    "tenacity type", "tenacity any", "tenacity result", "rejected too", "rate too",
)  # fmt: skip
_WAITS = (
    "jitter", "jitter", "none", "no wait", "0.5", "0.5", "1", "tenacity random", "tenacity exponential",
    "tenacity chain", "async", "raises", "nan",
)  # fmt: skip
_TRIPS = (
    "consecutive 1", "consecutive 2", "consecutive 2", "count", "count", "time", "time", "slow", "slow count",
    "either", "both", "default",
)  # fmt: skip
_STEPS = (
    "swallow", "swallow", "shield", "shield", "cleanup", "replace", "variable", "finally", "again", "scope",
    "timeout", "tasks", "failing tasks", "inner", "inner", "cut", "act", "deadline", "uncancel", "clean shielded",
)  # fmt: skip
_AROUND = (
    "deadline", "deadline", "deadline", "timeout", "timeout", "scope", "disabled", "instant", "forced", "shield",
)  # fmt: skip
_ACTS = {
    "CircuitBreaker": (
        "force open", "force half-open", "isolate", "release", "reset", "disable", "observe", "observe",
        "force closed", "force closed", "force half-open", "change trip", "change break", "change probes",
        "admit", "settle",
    ),
    "Bulkhead": ("resize", "hold", "let go"),
    "RateLimit": ("rate", "drain", "patience"),
    "ConcurrencyLimit": ("forget",),
    "LastGood": ("forget",),
    "RetryBudget": ("spend",),
}  # fmt: skip
_ACTS_ON_NOTHING = ("clock back", "clock on", "switch", "listen", "stop listening")
_ANY = ("Fallback", "Fallback", "LastGood", "LastGood", "Hedge")


def possibilities(backend: str) -> set[str]:
    """What must really occur sooner or later, in the words of `Played.seen`."""
    found = {f"door {name}" for name, _ in _DOORS} | {f"callee {name}" for name, _ in _CALLEES}
    found |= {f"error {name}" for name in _ERRORS} | {"answer good", "answer bad", "refused"}
    found |= {f"step {name}" for name in _STEPS} | {"swallowed", "replaced"}
    found |= {f"around {name}" for name in _AROUND}
    found |= {
        f"act {name}"
        for name in (*_ACTS_ON_NOTHING, *(each for kind in _ACTS.values() for each in kind))
    }
    found |= {f"policy {name}" for name in (*_GATES, *_ANY, "Timeout", "Retry", "RetryBudget")}
    hows = {"edge", "level"} if backend == "asyncio" else {"level"}
    found |= {f"cut {how} {when}" for how in hows for when in ("at", "before", "after")}
    return found | {f"cut {'edge' if backend == 'asyncio' else 'level'} running"}


def _bag(weighted: Sequence[tuple[str, int]]) -> tuple[str, ...]:
    return tuple(name for name, times in weighted for _ in range(times))


_DOOR_BAG, _CALLEE_BAG = _bag(_DOORS), _bag(_CALLEES)


def make(seed: int, backend: str) -> Plan:
    """The plan of a seed."""
    return _Maker(seed, backend).plan()


class _Maker:
    """One source of chance, and what was drawn so far."""

    def __init__(self, seed: int, backend: str) -> None:
        self.seed = seed
        self.backend = backend
        # A plan on trio is another one than that of the same seed on asyncio.
        self.random = random = Random(2 * seed + (backend == "trio"))
        self.pick = random.choice
        self.parts: list[Part] = []
        self.tokens = 0
        self.failing = self.pick((0.05, 0.2, 0.3, 0.6, 0.9))
        self.slow = self.pick((0.1, 0.4, 0.4, 0.8))

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def few(self, most: int, share: float) -> int:
        """1, and one more as long as chance has it."""
        number = 1
        while number < most and self.random.random() < share:
            number += 1
        return number

    # ---------------------------------------------------------------- the plan

    def plan(self) -> Plan:
        asyncio = self.backend == "asyncio"
        pipes = [self.pipe()]
        if self.chance(0.2):
            pipes.append(self.pipe(shared=[*pipes[0].parts]))
        crowd = self.few(6, 0.5)
        levels = self.chance(0.25) if asyncio else self.chance(0.5)
        callees = (
            self.pick(_CALLEE_BAG),
            self.pick(_CALLEE_BAG) if self.chance(0.3) else "plain",
        )
        callers = tuple(
            Caller(
                self.pick((0.0, 0.0, 0.0, 0.25, 0.5, 1.0)),
                tuple(
                    self.asked(len(pipes), callees, levels, crowd) for _ in range(self.few(8, 0.58))
                ),
                self.pick(("uncancel", "uncancel", "keep", "stop")),
            )
            for _ in range(crowd)
        )
        cuts = self.cuts(callers, levels) if self.chance(0.45) else ()
        acts = tuple(self.act() for _ in range(self.few(4, 0.4))) if self.chance(0.35) else ()
        return Plan(
            seed=self.seed,
            backend=self.backend,
            eager=asyncio and sys.version_info >= (3, 12) and self.chance(0.1),
            log=self.chance(0.06),
            clock=self.chance(0.08),
            parts=tuple(self.parts),
            pipes=tuple(pipes),
            callers=callers,
            cuts=cuts,
            acts=tuple(sorted(acts, key=lambda act: act.at)),
        )

    def cuts(self, callers: Sequence[Caller], levels: bool) -> tuple[Cut, ...]:  # noqa: FBT001 - the plan's own
        made = []
        for _ in range(self.few(4, 0.4)):
            when = self.pick(("at", "before", "after"))
            level = self.backend == "trio" or (levels and self.chance(0.7))
            made.append(
                Cut(
                    self.random.randrange(len(callers)),
                    "level" if level else "edge",
                    when,
                    self.span() * self.pick((1, 1, 2, 3)) if when == "at" else self.few(12, 0.75),
                    2 if self.chance(0.15) else 1,
                )
            )
        return tuple(made)

    def span(self) -> float:
        """A length of time: mostly on the grid."""
        return self.pick(_SPANS) if self.random.random() < 0.9 else self.random.random()

    # --------------------------------------------------------------- pipelines

    def pipe(self, shared: Sequence[Any] = ()) -> Pipe:
        order: list[Any] = []
        if self.chance(0.85):
            self.usual(order)
        else:
            self.unusual(order)
        if shared:
            kept = [
                each
                for each in shared
                if isinstance(each, int) and self.parts[each].kind in _GATES and self.chance(0.6)
            ]
            order = [each for each in order if self.parts_of(each).isdisjoint(kept)] + kept
        parts = tuple(order)
        # Dissolved into the pipeline around it, or a step of its own.
        if len(parts) > 1 and self.chance(0.08):
            place = self.random.randrange(len(parts))
            inner = self.dressed(parts[place:], 0.6)
            parts = (*parts[:place], inner)
        return self.dressed(parts, 0.3)

    def parts_of(self, place: Any) -> set[int]:
        if isinstance(place, int):
            return {place}
        return {each for part in place.parts for each in self.parts_of(part)}

    def dressed(self, parts: tuple[Any, ...], share: float) -> Pipe:
        listeners: tuple[str, ...] = ()
        if self.chance(1.3 * share):
            listeners = tuple(self.pick(_EVENTS) for _ in range(self.few(3, 0.2)))
        return Pipe(
            parts,
            self.pick(("outer", "inner")) if self.chance(share) else None,
            self.pick(("one", "of the arguments", "raises")) if self.chance(0.15) else None,
            self.pick(("off", "function", "function", "raises")) if self.chance(0.05) else "on",
            listeners,
        )

    def usual(self, order: list[Any]) -> None:
        """A total timeout, a retry, gates in any order, a timeout for each attempt: any of them."""
        total = self.chance(0.5)
        if total:
            order.append(self.add("Timeout", self.timeout((1.0, 2.0, 2.5, 3.0, 5.0))))
        if self.chance(0.6):
            order.append(self.add("Retry", self.retry()))
        order += [self.gate() for _ in range(self.pick((0, 1, 1, 1, 1, 2, 2, 3)))]
        if self.chance(0.45):
            order.append(self.add("Timeout", self.timeout((0.25, 0.5, 0.75))))

    def unusual(self, order: list[Any]) -> None:
        """Anything outside of anything."""
        self.usual(order)
        if self.chance(0.4):
            self.random.shuffle(order)
        for _ in range(self.few(2, 0.3)):
            kind = self.pick(_ANY)
            made = getattr(self, kind.lower())()
            place = 0 if self.chance(0.5) else self.random.randrange(len(order) + 1)
            order.insert(place, self.add(kind, made))

    def add(self, kind: str, options: dict[str, Any]) -> int:
        self.parts.append(Part(kind, options))
        return len(self.parts) - 1

    def gate(self) -> int:
        kind = self.pick(_GATES)
        return self.add(kind, getattr(self, kind.lower())())

    def some(self, share: float, /, **options: Sequence[Any]) -> dict[str, Any]:
        """Each option with that probability, one of its values."""
        return {name: self.pick(values) for name, values in options.items() if self.chance(share)}

    def timeout(self, lengths: Sequence[float]) -> dict[str, Any]:
        if self.chance(0.06):
            return {"seconds": self.pick(("fn 0.5", "fn None", "fn 0", "fn raises", "fn nan"))}
        return {"seconds": self.pick(lengths)}

    def retry(self) -> dict[str, Any]:
        made: dict[str, Any] = {
            "attempts": self.pick((1, 2, 2, 3, 3, 4)),
            "on": self.pick(_RETRIED),
            "wait": self.pick(_WAITS),
        }
        made |= self.some(
            0.08,
            on_result=("bad", "bad", "async", "tenacity", "raises"),
            stop=("attempts 2", "delay 1.5", "function", "either", "raises"),
            max_delay=(0.5, 2.0),
            retry_after=(False, "function", "raises"),
            error_text=(True,),
        )
        if self.chance(0.25):
            made["budget"] = self.add("RetryBudget", self.retrybudget())
        return made

    def retrybudget(self) -> dict[str, Any]:
        return self.some(
            0.7, ratio=(0.0, 0.2, 1.0, 1.0), minimum_per_second=(0.0, 0.1, 1.0), ttl=(1.0, 10.0)
        )

    def circuitbreaker(self) -> dict[str, Any]:
        made = {
            "on": self.pick(
                ("Exception", "Exception", "OSError", "Boom or OSError", "predicate", "raises")
            ),
            "trip": self.pick(_TRIPS),
            "break_duration": self.pick((0.5, 0.5, 1.0, 3.0, "jitter", "tenacity", "function")),
        }
        made |= self.some(
            0.2,
            ignore=("OSError", "ValueError", "Timeout", "predicate"),
            on_result=("bad", "raises"),
            probes=(1, 2, 3),
            successes_to_close=(1, 2, 3),
            probe_lease=(0.75, 1.0),
            overdue_after=(0.25, 0.5, 1.0),
            error_text=(True,),
        )
        return made

    def bulkhead(self) -> dict[str, Any]:
        return (
            {"limit": self.pick((0, 1, 1, 1, 2, 2, 3, 10))}
            | self.some(
                0.4, queue=(0, 1, 1, 2, 5), max_wait=(0.0, 0.25, 0.5, 1.0), name=("places",)
            )
            | self.some(0.15, weight=(2, "function", "function", "raises", "half"))
        )

    def ratelimit(self) -> dict[str, Any]:
        return (
            {"rate": self.pick((0.5, 1.0, 2.0, 4.0, 10.0))}
            | self.some(
                0.4, burst=(1, 1, 2, 3), max_wait=(0.0, 0.25, 0.5, 1.0, 5.0), name=("rate",)
            )
            | self.some(0.12, weight=(2, "function", "function", "raises"))
        )

    def throttle(self) -> dict[str, Any]:
        return {"minimum_calls": self.pick((1, 2, 3))} | self.some(
            0.3,
            k=(1.0, 1.1, 2.0),
            on=("OSError", "predicate"),
            ignore=("ValueError", "Timeout"),
            on_result=("bad", "raises"),
            window=(1.0, 5.0),
            max_rejection=(0.5, 1.0),
            priority=(3, "function", "raises", "half"),
            name=("throttle",),
        )  # fmt: skip

    def concurrencylimit(self) -> dict[str, Any]:
        return {"algorithm": self.pick(("aimd", "aimd", "vegas", "gradient"))} | self.some(
            0.15,
            on=("Exception", "predicate"),
            ignore=("OSError", "Timeout"),
            partitions=(True,),
            bypass=("function", "raises"),
            name=("limit",),
        )  # fmt: skip

    def fallback(self) -> dict[str, Any]:
        return {
            "answer": self.pick(("value", "value", "function", "raises", "two", "two")),
            "on": self.pick(("Exception", "OSError", "rejected", "predicate")),
        } | self.some(0.2, on_result=("bad",))

    def lastgood(self) -> dict[str, Any]:
        key = {"key": "one"} if self.chance(0.7) else {}
        return (
            {"ttl": self.pick((0.5, 5.0, 5.0))}
            | key
            | self.some(0.3, on=("OSError",), on_result=("bad",), key=("raises",), max_keys=(1,))
        )

    def hedge(self) -> dict[str, Any]:
        made = {"after": self.pick((0.0, 0.25, 0.25, 0.5, "never", "function"))} | self.some(
            0.2, max_hedges=(1, 2), on=("OSError", "Boom"), on_discard=("function",)
        )
        if self.chance(0.2):
            made["budget"] = self.add("RetryBudget", self.retrybudget())
        return made

    # ------------------------------------------------------------------- calls

    def asked(self, pipes: int, callees: tuple[str, str], levels: bool, crowd: int) -> Asked:  # noqa: FBT001 - (as above)
        door = self.pick(_DOOR_BAG)
        self.tokens += 1
        token = self.tokens
        scripts = tuple(self.script(pipes, crowd) for _ in range(self.few(3, 0.5)))
        around: tuple[tuple[Any, ...], ...] = ()
        if self.chance(0.12):
            around = tuple(self.around() for _ in range(self.few(2, 0.3)))
        return Asked(
            token,
            door,
            self.random.randrange(pipes),
            callees[self.chance(0.2)],
            scripts,
            around,
            levels and self.chance(0.8),
            self.span() if self.chance(0.35) else 0.0,
            self.few(4, 0.4) if door in _ENTRY else 0,
        )

    def around(self) -> tuple[Any, ...]:
        kind = self.pick(_AROUND)
        return (kind, self.span()) if kind in {"deadline", "timeout", "scope"} else (kind,)

    def script(self, pipes: int, crowd: int, depth: int = 0) -> Script:
        steps: list[tuple[Any, ...]] = []
        if self.chance(self.slow):
            steps.append(("sleep", self.span()))
        elif self.chance(0.3):
            steps.append(("step",))
        if self.chance(0.22):
            for _ in range(self.few(3, 0.3)):
                steps.insert(self.random.randrange(len(steps) + 1), self.step(pipes, crowd, depth))
        if not self.chance(self.failing):
            end: tuple[Any, ...] = ("return", "bad" if self.chance(0.08) else "good")
        else:
            end = ("raise", self.pick(_ERRORS))
        return Script(tuple(steps), end)

    def step(self, pipes: int, crowd: int, depth: int) -> tuple[Any, ...]:
        kind = self.pick(_STEPS)
        if kind in {"variable", "again", "finally", "uncancel"}:
            return (kind,)
        if kind == "inner":
            if depth:
                return ("step",)
            self.tokens += 1
            token = self.tokens
            script = self.script(pipes, crowd, depth + 1)
            return (kind, self.random.randrange(pipes), token, script)
        if kind == "cut":
            return kind, self.random.randrange(crowd)
        if kind == "act":
            return kind, self.act()
        return kind, self.span()

    # ------------------------------------------------------------ from outside

    def act(self) -> Act:
        places = [place for place, part in enumerate(self.parts) if part.kind in _ACTS]
        at = self.span() * self.pick((0, 1, 1, 2, 3))
        if not places or self.chance(0.25):
            return Act(at, self.pick(_ACTS_ON_NOTHING), -1, self.span())
        place = self.pick(places)
        what = self.pick(_ACTS[self.parts[place].kind])
        return Act(at, what, place, self.pick((0, 1, 2, 3)))
