"""
The live page in a real browser, against a real server.

Skipped where no Chromium is installed; on Debian: ``apt-get install -y chromium``.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import threading

import pytest

from resilience import CircuitBreaker, CircuitState, ConsecutiveFailures, Pipeline, Timeout
from resilience.testing import Script
from tests.asgi.kit import serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium is installed (apt-get install -y chromium)"
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
HOSTILE = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"
PATIENCE = 60_000
"""Milliseconds; a machine may be slow, and nothing here takes that long."""


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - not where there is no browser

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def page(browser):
    """A page; gives the function that opens it, and asserts at the end that nothing complained."""
    complaints, contexts = [], []

    def open_page(address, *, expected="net::ERR_", **options):
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        opened = context.new_page()
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on(
            "console",
            lambda said: (
                complaints.append(said.text)
                if said.type == "error" and not re.search(expected, said.text)
                else None
            ),
        )
        opened.goto(address)
        opened.locator("#link", has_text="live").wait_for()
        return opened

    yield open_page
    for context in contexts:
        context.close()
    assert [] == complaints


@pytest.fixture
def gates():
    return {
        name: CircuitBreaker(name, on=OSError, trip=ConsecutiveFailures(2), break_duration=300)
        for name in ("catalogue", "prices", HOSTILE)
    }


def call(guarded, script):
    """One call in real time, in a loop of its own: the browser's driver has this thread's."""
    thread = threading.Thread(target=lambda: asyncio.run(guarded.outcome(script)))
    thread.start()
    thread.join()


def until(page, holds):
    """Let the page go on until that is so."""
    for _ in range(PATIENCE // 100):
        if holds():
            return
        page.wait_for_timeout(100)
    raise AssertionError("not in time")


def card(page, name):
    return page.locator("#cards > li").filter(
        has=page.get_by_role("heading", name=name, exact=True)
    )


def test_shows_what_happens_while_it_happens(page, operations, gates):
    """
    States, why and until when, rates and attempts per call, pushed without a reload; the verdict in words.
    """
    guarded = Pipeline(gates["catalogue"], Timeout(5), name="catalogue reads")
    with serving(operations([*gates.values()], interval=0.2)) as address:
        opened = page(address)
        assert "✓ All 3 circuits let calls pass" == opened.locator("#verdict").inner_text()
        call(guarded, Script(OSError("secret")))
        opened.get_by_text("1 of 1 call failed").wait_for()
        call(guarded, Script(OSError("secret")))
        one = card(opened, "catalogue")
        one.locator(".badge", has_text="OPEN").wait_for()
        assert (
            "✕ 1 of 3 circuits turns calls away: catalogue"
            == opened.locator("#verdict").inner_text()
        )
        assert opened.title().startswith("✕ 1")
        text = one.inner_text()
        assert "It tripped: 2 of 2 calls failed. Last failure: OSError." in text
        assert "Turns calls away for 4 min 5" in text or "Turns calls away for 5 min" in text
        opened.locator("#rows tr").wait_for()
        row = opened.locator("#rows tr").inner_text()
        assert "catalogue reads" in row
        assert "1.00" in row
        assert "0 %" in row
        assert (
            "catalogue: CLOSED → OPEN (tripped, OSError)" in opened.locator("#events").inner_text()
        )
        first = opened.locator("#cards h3").first
        assert "catalogue" == first.inner_text()
        assert "secret" not in opened.content()
        gates["catalogue"].reset()
        one.locator(".badge", has_text="CLOSED").wait_for()
        assert "✓ All 3 circuits let calls pass" == opened.locator("#verdict").inner_text()


def test_hostile_names_are_text(page, operations, gates):
    """
    A breaker's name is shown letter by letter, and nothing of it runs.
    """
    Pipeline(Timeout(5), name=HOSTILE)
    guarded = Pipeline(gates[HOSTILE], Timeout(5), name=HOSTILE)
    with serving(operations([*gates.values()], interval=0.2)) as address:
        opened = page(address)
        call(guarded, Script())
        gates[HOSTILE].isolate()
        card(opened, HOSTILE).locator(".badge", has_text="ISOLATED").wait_for()
        opened.locator("#rows th", has_text="<img").wait_for()
        assert HOSTILE in opened.locator("#verdict").inner_text()
        assert "pwned" not in opened.title()
        assert 0 == opened.locator("img").count()
        assert 1 == opened.locator("script").count()


def test_says_when_it_lost_contact_and_comes_back(page, operations, gates):
    """
    A dead service is said to be dead within seconds, and the page is live again when it is back, by itself.
    """
    app = operations([*gates.values()], interval=0.2)
    with contextlib.ExitStack() as first:
        address = first.enter_context(serving(app))
        opened = page(address)
        opened.wait_for_selector("#cards li")
        port = int(address.rpartition(":")[2])
        first.close()
        opened.locator("#stale", has_text="what you see may be old").wait_for()
        assert "reconnecting" == opened.locator("#link").inner_text()
        with serving(app, port=port):
            gates["prices"].isolate()
            card(opened, "prices").locator(".badge", has_text="ISOLATED").wait_for()
            assert "live" == opened.locator("#link").inner_text()
            assert opened.locator("#stale").is_hidden()


def test_acts_for_those_who_may(page, operations, gates):
    """
    With a guard there are buttons; they ask first, act, and say when the service refused.
    """
    allowed = [True]
    with serving(
        operations([*gates.values()], interval=0.2, guard=lambda _: allowed[0])
    ) as address:
        opened = page(address, expected="net::ERR_|403")
        said = []

        def confirm(dialog):
            said.append(dialog.message)
            dialog.accept()

        opened.on("dialog", confirm)
        one = card(opened, HOSTILE)
        one.get_by_role("button", name="Isolate").click()
        one.locator(".badge", has_text="ISOLATED").wait_for()
        assert CircuitState.ISOLATED is gates[HOSTILE].state
        one.get_by_role("button", name="Release").click()
        one.locator(".badge", has_text="CLOSED").wait_for()
        allowed[0] = False
        card(opened, "prices").get_by_role("button", name="Reset").click()
        until(opened, lambda: len(said) >= 4)
        assert said[0].startswith(f"Isolate {HOSTILE}")
        assert "Reset: refused (403 forbidden)" == said[3]
    with serving(operations([*gates.values()], interval=0.2)) as address:
        assert 0 == page(address).get_by_role("button").count()


def test_finds_one_among_many(page, operations):
    """
    With many breakers there is a search and a filter, and at most 200 cards, the worst first.
    """
    gates = [CircuitBreaker(f"host {n:03}", on=OSError) for n in range(230)]
    gates[222].isolate()
    with serving(operations(gates, interval=0.2)) as address:
        opened = page(address)
        until(opened, lambda: opened.locator("#cards > li").count() == 200)
        assert "host 222" == opened.locator("#cards h3").first.inner_text()
        assert "and 30 more, in a better state" == opened.locator("#none").inner_text()
        opened.fill("#find", "HOST 01")
        until(opened, lambda: opened.locator("#cards > li").count() == 10)
        opened.fill("#find", "")
        opened.check("#only")
        until(opened, lambda: opened.locator("#cards > li").count() == 1)
        opened.fill("#find", "nobody")
        opened.locator("#none", has_text="Nothing matches.").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_readable_on_a_phone(page, operations, gates, scheme, tmp_path):
    """
    At 390 pixels nothing overflows, buttons are large enough, and every text has a contrast of 4.5, by day and night.
    """
    guarded = Pipeline(gates["catalogue"], Timeout(5), name="catalogue reads")
    with serving(operations([*gates.values()], interval=0.2, guard=lambda _: True)) as address:
        gates["prices"].admit().failure(OSError())
        gates["prices"].observe()
        for _ in range(2):
            call(guarded, Script(OSError))
        call(guarded, Script())
        opened = page(address, viewport={"width": 390, "height": 844}, color_scheme=scheme)
        opened.locator("#rows tr").wait_for()
        assert 390 == opened.evaluate("document.documentElement.scrollWidth")
        heights = opened.eval_on_selector_all("button", "all => all.map(e => e.offsetHeight)")
        assert min(heights) >= 40
        assert [] == opened.evaluate(CONTRAST)
        shot = tmp_path / "phone.png"
        opened.screenshot(path=shot, full_page=True)
        assert shot.stat().st_size > 10_000


CONTRAST = """() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const color = parse(getComputedStyle(node).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  let node;
  while ((node = walker.nextNode())) {
    const holder = node.parentElement;
    if (!node.data.trim() || !holder.getClientRects().length || ["SCRIPT", "STYLE"].includes(holder.tagName)) continue;
    const [a, b] = [light(parse(getComputedStyle(holder).color)), light(behind(holder))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) found.push([node.data.trim(), ratio]);
  }
  return found;
}"""
