"""A contact sheet in a real browser, opened from disk."""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Dialog, Page, expect

from captioner.batch.items import Item
from captioner.batch.style import TextStyle
from captioner.batch.writers.contact_sheet import ContactSheetWriter
from captioner.datasets.coco import read_captions

HOSTILE = '<b>"a", dog</b>'


@functools.cache
def noise() -> Image.Image:
    """What makes a drawn picture as large a file as a photo is."""
    return Image.effect_noise((224, 168), 20).convert("RGB")


def thumbnail(item: Item) -> bytes:
    """A drawn picture of about the size that a job hands in."""
    number = sum(item.source.encode())
    image = noise().copy()
    image.paste((number * 37 % 256, number * 91 % 256, number * 53 % 256), (30, 30, 150, 130))
    file = BytesIO()
    image.save(file, "JPEG", quality=70)
    return file.getvalue()


def write_sheet(path: Path, number: int, captions: dict[int, str]) -> None:
    """A sheet of so many pictures, of which the last one failed."""
    rows = []
    for index in range(number):
        name = f"photos/{index:04}.jpg"
        item = Item(source=name, path=name, member=None, root="photos", size=1, mtime_ns=1)
        row: dict[str, Any] = {"image": name, "caption": captions.get(index, f"a dog runs over field {index}")}
        row |= {"confidence": (index + 1) / (number + 1), "score": -1.0, "model": "toy@0123456789abcdef"}
        rows.append((item, row))
    item, row = rows[-1]
    error = {"type": "UnreadableImage", "detail": "It is damaged: use an intact copy."}
    rows[-1] = (item, {"image": row["image"], "error": error})
    ContactSheetWriter(thumbnail=thumbnail)(rows, path, TextStyle())


@pytest.fixture
def sheet(open_page: Callable[[str], Page], tmp_path: Path) -> Page:
    """The open sheet of five pictures."""
    write_sheet(tmp_path / "sheet.html", 5, {0: HOSTILE, 1: "=1+1"})
    return open_page((tmp_path / "sheet.html").as_uri())


def save(page: Page, path: Path) -> dict[str, str]:
    """The table that the button gives."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Save captions as CSV").click()
    assert download.value.suggested_filename == "captions.csv"
    download.value.save_as(path)
    with path.open(encoding="utf-8", newline="") as lines:
        return {row["image"]: row["caption"] for row in csv.DictReader(lines, strict=True)}


def test_corrected_captions_leave_the_page_as_a_table(sheet: Page, tmp_path: Path) -> None:
    expect(sheet.get_by_text("5 pictures, the least confident first.")).to_be_visible()
    expect(sheet.get_by_text("It is damaged: use an intact copy.")).to_be_visible()
    captions = sheet.get_by_role("textbox")
    assert captions.nth(1).input_value() == HOSTILE
    captions.nth(3).fill('two dogs, "Rex" and Ann — 犬')
    captions.nth(4).fill("")
    expect(sheet.get_by_role("status")).to_have_text("2 captions corrected, not saved yet.")
    table = save(sheet, tmp_path / "captions.csv")
    assert table == {
        "photos/0000.jpg": HOSTILE,
        "photos/0001.jpg": "'=1+1",
        "photos/0002.jpg": 'two dogs, "Rex" and Ann — 犬',
    }
    assert read_captions(tmp_path / "captions.csv") == {name: (caption,) for name, caption in table.items()}
    expect(sheet.get_by_role("status")).to_have_text("3 captions in captions.csv, 2 of them corrected.")


def test_the_keyboard_is_enough(sheet: Page) -> None:
    captions = sheet.get_by_role("textbox")
    captions.nth(0).focus()
    sheet.keyboard.type("a tree")
    sheet.keyboard.press("Enter")
    expect(captions.nth(1)).to_be_focused()
    sheet.keyboard.press("Shift+Enter")
    expect(captions.nth(0)).to_be_focused()
    assert captions.nth(0).input_value() == "a tree"
    expect(sheet.get_by_role("status")).to_have_text("1 caption corrected, not saved yet.")
    sheet.keyboard.press("Escape")
    assert captions.nth(0).input_value() == ""
    expect(sheet.get_by_role("status")).to_have_text("No caption corrected yet.")
    sheet.keyboard.type("a tree")
    with sheet.expect_download():
        sheet.keyboard.press("Control+s")


def test_what_is_not_saved_is_not_lost_by_accident(sheet: Page) -> None:
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    sheet.on("dialog", stay)
    caption = sheet.get_by_role("textbox").first
    caption.click()
    caption.press_sequentially("a tree")
    with sheet.expect_event("dialog"):
        sheet.close(run_before_unload=True)
    assert asked == ["beforeunload"]
    assert caption.input_value() == "a tree"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_every_width_in_both_schemes(sheet: Page, scheme: str, width: int) -> None:
    sheet.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    sheet.set_viewport_size({"width": width, "height": 800})
    assert sheet.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    colours = sheet.evaluate(
        "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
    )
    ink, paper = (sum(map(int, colour[4:-1].split(","))) for colour in colours)
    assert (ink > paper) == (scheme == "dark")
    caption = sheet.get_by_role("textbox").nth(1).bounding_box()
    assert caption is not None
    assert caption["width"] > 200


def test_a_thousand_pictures_open_at_once(open_page: Callable[[str], Page], tmp_path: Path) -> None:
    write_sheet(tmp_path / "sheet.html", 1000, {})
    page = open_page((tmp_path / "sheet.html").as_uri())
    developer = page.context.new_cdp_session(page)
    developer.send("Performance.enable", {"timeDomain": "threadTicks"})  # processor time: others may use theirs
    page.reload()
    expect(page.get_by_role("status")).to_have_text("No caption corrected yet.")
    found = {each["name"]: each["value"] for each in developer.send("Performance.getMetrics")["metrics"]}
    assert 0 < found["TaskDuration"] < 5
    last = page.get_by_role("textbox").last
    last.fill("the last one")
    expect(page.get_by_role("status")).to_have_text("1 caption corrected, not saved yet.")


def test_without_scripts_the_captions_can_be_read(browser: Browser, tmp_path: Path) -> None:
    write_sheet(tmp_path / "sheet.html", 3, {})
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "sheet.html").as_uri())
    expect(page.get_by_role("textbox").nth(1)).to_have_value("a dog runs over field 0")
    expect(page.get_by_role("textbox").nth(1)).to_have_attribute("readonly", "")
    expect(page.get_by_text("where scripts are allowed")).to_be_visible()
    expect(page.locator("#save")).to_be_hidden()
    context.close()
