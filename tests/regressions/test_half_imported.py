"""
A module that another thread was still importing was taken for a whole one, and the call ended with an AttributeError.

It stands in ``sys.modules`` from the first line of its import on. The first failure of a retry imports tenacity, which
takes long enough for the failure of another thread to meet it half done; trio is imported by whoever runs it first.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from resilience import Retry, Timeout
from resilience.clock import loop_time
from resilience.loaded import loaded
from resilience.policies._breaker_core import current_task
from resilience.testing import run


@pytest.fixture
def half_imported(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def put(name: str) -> None:
        module = types.ModuleType(name)
        module.__spec__ = spec = ModuleSpec(name, None)
        spec._initializing = True  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)

    return put


def test_a_module_is_loaded_when_its_import_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What the interpreter is importing is not there yet; afterwards it is.
    """
    (tmp_path / "whole_or_half.py").write_text(
        "from resilience.loaded import loaded\nseen = loaded(__name__)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import whole_or_half  # noqa: PLC0415 - just written

    assert whole_or_half.seen is None
    assert loaded("whole_or_half") is whole_or_half
    assert loaded("not imported by anybody") is None


def test_half_of_trio_is_no_trio(half_imported: Callable[[str], None]) -> None:
    """
    Law 15: while another thread imports trio, times and tasks are those of asyncio.
    """

    async def fails() -> None:
        half_imported("trio")
        assert loop_time() > 0
        raise OSError

    async def main() -> None:
        guarded = Timeout(30)
        await guarded(lambda: Retry(2, on=OSError, wait=lambda _: 0.0)(fails))

    half_imported("trio")
    assert current_task() is None
    with pytest.raises(OSError):  # noqa: PT011 - the callee's own, and no AttributeError
        run(main)


def test_half_of_tenacity_is_no_tenacity(half_imported: Callable[[str], None]) -> None:
    """
    Laws 6 and 15: while another thread imports tenacity, an error is judged as if nobody had.
    """

    async def fails() -> None:
        half_imported("tenacity")
        raise OSError

    async def main() -> None:
        await Retry(2, on=lambda error: isinstance(error, OSError))(fails)

    with pytest.raises(OSError):  # noqa: PT011 - the callee's own, and no AttributeError
        run(main)
