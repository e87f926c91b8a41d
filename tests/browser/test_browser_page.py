"""The page in a real browser, against the real server around a captioner that needs no model."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect

from service.app import create_app
from service.server import Server, listen
from service.settings import Settings
from tests.service.fake_captioner import FakeCaptioner, make_picture

PASTE_OR_DROP = """([kind, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], `${kind}.png`, {type: "image/png"}));
  const event = kind === "paste"
    ? new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true, cancelable: true})
    : new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true});
  document.body.dispatchEvent(event);
}"""
LOADS_AGAIN = """image => new Promise((done) => {
  const other = new Image();
  other.onload = () => done(true);
  other.onerror = () => done(false);
  other.src = image.src;
})"""


@pytest.fixture
def captioner() -> FakeCaptioner:
    """The captioner behind the page."""
    return FakeCaptioner()


@pytest.fixture
def url(captioner: FakeCaptioner) -> Iterator[str]:
    """The address of a server around `captioner`."""
    settings = Settings(port=0)
    server = Server(create_app(captioner, settings), settings, listen(settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server.url
    server.stop()
    thread.join(30)


@pytest.fixture
def page(url: str, open_page: Callable[[str], Page]) -> Page:  # the page closes before its server does
    """The page, with the clipboard."""
    page = open_page(url)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    return page


def photo(name: str, colour: str = "teal") -> FilePayload:
    """A file as a person would choose it."""
    return {"name": name, "mimeType": "image/png", "buffer": make_picture(colour)}


def test_several_photos_are_captioned_at_once(page: Page) -> None:
    page.get_by_label("Choose photos").set_input_files([photo("one.png"), photo("two.png", "red")])
    cards = page.locator(".card")
    expect(cards).to_have_count(2)
    expect(cards.locator("h2")).to_have_text(["a <b>dog</b> runs on grass"] * 2)
    first = cards.first
    expect(first.locator("figcaption")).to_have_text("one.png")
    expect(first.get_by_role("img")).to_have_attribute("alt", "a <b>dog</b> runs on grass")
    assert first.get_by_role("img").evaluate("image => image.naturalWidth") == 40
    expect(first.locator(".facts")).to_contain_text("Confidence 30%")
    expect(first.locator(".words .share")).to_have_text(["91%", "62%", "48%", "80%", "<1%"])
    expect(first.locator(".alternatives .sentence")).to_have_text(["another dog number 0", "another dog number 1"])
    expect(first.locator(".alternatives .share")).to_have_text(["40%", "20%"])
    expect(page.get_by_role("status")).to_contain_text("a <b>dog</b> runs on grass. Confidence 30%.")


def test_the_address_of_a_photo_is_given_up_once_it_is_shown(page: Page) -> None:
    page.set_input_files("#image", [photo("one.png")])
    expect(page.locator(".card h2")).to_be_visible()
    picture = page.locator(".card img")
    picture.evaluate("image => image.decode()")
    assert picture.evaluate("image => image.naturalWidth") == 40
    assert picture.evaluate(LOADS_AGAIN) is False


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_a_photo_is_pasted_or_dropped(page: Page, kind: str) -> None:
    page.evaluate(PASTE_OR_DROP, [kind, base64.b64encode(make_picture()).decode()])
    expect(page.locator("figcaption")).to_have_text(f"{kind}.png")
    expect(page.locator(".card h2")).to_have_text("a <b>dog</b> runs on grass")


def test_a_bad_file_fails_alone(page: Page) -> None:
    notes: FilePayload = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"}
    page.set_input_files("#image", [notes, photo("good.png")])
    expect(page.locator(".card .failure").first).to_contain_text("The file holds no picture")
    expect(page.locator(".card h2").last).to_have_text("a <b>dog</b> runs on grass")


def test_the_options_are_used_and_keep_their_order(page: Page, captioner: FakeCaptioner) -> None:
    page.get_by_label("Captions", exact=True).select_option("5")
    expect(page.get_by_label("Beam size")).to_have_value("5")
    page.get_by_label("Beam size").select_option("2")
    expect(page.get_by_label("Captions", exact=True)).to_have_value("2")
    page.set_input_files("#image", [photo("one.png")])
    expect(page.locator(".alternatives li")).to_have_count(1)
    page.get_by_label("Captions", exact=True).select_option("5")
    page.get_by_role("button", name="Caption again").click()
    expect(page.locator(".alternatives li")).to_have_count(4)
    asked = [(options.beam_size, options.num_captions) for options in captioner.asked if options is not None]
    assert asked == [(2, 2), (5, 5)]


def test_the_caption_is_copied(page: Page) -> None:
    page.set_input_files("#image", [photo("one.png")])
    page.get_by_role("button", name="Copy caption").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "a <b>dog</b> runs on grass"


def test_the_keyboard_is_enough(page: Page) -> None:
    page.on("filechooser", lambda _: None)  # from now on, not from the key on: the browser is told asynchronously
    page.keyboard.press("Tab")
    expect(page.get_by_label("Choose photos")).to_be_focused()
    assert page.locator(".choose label").evaluate("label => getComputedStyle(label).outlineStyle") == "solid"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files([photo("one.png")])
    expect(page.locator(".card h2")).to_be_visible()
    for name in ("Beam size", "Captions", "Caption again", "Copy caption"):
        page.keyboard.press("Tab")
        assert page.evaluate(
            "document.activeElement.labels?.[0]?.textContent ?? document.activeElement.textContent"
        ) == (name)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_on_a_phone(browser: Browser, url: str, scheme: str) -> None:
    context = browser.new_context(
        viewport={"width": 320, "height": 700}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page = context.new_page()
    page.goto(url)
    page.set_input_files("#image", [photo("a-very-long-name-without-any-space-in-it-" * 5 + ".png")])
    expect(page.locator(".card h2")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert (sum(map(int, ink[4:-1].split(","))) > sum(map(int, paper[4:-1].split(",")))) == (scheme == "dark")
    context.close()


def test_without_javascript(browser: Browser, url: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url)
    page.set_input_files("#image", [photo("one.png"), photo("two.png")])
    page.get_by_label("Beam size").select_option("5")
    page.get_by_role("button", name="Caption").click()
    expect(page.locator(".card h2")).to_have_text(["a <b>dog</b> runs on grass"] * 2)
    expect(page.get_by_label("Beam size")).to_have_value("5")
    expect(page.get_by_role("button", name="Copy caption")).to_have_count(0)
    context.close()


def test_a_full_service_is_asked_again(browser: Browser, captioner: FakeCaptioner) -> None:
    settings = Settings(port=0, threads=4, max_waiting=1)
    server = Server(create_app(captioner, settings), settings, listen(settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    page = browser.new_page()
    try:
        page.goto(server.url)
        captioner.gate.clear()
        with page.expect_response(lambda response: response.status == 503):
            page.set_input_files("#image", [photo("one.png"), photo("two.png")])
        captioner.gate.set()
        expect(page.locator(".card h2")).to_have_text(["a <b>dog</b> runs on grass"] * 2)
    finally:
        page.close()
        server.stop()
        thread.join(30)
