"""/docs in a real browser, against the real server around a captioner that needs no model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from tests.service.fake_captioner import FakeCaptioner
from tests.service.real_server import serving


@pytest.fixture
def url() -> Iterator[str]:
    with serving(FakeCaptioner()) as found:
        yield found


def serious(page: Page) -> list[str]:
    """What axe finds that is serious or critical."""
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")
    assert {"color-contrast", "link-name"} <= {each["id"] for each in found["passes"]}  # axe has looked
    return [
        f"{each['id']} ({each['impact']}): {[node['html'] for node in each['nodes']][:3]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_axe_finds_nothing_serious_and_nothing_is_cut_off(browser: Browser, url: str, scheme: str, width: int) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(f"{url}/docs")
    for part in ("#api_captions details", "#ollama_generate details", "#object-CaptionedRow"):
        page.locator(part).evaluate_all("found => found.forEach((each) => { each.open = true; })")
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    context.close()


def test_the_policy_holds_and_nothing_is_asked_of_others(open_page: Callable[[str], Page], url: str) -> None:
    page = open_page(f"{url}/")
    requests: list[str] = []

    def remember(request: Request) -> None:
        requests.append(request.url)

    page.on("request", remember)
    page.goto(f"{url}/docs")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert len(requests) >= 4  # the page, two styles, the script
    assert all(address.startswith(url) for address in requests)


def test_by_keyboard(open_page: Callable[[str], Page], url: str) -> None:
    page = open_page(f"{url}/")  # all that is asked for lies under this
    page.goto(f"{url}/docs")
    link = page.get_by_role("navigation").get_by_role("link", name="/v1/score")
    link.focus()
    page.keyboard.press("Enter")
    route = page.locator("article:target")
    expect(route.get_by_role("heading")).to_contain_text("/v1/score")
    expect(route).to_be_in_viewport()
    answer = route.locator("summary", has_text="Answer")
    answer.focus()
    page.keyboard.press("Enter")
    expect(route.locator("pre", has_text="log_probability")).to_be_visible()
    route.get_by_role("link", name="ScoreAnswer").click()
    expect(page.locator("#object-ScoreAnswer dl")).to_be_visible()  # a link to what is folded away opens it


def test_a_command_is_copied_as_it_runs(browser: Browser, url: str) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{url}/docs")
    page.get_by_role("button", name="Copy").first.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == f"curl -F image=@photo.jpg {url}/v1/captions"
    context.close()


def test_without_javascript(browser: Browser, url: str) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto(f"{url}/docs#api_captions")
    route = page.locator("#api_captions")
    expect(route.locator("pre").first).to_have_text(f"curl -F image=@photo.jpg {url}/v1/captions")
    expect(page.get_by_role("button")).to_have_count(0)
    route.locator("summary", has_text="Parameters").click()
    expect(route.get_by_text("whole number, 1 to 16, else 3")).to_be_visible()
    context.close()
