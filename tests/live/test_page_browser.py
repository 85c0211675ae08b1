"""The page in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.fake_live import HORIZONS, FakeLive

playwright = pytest.importorskip(
    "playwright.sync_api", reason="no playwright: pip install playwright to drive the page"
)

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
SIZES = {"desktop": (1280, 900), "phone": (375, 812)}
SOON_MS = 60_000
# The browser itself says so while the server is away; no page can keep it from that.
AWAY = "net::ERR_CONNECTION_REFUSED"

pytestmark = pytest.mark.skipif(
    not CHROMIUM, reason="no Chromium: run tests/browser.sh as root, or apt-get install chromium"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        sandbox = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def live() -> Iterator[FakeLive]:
    with FakeLive(past_s=60) as live:
        yield live


class Watched:
    """A page of some size and scheme, and all it complained of.

    Attributes:
        page: Playwright's.
        complaints: of the console, and of what ended with an error.
    """

    def __init__(self, browser: Any, size: str = "desktop", scheme: str = "light"):
        width, height = SIZES[size]
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme
        )
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *exc: object) -> None:
        self.context.close()

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, url: str) -> None:
        """Go there and wait until it is live."""
        self.page.goto(url)
        self.until("document.getElementById('status').textContent === 'live'")

    def until(self, condition: str) -> None:
        """Wait until it holds in the page."""
        # As a function: the page's policy forbids it to run text.
        self.page.wait_for_function(f"() => {condition}", timeout=SOON_MS)

    def text(self, selector: str) -> str:
        """What is written there."""
        return self.page.inner_text(selector)

    def changes(self, selector: str) -> None:
        """Wait until something else is written there."""
        self.page.wait_for_function(
            "([selector, before]) => document.querySelector(selector).innerText !== before",
            arg=[selector, self.text(selector)],
            timeout=SOON_MS,
        )

    def ink(self, selector: str) -> int:
        """How many pixels are drawn on the canvas there."""
        return self.page.evaluate(
            """selector => {
                const canvas = document.querySelector(`${selector} canvas`);
                const { width, height } = canvas;
                const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
                return data.filter((value, i) => i % 4 === 3 && value > 0).length;
            }""",
            selector,
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_all_is_shown_and_moves(browser, live, size, scheme, tmp_path):
    with Watched(browser, size, scheme) as seen:
        seen.open(live.url)
        for moving in ("#price", ".chance .p", "#clock", "#feed"):
            seen.changes(moving)
        for chart in ("#price-chart", "#p-chart", "#skill-chart"):
            assert seen.ink(chart) > 500
        assert float(seen.text("#price").replace(",", "")) == pytest.approx(64_120, rel=0.05)
        assert [name.strip() for name in seen.page.locator(".chance .name").all_inner_texts()] == [
            *HORIZONS
        ]
        assert "bits an event" in seen.text("section[aria-labelledby=skill-title]")
        assert seen.page.locator("#drift li.drifted").count() >= 1
        assert "stability index 0.31" in seen.text("#warnings")
        assert "the connection was cut" in seen.text("#events")
        assert "µs" in seen.text("#p50")
        width = SIZES[size][0]
        assert seen.page.evaluate("document.documentElement.scrollWidth") == width
        dark = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (dark == "rgb(14, 18, 23)") == (scheme == "dark")
        picture = Path(tmp_path / f"{size}-{scheme}.png")
        seen.page.screenshot(path=picture, full_page=True)
        assert picture.stat().st_size > 20_000
        assert seen.complaints == []


def test_another_market_is_chosen_and_remembered(browser, live):
    with Watched(browser) as seen:
        seen.open(live.url)
        seen.page.select_option("#market", "ETH/USDT")
        seen.until("document.title.includes('ETH/USDT')")
        assert float(seen.text("#price").replace(",", "")) == pytest.approx(3_150, rel=0.05)
        seen.page.reload()
        seen.until("document.title.includes('ETH/USDT')")
        assert seen.page.input_value("#market") == "ETH/USDT"
        assert seen.complaints == []


def test_a_market_of_which_nothing_is_known_is_shown_so(browser, live):
    with Watched(browser) as seen:
        seen.page.goto(f"{live.url}#market=NEW%2FUSDT")
        seen.until("document.getElementById('status').textContent === 'feed not connected'")
        assert (seen.text("#price"), seen.text("#bits"), seen.text("#p50")) == ("\N{EN DASH}",) * 3
        assert seen.text("#price-note") == "waiting for the first tick"
        assert seen.text("#skill-note") == "No answer is known yet."
        assert seen.text("#feed-state") == "not connected, no tick yet"
        assert seen.complaints == []


def test_it_is_used_by_keyboard(browser, live):
    with Watched(browser) as seen:
        seen.open(live.url)
        reached = []
        for _ in range(7):
            seen.page.keyboard.press("Tab")
            reached.append(seen.page.evaluate("document.activeElement.innerText.split('\\n')[0]"))
        assert [*HORIZONS, "Minutes", "Hours"] == reached[1:6]
        seen.page.focus(".chance:nth-child(2)")
        seen.page.keyboard.press("Enter")
        seen.until("document.getElementById('skill-horizon').textContent === 'rise@10'")
        assert seen.page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
        seen.page.focus("[data-range=coarse]")
        seen.page.keyboard.press("Space")
        seen.changes("#price-readout")
        assert seen.page.get_attribute("[data-range=coarse]", "aria-pressed") == "true"
        assert seen.complaints == []


def test_it_survives_a_restart_of_the_server(browser):
    with Watched(browser) as seen:
        with FakeLive() as live:
            seen.open(live.url)
            assert seen.complaints == []
            port = live.port
        seen.until("document.getElementById('status').textContent.startsWith('page cut off')")
        assert seen.page.evaluate("document.getElementById('main').classList.contains('stale')")
        before = seen.text("#price")
        with FakeLive(port=port):
            seen.until("document.getElementById('status').textContent === 'live'")
            assert not seen.page.evaluate("document.getElementById('main').className")
            seen.changes("#price")
            assert before
            assert [said for said in seen.complaints if AWAY not in said] == []


def test_the_scheme_changes_while_it_is_open(browser, live):
    with Watched(browser) as seen:
        seen.open(live.url)
        seen.page.emulate_media(color_scheme="dark")
        seen.until("getComputedStyle(document.body).backgroundColor === 'rgb(14, 18, 23)'")
        assert seen.ink("#price-chart") > 500
        seen.changes("#price")
        assert seen.complaints == []


def test_a_thousand_ticks_a_second_are_borne(browser):
    with FakeLive(rate=1_000) as live, Watched(browser) as seen:
        seen.open(live.url)
        seen.page.evaluate(
            """() => {
                window.frames_drawn = 0;
                const draw = () => { window.frames_drawn += 1; requestAnimationFrame(draw); };
                requestAnimationFrame(draw);
            }"""
        )
        for _ in range(5):
            seen.changes("#price")
        seen.until("window.frames_drawn > 20")
        seen.until("Number(document.getElementById('rate').textContent.replace(',', '')) > 100")
        assert seen.complaints == []


def test_the_token_is_taken_out_of_the_address(browser):
    token = "correct-horse-battery"
    with FakeLive(token=token) as live, Watched(browser) as stranger, Watched(browser) as seen:
        assert stranger.page.goto(live.url).status == 401
        seen.open(f"{live.url}?token={token}")
        assert seen.page.url == live.url
        (cookie,) = seen.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert token not in cookie["value"]
        seen.page.reload()
        seen.changes("#price")
        assert seen.complaints == []
