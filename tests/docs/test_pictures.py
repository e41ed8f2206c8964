"""
The pictures of the documentation are those that the code makes today.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from docs.pictures import FOLDER, pictures
from docs.pictures.__main__ import main
from docs.pictures.drawing import Curve, Lane, Lanes, Mark, Plot, Span, Strip, drawn

_DOCS = FOLDER.parent


@pytest.mark.parametrize("name", pictures())
def test_a_picture_is_what_the_code_makes(name: str) -> None:
    """
    Issue 5: a picture over virtual time, made from the real code; to renew it: python -m docs.pictures.
    """
    assert (FOLDER / name).read_text(encoding="utf-8") == pictures()[name](), (
        "python -m docs.pictures"
    )


def test_every_picture_is_made_by_a_function_and_shown_in_a_page() -> None:
    """
    None is left behind, and none is drawn for nobody.
    """
    kept = {path.name for path in FOLDER.glob("*.svg")}
    pages = "".join(path.read_text(encoding="utf-8") for path in _DOCS.rglob("*.md"))

    assert set(pictures()) == kept
    assert kept <= set(re.findall(r"pictures/([\w-]+\.svg)", pages))


def test_what_is_drawn_is_well_formed_and_stays_on_the_page() -> None:
    """
    Markup in a name is text, what lies outside of the story is cut off, and the same story is the same text.
    """

    def draw() -> str:
        return drawn(
            "a < b & c",
            "what is seen " * 20,
            3.0,
            [
                Lanes(
                    "calls",
                    [Lane("<one>", [Span(-1, 9, "run", "text"), Mark(1, "rejected", "no")])],
                ),
                Plot(
                    "level", [Curve("x", "wait", [(0, 0), (1, 2), (9, 1)], steps=True, area=True)]
                ),
                Strip("state", [Span(0, 1, "good"), Span(1, 3, "bad")]),
            ],
            legend={"run": "runs", "rejected": "rejected"},
            shaded=[(1, 2)],
        )

    root = ET.fromstring(draw())  # noqa: S314 - our own text

    assert draw() == draw()
    width = float(root.attrib["viewBox"].split()[2])
    for each in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert 0 <= float(each.get("x", "0"))
        assert float(each.get("x", "0")) + float(each.attrib["width"]) <= width


def test_a_picture_that_is_another_one_now_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The docs session fails where the kept picture is not what the code makes, and writes nothing.
    """
    name = next(iter(pictures()))
    monkeypatch.setattr("docs.pictures.__main__.FOLDER", tmp_path)
    stem = name.removesuffix(".svg")

    assert 1 == main(["--check", stem])
    assert not list(tmp_path.iterdir())
    assert 0 == main([stem])
    assert 0 == main(["--check", stem])
    assert f"as it was: {name}" in capsys.readouterr().out
