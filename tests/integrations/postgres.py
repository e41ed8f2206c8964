"""
A PostgreSQL of the test's own, on a free port: to be killed, stopped and started again.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs

_PATIENCE = 60.0  # seconds before a test that waits for a machine gives up


def binaries() -> Path | None:
    """Where Debian's packages put the newest server, or where the path has one."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"),
        key=lambda path: float(path.parts[-3]),
    )
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


def why_not() -> str | None:
    """The reason it cannot run here."""
    if binaries() is None:
        return "no PostgreSQL server here (Debian: apt-get install postgresql)"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            return "PostgreSQL does not run as root, and there is no user postgres"
    return None


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@attrs.define
class Postgres:
    """One server, its data kept from start to start."""

    home: Path = attrs.field(factory=lambda: Path(tempfile.mkdtemp(prefix="resilience-pg-")))
    port: int = attrs.field(factory=_free_port)
    process: Any = None

    def create(self) -> None:
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.home, user.pw_uid, user.pw_gid)
        self._run("initdb", "-D", self.home / "data", "-A", "trust", "-U", "postgres",
                  "--no-sync", "--no-locale", "-E", "UTF8").wait()  # fmt: skip
        self.start()

    def _run(self, program: str, *arguments: object) -> Any:
        directory = binaries()
        assert directory is not None
        with (self.home / "log").open("ab") as log:
            return subprocess.Popen(
                [str(directory / program), *map(str, arguments)],
                stdout=log,
                stderr=log,
                cwd="/",
                user="postgres" if os.geteuid() == 0 else None,
                group="postgres" if os.geteuid() == 0 else None,
                extra_groups=[] if os.geteuid() == 0 else None,
            )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            if self.process is None or self.process.poll() is not None:
                # The one before may still hold its memory: then this one ends at once.
                self.process = self._run(
                    "postgres", "-D", self.home / "data", "-p", self.port, "-k", self.home,
                    "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off",
                    "-c", "deadlock_timeout=100ms", "-c", "shared_buffers=1MB",
                )  # fmt: skip
            ready = self._run("pg_isready", "-h", "127.0.0.1", "-p", self.port, "-q").wait()
            if ready == 0:
                return
            time.sleep(0.02)
        raise AssertionError((self.home / "log").read_text()[-2000:])

    def family(self) -> list[int]:
        """The server and its processes."""
        parent = self.process.pid
        found = [parent]
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                found.append(int(stat.parent.name))
        return found

    def signal(self, number: int) -> None:
        for pid in self.family():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def kill(self) -> None:
        """``kill -9``, all of it."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        self.process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.signal(signal.SIGCONT)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def url(self, driver: str = "asyncpg", user: str = "postgres", port: int | None = None) -> str:
        return f"postgresql+{driver}://{user}@127.0.0.1:{port or self.port}/postgres"
