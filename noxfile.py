"""
How the project is checked: ``nox`` runs everything, ``nox -t ci`` what CI has time for.

Every session makes a virtual environment and fills it with pip; nothing else is needed. A Python
that is not on PATH is skipped and named in nox's summary, never downloaded.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2025.11.12"
nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"

# Where it is set, every worker and every process of a test compiles the package and rewrites the tests anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
# `worksteal` keeps a module, and so its server, on one worker, and both workers busy to the end.
WORKERS = ("-n", "2", "--dist", "worksteal")
EXTRAS = f"[{','.join(PYPROJECT['project']['optional-dependencies'])}]"
# In CI each Python runs a part: what can differ there, and between them everything.
CI = "ci" in sys.argv
RULES = ("tests/laws", "tests/cases", "tests/doors")
INSTRUMENTS = "tests/instruments"
BENCHMARKS = "tests/benchmarks"
PARTS = {
    PYTHONS[0]: (*RULES, "tests/policies", "tests/core", "tests/regressions"),
    PYTHONS[1]: (INSTRUMENTS, *RULES),
}
# What the two engines must not differ in. CI runs the linked one on the first Python.
BEHAVIOUR = tuple(
    f"tests/{each}"
    for each in (
        "laws", "cases", "policies", "composition", "hazards", "regressions", "doors", "instruments",
    )
)  # fmt: skip
LINKED = ("--engine", "linked")
# Measured, Python takes twice as long. No line of resilience/ needs eager tasks or uvloop but in tests that bring them.
MEASURED = ("--backends", "asyncio,trio")
# They ask for more than the floors of other extras, httpx2's for one: `lowest` installs them after the others.
CLIENTS = ("anthropic", "mcp", "openai")
CLIENTS_TESTS = ("tests/integrations/test_llm_clients.py", "tests/integrations/test_mcp.py")
CLIENTS_PAGE = "guard-language-models"


def group(name: str) -> list[str]:
    """
    The requirements of a dependency group. Not ``pip --group``: old pips do not know it.
    """
    return list(nox.project.dependency_groups(PYPROJECT, name))


def floors(*names: str) -> list[str]:
    """
    The runtime dependencies and these extras, each pinned to the lowest version pyproject.toml allows.
    """
    project = PYPROJECT["project"]
    extras = [project["optional-dependencies"][name] for name in names]
    pins = []
    for text in [*project["dependencies"], *(line for extra in extras for line in extra)]:
        requirement = Requirement(text)
        (floor,) = (s.version for s in requirement.specifier if s.operator == ">=")
        pins.append(f"{requirement.name}=={floor}")
    return pins


def install(session: nox.Session, *what: str) -> None:
    """
    Not compiled: that is half of an installation, and most of it is never imported.
    """
    session.install("--no-compile", *what)


@nox.session(tags=["ci"])
def lint(session: nox.Session) -> None:
    """
    Style, spelling, the floors of the house, the changelog's fragments.
    """
    install(session, *group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("codespell")
    session.run("lint-imports")
    session.run("towncrier", "build", "--draft", "--version", "next", silent=True)


@nox.session(tags=["ci"])
def types(session: nox.Session) -> None:
    """
    The package as mypy and pyright see it, on each Python, and as its users' checkers see it.
    """
    install(session, "-e", f".{EXTRAS}", *group("typing"))
    checks = [
        *(("mypy", "--python-version", python) for python in PYTHONS),
        *(("pyright", "--pythonversion", python) for python in PYTHONS),
        ("pyright", "--verifytypes", "resilience", "--ignoreexternal"),
        ("python", "tests/typing/check.py"),
    ]
    session.run("pyright", "--version")  # the first run of all fetches it
    with ThreadPoolExecutor(2) as both:  # each check has one thread
        list(both.map(lambda command: session.run(*command), checks))


@nox.session(python=PYTHONS, tags=["ci"])
def tests(session: nox.Session) -> None:
    """
    All tests, on one Python after the other; those of behaviour on both engines.
    """
    if session.python == PYTHONS[-1] and CI:
        session.skip("in `nox -t ci` coverage and package run the tests on this Python")
    install(session, "-e", f".{EXTRAS}", *group("tests"))
    parts = PARTS[session.python] if CI and not session.posargs else ()
    engine = LINKED if CI and session.python == PYTHONS[0] else ()
    session.run("pytest", *WORKERS, *engine, *parts, *session.posargs)
    if not CI and not session.posargs:
        session.run("pytest", *WORKERS, *LINKED, *BEHAVIOUR)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """
    All tests with the oldest dependencies that pyproject.toml allows.
    """
    others = [each for each in PYPROJECT["project"]["optional-dependencies"] if each not in CLIENTS]
    install(session, "-e", f".[{','.join(others)}]", *floors(*others), *group("tests"))
    ignored = [f"--ignore={each}" for each in CLIENTS_TESTS]
    session.run("pytest", *WORKERS, *ignored, "-k", f"not {CLIENTS_PAGE}", *session.posargs)
    install(session, "-e", f".[{','.join(CLIENTS)}]", *floors(*CLIENTS))
    session.run("pytest", *WORKERS, *CLIENTS_TESTS)
    session.run("pytest", *WORKERS, "tests/docs", "-k", CLIENTS_PAGE)


@nox.session(python=PYTHONS[-1], tags=["ci"])
def coverage(session: nox.Session) -> None:
    """
    Every line and every branch of resilience/ is run by a test, or says why not.

    The instruments and the benchmarks run elsewhere: they run the same lines a hundred thousand times, and show more
    than that they ran. In CI on two backends only.
    """
    install(session, "-e", f".{EXTRAS}", *group("tests"))
    session.run("coverage", "erase")
    elsewhere = [f"--ignore={each}" for each in (INSTRUMENTS, BENCHMARKS)]
    backends = MEASURED if CI else ()
    session.run(
        "coverage", "run", "-m", "pytest", *WORKERS, *backends, *elsewhere, *session.posargs
    )
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session
def docs(session: nox.Session) -> None:
    """
    The pictures of docs/, made from the real code, and the examples in README.md and docs/: `tests/docs`, alone.
    """
    install(session, "-e", f".{EXTRAS}", *group("docs"))
    session.run("python", "-m", "docs.pictures", "--check")
    session.run("pytest", "tests/docs", *session.posargs)


@nox.session(tags=["ci"], reuse_venv=False)  # pip would keep yesterday's wheel of the same version
def package(session: nox.Session) -> None:
    """
    What is published: the sdist, the wheel built from it, and the tests against that wheel.
    """
    install(session, *group("package"), *group("tests"))
    made = Path(session.create_tmp()) / "made"
    shutil.rmtree(made, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(made))
    (wheel,), (sdist,) = made.glob("*.whl"), made.glob("*.tar.gz")
    session.run("check-wheel-contents", str(wheel))
    session.run("twine", "check", "--strict", str(wheel), str(sdist))
    install(session, f"{wheel}{EXTRAS}")

    with tarfile.open(sdist) as archive:
        archive.extractall(made, filter="data")
    unpacked = made / sdist.name.removesuffix(".tar.gz")
    # From here on only the wheel has the package.
    shutil.rmtree(unpacked / "resilience")
    # The instruments judge the rules, which packaging cannot change, and take as long as all else.
    some = ("tests/doors", "tests/cases", "tests/docs", BENCHMARKS)
    parts = some if CI else (f"--ignore={INSTRUMENTS}",)
    with session.chdir(unpacked):
        session.run("pytest", *WORKERS, *(session.posargs or parts))


@nox.session(
    python=PYTHONS[::-1], default=False
)  # the newest first: the others are compared with it
def bench(session: nox.Session) -> None:
    """
    Everything under benchmarks/results/, on each Python: twelve minutes in all. Not a check: it wants a quiet machine.
    """
    install(session, "-e", ".[trio]", *group("bench"))
    session.run("python", "-m", "benchmarks.publish", *session.posargs)
