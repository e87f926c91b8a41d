"""The page in a real browser, against the real server around a captioner that needs no model."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import random
import re
import threading
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from playwright.sync_api import Browser, FilePayload, Locator, Page, Route, expect

from captioner.datasets.shapes import all_meanings, compose, draw
from captioner.geometry import Geometry
from captioner.images import ImageLimits
from service.app import create_app
from service.server import Server, listen
from service.settings import Settings
from tests.service.fake_captioner import WORDS, FakeCaptioner, make_picture

CAPTION = " ".join(word for word, _ in WORDS)
PASTE_OR_DROP = """([kind, files]) => {
  const transfer = new DataTransfer();
  for (const [name, base64] of files) {
    const bytes = Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
    transfer.items.add(new File([bytes], name, {type: "image/png"}));
  }
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
# How dark the photo is made, 0 to 255: at the middles of the cells of a grid of `size` by `size`.
DARKNESS = """(card, size) => {
  const canvas = card.querySelector("canvas");
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  const middle = (place, length) => Math.floor((place + 0.5) / size * length);
  return Array.from({length: size * size}, (_, cell) => data[
    4 * (middle(Math.floor(cell / size), canvas.height) * canvas.width + middle(cell % size, canvas.width)) + 3]);
}"""
FOCUSED = "(document.activeElement.labels?.[0] ?? document.activeElement).textContent.replace(/\\s+/g, ' ').trim()"
DARKEST = 0.78 * 255


@pytest.fixture
def captioner() -> FakeCaptioner:
    """The captioner behind the page. It looks at the first five of nine places, one a word."""
    captioner = FakeCaptioner()
    captioner.attention = np.eye(5, 9, dtype=np.float32).reshape(5, 3, 3)
    return captioner


@contextlib.contextmanager
def serving(captioner: FakeCaptioner, settings: Settings) -> Iterator[str]:
    """The address of a server around `captioner`."""
    server = Server(create_app(captioner, settings), settings, listen(settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server.url
    finally:
        captioner.gate.set()
        server.stop()
        thread.join(30)


@pytest.fixture
def url(captioner: FakeCaptioner) -> Iterator[str]:
    """The address of a server around `captioner`."""
    with serving(captioner, Settings(port=0)) as url:
        yield url


@pytest.fixture
def page(url: str, open_page: Callable[[str], Page]) -> Page:  # the page closes before its server does
    """The page, with the clipboard."""
    page = open_page(url)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    return page


@pytest.fixture
def phone(browser: Browser, url: str) -> Iterator[Page]:
    """The page on a phone: narrow, and a finger instead of a mouse."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(url)
    yield page
    context.close()


def photo(name: str, colour: str = "teal") -> FilePayload:
    """A file as a person would choose it."""
    return {"name": name, "mimeType": "image/png", "buffer": make_picture(colour)}


def shapes(name: str, seed: int) -> FilePayload:
    """A picture of the toy data set."""
    generator = random.Random(seed)
    stream = io.BytesIO()
    draw(compose(generator.choice(all_meanings()["related"]), generator)).save(stream, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": stream.getvalue()}


def notes(name: str = "notes.txt") -> FilePayload:
    """A file that is no picture."""
    return {"name": name, "mimeType": "text/plain", "buffer": b"no picture"}


def show(page: Page, *files: FilePayload) -> Locator:
    """The cards of `files`, once each has its answer."""
    page.set_input_files("#image", files)
    expect(page.locator('.card:is([data-state="result"], [data-state="failure"])')).to_have_count(len(files))
    return page.locator(".card")


# Choosing


def test_several_photos_are_captioned_at_once(page: Page) -> None:
    page.get_by_label("Choose photos").set_input_files([shapes("one.png", 1), shapes("two.png", 2)])
    cards = page.locator(".card")
    expect(cards).to_have_count(2)
    expect(cards.locator("h2")).to_have_text([CAPTION] * 2)
    first = page.get_by_role("article", name="one.png")
    expect(first.locator("figcaption")).to_have_text("one.png")
    expect(first.get_by_role("img")).to_have_attribute("alt", CAPTION)
    assert first.get_by_role("img").evaluate("image => image.naturalWidth") == 64
    expect(first).to_contain_text("Confidence 30%")
    expect(first.locator(".words .share")).to_have_text(["91%", "62%", "48%", "80%", "<1%"])
    expect(first.locator(".alternatives .sentence")).to_have_text(["another dog number 0", "another dog number 1"])
    expect(first.locator(".alternatives .share")).to_have_text(["40%", "20%"])
    expect(page.get_by_role("status")).to_contain_text(f"{CAPTION}. Confidence 30%.")


def test_the_address_of_a_photo_is_given_up_once_it_is_shown(page: Page) -> None:
    show(page, photo("one.png"))
    picture = page.locator(".card img")
    picture.evaluate("image => image.decode()")
    assert picture.evaluate("image => image.naturalWidth") == 40
    assert picture.evaluate(LOADS_AGAIN) is False


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_photos_are_pasted_or_dropped(page: Page, kind: str) -> None:
    files = [[f"{kind} {number}.png", base64.b64encode(make_picture()).decode()] for number in (1, 2)]
    page.evaluate(PASTE_OR_DROP, [kind, files])
    expect(page.locator("figcaption")).to_have_text([name for name, _ in files])
    expect(page.locator(".card h2")).to_have_text([CAPTION] * 2)


def test_a_phone_takes_a_photo(phone: Page) -> None:
    camera = phone.get_by_label("Take a photo")
    expect(camera).to_have_attribute("capture", "environment")
    expect(phone.get_by_text("Take a photo")).to_be_visible()
    expect(phone.get_by_text("or paste one")).to_be_hidden()
    camera.set_input_files([photo("camera.jpg")])
    expect(phone.locator(".card h2")).to_have_text(CAPTION)


def test_a_machine_with_a_mouse_has_no_camera_on_its_back(page: Page) -> None:
    expect(page.get_by_text("Take a photo")).to_be_hidden()
    expect(page.get_by_text("or paste one")).to_be_visible()


def test_a_bad_file_fails_alone(page: Page) -> None:
    cards = show(page, notes(), photo("good.png"))
    expect(cards.first).to_have_attribute("data-state", "failure")
    expect(cards.first.locator(".note")).to_contain_text("The file holds no picture")
    expect(cards.last.locator("h2")).to_have_text(CAPTION)
    expect(cards.last.locator(".note")).to_be_hidden()


def test_a_large_file_is_not_even_sent(captioner: FakeCaptioner, open_page: Callable[[str], Page]) -> None:
    with serving(captioner, Settings(port=0, limits=ImageLimits(max_bytes=2**20))) as url:
        page = open_page(url)
        cards = show(page, {"name": "large.png", "mimeType": "image/png", "buffer": make_picture() + bytes(2**20)})
        expect(cards.locator(".note")).to_have_text("This photo is larger than 1 MiB. Use a smaller one.")
        page.close()
    assert captioner.captioned == 0


def test_a_file_that_can_never_work_is_removed_and_not_tried_again(page: Page) -> None:
    cards = show(page, notes(), photo("good.png"))
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    page.get_by_role("button", name="Remove").click()
    expect(cards).to_have_count(1)
    expect(cards.locator("figcaption")).to_have_text("good.png")
    expect(page.get_by_label("Choose photos")).to_be_focused()
    expect(page.get_by_role("status")).to_have_text("notes.txt: removed.")
    with page.expect_request("**/v1/captions*"):
        page.get_by_role("button", name="Caption again").click()
    expect(cards.locator("h2")).to_be_visible()


def test_after_the_last_photo_the_page_is_empty_again(page: Page) -> None:
    show(page, notes())
    page.get_by_role("button", name="Remove").click()
    expect(page.locator(".card")).to_have_count(0)
    expect(page.get_by_role("button", name="Caption again")).to_be_hidden()


# Options


def test_the_options_are_sent(page: Page, captioner: FakeCaptioner) -> None:
    page.get_by_text("Options", exact=True).click()
    chosen = {"Beam size": "4", "Captions": "2", "Length penalty": "0.6", "Fewest words": "3", "Most words": "12"}
    for label, value in chosen.items():
        page.get_by_label(label, exact=True).fill(value)
    with page.expect_request("**/v1/captions*") as sent:
        cards = show(page, photo("one.png"))
    assert parse_qs(urlsplit(sent.value.url).query) == {
        "attention": ["true"],
        "beam_size": ["4"],
        "num_captions": ["2"],
        "length_penalty": ["0.6"],
        "min_length": ["3"],
        "max_length": ["12"],
    }
    expect(cards.locator(".alternatives li")).to_have_count(1)
    page.get_by_role("button", name="Reset").click()
    page.get_by_role("button", name="Caption again").click()
    expect(cards.locator(".alternatives li")).to_have_count(2)
    assert [(options.beam_size, options.max_length) for options in captioner.asked if options] == [(4, 12), (3, 30)]


def test_options_that_belong_together_keep_their_order(page: Page) -> None:
    page.get_by_text("Options", exact=True).click()
    for low, high, values in (("Captions", "Beam size", ("5", "2")), ("Fewest words", "Most words", ("40", "8"))):
        for moved, follows, value in ((low, high, values[0]), (high, low, values[1])):
            page.get_by_label(moved, exact=True).fill(value)
            page.keyboard.press("Tab")
            expect(page.get_by_label(follows, exact=True)).to_have_value(value)


def test_a_wrong_option_is_shown_and_costs_no_photo(page: Page, captioner: FakeCaptioner) -> None:
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("Length penalty").fill("11")
    page.get_by_text("Options", exact=True).click()
    cards = show(page, photo("one.png"))
    expect(cards.locator(".note")).to_contain_text("Correct the options")
    expect(page.get_by_label("Length penalty")).to_be_focused()
    assert captioner.asked == []
    page.get_by_label("Length penalty").fill("1")
    page.get_by_role("button", name="Try again").click()
    expect(cards.locator("h2")).to_be_visible()


# Words


def test_pointing_at_a_word_shows_where_the_model_looked(page: Page) -> None:
    card = show(page, photo("one.png"))
    for place in (3, 0):
        card.locator("button.word").nth(place).hover()
        expect(card.locator("canvas")).to_have_css("opacity", "1")
        dark = card.evaluate(DARKNESS, 3)
        assert min(range(9), key=dark.__getitem__) == place
        assert dark[place] < 0.2 * DARKEST
        assert dark[8] == pytest.approx(DARKEST, abs=2)
    expect(card.locator("canvas")).to_have_css("object-fit", "contain")  # as the photo: one lies over the other
    assert card.evaluate("card => card.querySelector('canvas').width / card.querySelector('canvas').height") == (
        pytest.approx(40 / 30, abs=0.002)
    )
    page.get_by_role("heading", level=1).hover()
    expect(card.locator("canvas")).to_have_css("opacity", "0")


def test_the_attention_lies_over_what_the_model_saw(captioner: FakeCaptioner, open_page: Callable[[str], Page]) -> None:
    geometry = Geometry(resize="shortest_side", size=192, resize_size=256)  # three quarters of the shorter side
    captioner.manifest["preprocessing"] = {"geometry": geometry.to_dict()}
    captioner.attention = np.ones((5, 3, 3), dtype=np.float32)
    left, top, right, bottom = geometry.seen(40, 30)
    with serving(captioner, Settings(port=0)) as url:
        page = open_page(url)
        card = show(page, photo("one.png"))
        card.locator("button.word").first.hover()
        dark = np.array(card.evaluate(DARKNESS, 40)).reshape(40, 40)
        page.close()
    places = (np.arange(40) + 0.5) / 40
    seen = np.outer((top < places) & (places < bottom), (left < places) & (places < right))
    assert dark[seen].max() < 3
    assert dark[~seen].min() == pytest.approx(DARKEST, abs=2)


def test_a_finger_chooses_a_word_and_takes_it_back(phone: Page) -> None:
    card = show(phone, photo("one.png"))
    words = card.locator("button.word")
    for tapped, looking in ((1, "1"), (2, "1"), (2, "0")):
        words.nth(tapped).tap()
        expect(card.locator("canvas")).to_have_css("opacity", looking)
        pressed = [words.nth(each).get_attribute("aria-pressed") == "true" for each in range(5)]
        assert pressed == [looking == "1" and each == tapped for each in range(5)]


def test_a_word_says_where_the_model_looked_to_those_who_do_not_see_it(page: Page) -> None:
    card = show(page, photo("one.png"))
    places = ["top left", "top", "top right", "left", "middle"]
    for button, (word, _), place in zip(card.locator("button.word").all(), WORDS, places, strict=True):
        expect(button).to_have_accessible_name(re.compile(rf"^{re.escape(word)} \S+ ?, looked most at the {place}$"))


def test_words_of_a_model_without_attention_are_only_read(page: Page, captioner: FakeCaptioner) -> None:
    captioner.attention = None
    card = show(page, photo("one.png"))
    expect(card.locator(".word")).to_have_count(5)
    expect(card.locator("button.word")).to_have_count(0)
    expect(card.get_by_text("Pick a word")).to_be_hidden()


# Copying


@pytest.mark.parametrize("clipboard", [True, False])
def test_the_caption_is_copied_in_three_forms(page: Page, clipboard: bool) -> None:
    if not clipboard:  # as without https
        page.add_init_script("delete Navigator.prototype.clipboard")
        page.reload()
    card = show(page, photo("a (new) dog.png"))
    for name, text in (
        ("Text", "a <b>dog</b> runs on grass"),
        ("HTML alt", 'alt="a &#60;b&#62;dog&#60;/b&#62; runs on grass"'),
        ("Markdown", r"![a \<b\>dog\</b\> runs on grass](a%20%28new%29%20dog.png)"),
    ):
        card.get_by_role("group", name="Copy the caption").get_by_role("button", name=name).click()
        expect(page.get_by_role("status")).to_have_text(f"Copied: {text}")
        expect(card.get_by_role("button", name=name)).to_have_class(re.compile("copied"))
        page.get_by_text("Options", exact=True).click()
        field = page.get_by_label("Length penalty")
        field.evaluate("field => { field.type = 'text'; field.value = ''; }")
        field.focus()
        page.keyboard.press("Control+V")
        expect(field).to_have_value(text)
        page.get_by_text("Options", exact=True).click()


# Waiting


def test_a_full_service_is_asked_again_and_the_page_says_so(
    captioner: FakeCaptioner, open_page: Callable[[str], Page]
) -> None:
    with serving(captioner, Settings(port=0, threads=4, max_waiting=1)) as url:
        page = open_page(url)
        captioner.gate.clear()
        page.set_input_files("#image", [photo("one.png"), photo("two.png")])
        expect(page.get_by_text(re.compile(r"^The service is busy\. Trying again in \d+ s…$"))).to_have_count(1)
        expect(page.get_by_role("status")).to_contain_text("The service is busy.")
        captioner.gate.set()
        expect(page.locator(".card h2")).to_have_text([CAPTION] * 2)
        page.close()


def test_the_service_says_when_to_come_back_and_is_given_up_in_the_end(page: Page) -> None:
    asked: list[str] = []
    page.clock.install()

    def refuse(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=503, headers={"Retry-After": "2"}, json={"detail": "Full."})

    page.route("**/v1/captions*", refuse)
    page.set_input_files("#image", [photo("one.png")])
    for attempt in range(1, 8):
        expect(page.get_by_text(f"Trying again in {2 * attempt} s…")).to_be_visible()
        assert len(asked) == attempt
        page.clock.run_for(2000 * attempt - 500)
        expect(page.get_by_text("Trying again in 1 s…")).to_be_visible()
        page.clock.run_for(1000)
    expect(page.locator(".card .note")).to_have_text("Full.")
    page.unroute("**/v1/captions*")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".card h2")).to_be_visible()


def test_progress_is_shown_and_photos_are_cancelled(page: Page, captioner: FakeCaptioner) -> None:
    captioner.gate.clear()
    page.set_input_files("#image", [photo(f"{number}.png") for number in range(4)])
    expect(page.get_by_text("0 of 4 photos done")).to_be_visible()
    expect(page.get_by_role("progressbar")).to_have_js_property("max", 4)
    with page.expect_event("requestfailed"):  # the service hears of it, too
        page.get_by_role("article", name="0.png").get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("1 of 4 photos done")).to_be_visible()
    expect(page.get_by_role("progressbar")).to_have_js_property("value", 1)
    page.get_by_role("button", name="Cancel all").click()
    expect(page.locator(".note")).to_have_text(["Cancelled."] * 4)
    expect(page.get_by_text("of 4 photos done")).to_be_hidden()
    expect(page.get_by_label("Choose photos")).to_be_focused()
    captioner.gate.set()
    page.get_by_role("article", name="2.png").get_by_role("button", name="Try again").click()
    expect(page.locator(".card h2:visible")).to_have_text(CAPTION)
    expect(page.locator('[data-state="cancelled"]')).to_have_count(3)


def test_a_service_that_has_gone(page: Page) -> None:
    page.route("**/v1/captions*", lambda route: route.abort())
    cards = show(page, photo("one.png"))
    expect(cards.locator(".note")).to_have_text("The service cannot be reached. Try again.")


# Keys


def test_the_page_asks_for_the_key_and_keeps_it_for_this_tab_only(
    captioner: FakeCaptioner, open_page: Callable[[str], Page], tmp_path: Path
) -> None:
    file = tmp_path / "captioner.keys"
    file.write_text(hashlib.sha256(b"secret").hexdigest())
    with serving(captioner, Settings(port=0, keys_file=file)) as url:
        page = open_page(url)
        field = page.get_by_label("API key")
        expect(field).to_be_focused()
        page.set_input_files("#image", [photo("one.png")])  # waits for the key
        field.fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("The service does not know this key.")
        assert captioner.captioned == 0
        model = page.locator("#model")
        expect(model).to_be_hidden()
        field.fill("secret")
        page.keyboard.press("Enter")
        expect(page.locator(".card h2")).to_have_text(CAPTION)
        expect(field).to_be_hidden()
        expect(model).to_contain_text("Model fake 0123456789ab, CC-BY-4.0. Its scores and settings")
        digest, *links = (each["y"] for each in map(Locator.bounding_box, model.locator(".digest, a").all()) if each)
        assert links[0] == links[1] > digest + 10  # on a line of their own, together
        page.reload()
        expect(page.get_by_label("Choose photos")).to_be_attached()
        expect(field).to_be_hidden()
        expect(model).to_contain_text("Model fake")
        assert page.evaluate("[localStorage.length, document.cookie, sessionStorage.length]") == [0, "", 1]
        other = page.context.new_page()
        other.goto(url)
        expect(other.get_by_label("API key")).to_be_visible()
        expect(other.locator("#model")).to_be_hidden()
        # A key that is taken back is asked for anew, and no photo is lost.
        file.write_text(hashlib.sha256(b"other").hexdigest())
        page.evaluate("sessionStorage.setItem(sessionStorage.key(0), 'old')")
        page.reload()
        page.set_input_files("#image", [photo("one.png"), photo("two.png")])
        field.fill("secret")
        page.get_by_role("button", name="Use this key").click()
        expect(page.locator(".card h2")).to_have_text([CAPTION] * 2)
        page.close()
        other.close()


# For everyone


def test_the_keyboard_is_enough(page: Page) -> None:
    page.on("filechooser", lambda _: None)  # from now on, not from the key on: the browser is told asynchronously
    page.keyboard.press("Tab")
    expect(page.get_by_label("Choose photos")).to_be_focused()
    assert page.locator(".choose label").first.evaluate("label => getComputedStyle(label).outlineStyle") == "solid"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files([photo("one.png")])
    card = page.locator(".card")
    expect(card.locator("h2")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    names = [page.evaluate(FOCUSED)]
    for _ in range(16):
        page.keyboard.press("Tab")
        names.append(page.evaluate(FOCUSED))
        if card.locator("button.word:focus").count():
            expect(card.locator("canvas")).to_have_css("opacity", "1")
            assert card.locator("button.word:focus").evaluate("word => getComputedStyle(word).outlineStyle") == "solid"
    options = ["Beam size", "Captions", "Length penalty", "Fewest words", "Most words", "Reset"]
    assert names[:11] == ["Options", *options, "Caption again", "Text", "HTML alt", "Markdown"]
    assert [name.split()[0] for name in names[11:16]] == [word for word, _ in WORDS]
    assert names[16] == "Its scores and settings"
    expect(card.locator("canvas")).to_have_css("opacity", "0")


def test_the_focus_is_not_lost_with_a_button_that_goes(page: Page, captioner: FakeCaptioner) -> None:
    captioner.gate.clear()
    page.set_input_files("#image", [photo("one.png")])
    page.get_by_role("button", name="Cancel", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Try again")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_focused()
    captioner.gate.set()
    expect(page.get_by_role("heading", name=CAPTION)).to_be_focused()


def serious(page: Page) -> list[str]:
    """What axe finds that is serious or critical."""
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")
    assert {"color-contrast", "label", "button-name"} & {each["id"] for each in found["passes"]}  # axe has looked
    return [
        f"{each['id']} ({each['impact']}): {[node['html'] for node in each['nodes']]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(("scheme", "width"), [("light", 320), ("dark", 390), ("light", 1280)])
def test_axe_finds_nothing_serious_and_nothing_is_cut_off(
    browser: Browser, captioner: FakeCaptioner, tmp_path: Path, scheme: str, width: int
) -> None:
    file = tmp_path / "captioner.keys"
    file.write_text(hashlib.sha256(b"secret").hexdigest())
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
        has_touch=width < 1000,
        is_mobile=width < 1000,
    )
    page = context.new_page()

    def check() -> None:
        assert serious(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") == width

    with serving(captioner, Settings(port=0, keys_file=file, threads=4, max_waiting=1)) as url:
        page.goto(url)
        page.get_by_text("Options", exact=True).click()
        page.get_by_label("API key").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_be_visible()
        check()  # the empty page, options open, a wrong key
        page.get_by_label("API key").fill("secret")
        page.keyboard.press("Enter")
        captioner.gate.clear()
        long_name = "a-very-long-name-without-any-space-in-it-" * 5 + ".png"
        page.set_input_files("#image", [photo(long_name), photo("two.png"), notes(), photo("four.png")])
        expect(page.get_by_text("The service is busy").last).to_be_visible()
        page.get_by_role("article", name="four.png").get_by_role("button", name="Cancel").click()
        check()  # waiting, busy, cancelled, progress
        captioner.gate.set()
        expect(page.locator(".card h2:visible")).to_have_count(2)
        expect(page.locator('[data-state="failure"]')).to_have_count(1)
        page.locator("button.word").nth(1).click()
        expect(page.locator(".card canvas")).to_have_css("opacity", "1")
        check()  # results, a word with where the model looked, a failure
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert (sum(map(int, ink[4:-1].split(","))) > sum(map(int, paper[4:-1].split(",")))) == (scheme == "dark")
    context.close()


def test_axe_is_awake(page: Page) -> None:
    page.locator("#hint").evaluate("hint => { hint.style.color = '#ccc'; }")
    assert any(each.startswith("color-contrast (serious)") for each in serious(page))


def test_without_javascript(browser: Browser, url: str, captioner: FakeCaptioner) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto(url)
    expect(page.get_by_label("API key")).to_be_hidden()
    assert page.locator("html").evaluate("html => html.scrollWidth") == 390
    page.set_input_files("#image", [photo("one.png"), notes(), photo("two.png")])
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("Beam size").fill("5")
    page.get_by_role("button", name="Caption", exact=True).click()
    expect(page.locator(".card h2:visible")).to_have_text([CAPTION] * 2)
    expect(page.locator(".note:visible")).to_contain_text("The file holds no picture")
    expect(page.locator(".card img").first).to_be_visible()
    expect(page.locator(".card button:visible")).to_have_count(0)
    expect(page.locator("#beam_size")).to_have_value("5")
    assert page.locator("html").evaluate("html => html.scrollWidth") == 390
    assert {options.beam_size for options in captioner.asked if options} == {5}
    context.close()
