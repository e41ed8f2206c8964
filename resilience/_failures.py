"""
How a call that fails leaves the express lane: what the parts do about an error, in a row and without raising it again.

For the lane's texts; see `resilience._express`. Where a retry stands around, it is handed the error as that of its
first attempt; else the error goes on from where it is. A cancellation, a call that was cut off and whatever is not
listed here go by the linked steps, to which the error is raised a second time.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["RETRIES", "failure"]

RETRIES = frozenset({"retry", "retry with a budget"})
_DEADLINES = frozenset({"deadline"})
# What runs users' functions, which may be interrupted. So nothing but a deadline, which is over by then, is around it.
_JUDGES = {
    "breaker": "$settle@($generation@, $error)\n$generation@ = None",
    "breaker in time": "$settle@($generation@, $error)\n$generation@ = None",
}
_GIVES = {
    "places": "$places@.give($weight@)\n$held@ = None",
    "tokens": "",
}


def failure(names: Sequence[str], handed: str, linked: str) -> str:
    """
    What to do with ``$error``.

    Args:
        names: The roles, outermost first.
        handed: Makes the call that goes on in the innermost retry, where there is one.
        linked: Makes the call that goes by the linked steps.
    """
    retry = max((number for number, name in enumerate(names) if name in RETRIES), default=-1)
    inner = range(len(names) - 1, retry, -1)
    if not _alone(names, retry):
        return linked
    ended = [number for number in inner if names[number] == "deadline"]
    around = [number for number in range(retry) if names[number] == "deadline"]
    lines = [f"del $entries{number}[$task]" for number in ended]
    judged = [
        line.replace("@", str(number))
        for number in inner
        for line in (_GIVES | _JUDGES).get(names[number], "").splitlines()
    ]
    # The error keeps this frame, and what ends with it the task.
    forget = ["$task = None"] if "deadline" in names else []
    if around and judged:
        # A deadline outlasts the attempt, but not what ends the call here.
        over = [f"    $entries{number}.pop($task, None)" for number in around]
        judged = ["try:", *(f"    {line}" for line in judged), "except BaseException:", *over, "    raise"]  # fmt: skip
    lines += [*judged, *([handed] if retry >= 0 else [*forget, "raise"])]
    asked = "".join(f" and $task in $entries{number}" for number in ended)
    return "\n".join([
        f"if isinstance($error, Exception){asked}:", *(f"    {line}" for line in lines),
        "else:", *(f"    {line}" for line in linked.splitlines()),
    ])  # fmt: skip


def _alone(names: Sequence[str], retry: int) -> bool:
    """Whether each part inside the retry is known here, and whatever is around a judge or a retry needs no care."""
    seen = False
    for name in reversed(names[retry + 1 :]):
        if name not in _JUDGES and name not in _GIVES and name not in _DEADLINES:
            return False
        if seen and name == "places":
            return False
        seen = seen or name in _JUDGES
    return all(name in _DEADLINES or name in RETRIES for name in names[: max(retry, 0)])
