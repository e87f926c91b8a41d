"""A Chromium for the browser tests, and pages in it that must not complain."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

WAIT = 60_000  # milliseconds: a machine that is busy with other things is slow
expect.set_options(timeout=WAIT)

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


# No longer than a file: while Playwright runs, the thread has an event loop, which tests after these cannot do with.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for a file of tests, which are skipped where there is none."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[[str], Page]]:
    """Opens an address in a window of its own, without motion.

    At the end of the test the page's script must have raised nothing and have said nothing on the console, where a
    broken policy is told as well, and the page must have asked for nothing but its own address and what lies under it.
    """
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_one(address: str) -> Page:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 860}, reduced_motion="reduce"))
        contexts[-1].set_default_timeout(WAIT)
        page = contexts[-1].new_page()

        def hear(message: ConsoleMessage) -> None:
            if not message.text.startswith("Failed to load resource"):  # a refusal that the test itself asked for
                complaints.append(message.text)

        def see(request: Request) -> None:
            if not request.url.startswith((address, "data:", "blob:")):
                complaints.append(request.url)

        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", hear)
        page.on("request", see)
        page.goto(address)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []
