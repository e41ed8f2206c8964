"""
The differential oracle by hand: ``python -m tests.instruments.differential --backend asyncio --seeds 0:20000``.

One seed alone, ``--seeds 17``, is replayed with its plan; ``--shrink`` leaves out what does not matter.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import platform
import sys
import time
from collections.abc import Iterable

from tests.instruments.differential.comparing import Report, compare, shrunk, sweep
from tests.instruments.differential.plans import make
from tests.instruments.differential.playing import play, prepared

_CHUNK = 500


def _chunk(job: tuple[str, int, int]) -> Report:
    backend, first, last = job
    return sweep(backend, range(first, last))


def _reports(backend: str, seeds: range, jobs: int) -> Iterable[Report]:
    chunks = [
        (backend, first, min(first + _CHUNK, seeds.stop))
        for first in range(seeds.start, seeds.stop, _CHUNK)
    ]
    if jobs == 1:
        yield from map(_chunk, chunks)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield from pool.imap_unordered(_chunk, chunks)


def _many(backend: str, seeds: range, jobs: int) -> bool:
    began, whole = time.perf_counter(), Report()
    for report in _reports(backend, seeds, jobs):
        for mismatch in report.wrong:
            print(mismatch, end="\n\n")
        whole.add(report)
        if whole.plans % 10_000 == 0:
            print(f"{whole.plans} plans, {len(whole.wrong)} wrong", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - began
    print(
        f"{whole.plans} plans (seeds {seeds.start} to {seeds.stop - 1}) on {backend}, "
        f"CPython {platform.python_version()}, {jobs} processes, {seconds:.0f} s: "
        f"{len(whole.wrong)} wrong, {len(whole.crashed)} without an end; "
        f"{whole.lane} of {whole.entries} times the callee was entered by the lane"
    )
    for seed, why in whole.crashed[:5]:
        print(f"  seed {seed}: {why}")
    return not whole.wrong and not whole.crashed


def _one(backend: str, seed: int, *, shrink: bool, text: bool) -> bool:
    plan = make(seed, backend)
    with prepared():
        mismatch = compare(plan)
        if mismatch is not None and shrink:
            mismatch = compare(shrunk(plan, lambda less: compare(less) is not None))
        if mismatch is None or text:
            print(plan.text())
            for entry in play(plan, "express").trace:
                print("     ", *entry)
    print(mismatch or "both engines played it alike")
    return mismatch is None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.instruments.differential")
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    parser.add_argument("--seeds", default="0:20000", help="first:last, or one")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--shrink", action="store_true", help="of one seed: the smallest plan")
    parser.add_argument("--text", action="store_true", help="of one seed: what happened")
    chosen = parser.parse_args()
    first, _, last = chosen.seeds.partition(":")
    if not last:
        alike = _one(chosen.backend, int(first), shrink=chosen.shrink, text=chosen.text)
        return 0 if alike else 1
    with contextlib.suppress(BrokenPipeError):
        return 0 if _many(chosen.backend, range(int(first), int(last)), chosen.jobs) else 1
    return 1


if __name__ == "__main__":
    sys.exit(main())
