"""The report in a real browser, from disk: keys, pointers, words, both schemes, a phone, and no script at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from captioner.pictures.charts import Curve, CurveChart, Reliability, ReliabilityBin
from captioner.pictures.report import Fact, FactGroup, Report, ReportScore, write_report
from tests.pictures.test_report import HOSTILE, hostile_report
from tests.pictures.toy_examples import toy_examples

COUNT = 60
LONGEST = "a-very-long-name-without-any-space-in-it-" * 5
# The mean darkness (alpha of the overlay) over each ninth of the picture, row by row.
DARKNESS = """card => {
  const canvas = card.querySelector("canvas");
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const sums = Array(9).fill(0), counts = Array(9).fill(0);
  for (let y = 0; y < canvas.height; y += 1) for (let x = 0; x < canvas.width; x += 1) {
    const part = 3 * Math.floor(3 * y / canvas.height) + Math.floor(3 * x / canvas.width);
    sums[part] += pixels[4 * (y * canvas.width + x) + 3];
    counts[part] += 1;
  }
  return sums.map((sum, part) => sum / counts[part]);
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of COUNT toy pictures; the CIDEr-D of picture n is n, and its confidence 1 - n / COUNT."""
    file = tmp_path_factory.mktemp("reports") / "report.html"
    values = Report(
        title="Toy shapes",
        scores=(ReportScore(name="CIDEr-D", value=53.1, low=49.6, high=56.7), ReportScore(name="BLEU-4", value=20.3)),
        scores_note="The bands are 95 % bootstrap intervals.",
        examples=toy_examples(COUNT),
        signature={"split": "test", "model": LONGEST},
        facts=(FactGroup(title="Variety", facts=(Fact(name="distinct", value="7 of 60", explanation=LONGEST),)),),
        reliability=Reliability(bins=(ReliabilityBin(predicted=0.4, observed=0.5, count=9),)),
        curves=(
            CurveChart(
                title="Loss",
                x_label="epoch",
                y_label="nats",
                curves=tuple(Curve(name=name, points=((1, 3.0), (2, 2.0))) for name in ("training", "development")),
            ),
        ),
    )
    with file.open("w", encoding="utf-8") as opened:
        write_report(values, opened)
    return file


@pytest.fixture
def page(open_page: Callable[[str], Page], report: Path) -> Page:
    """The report, from disk."""
    return open_page(report.as_uri())


def names(page: Page) -> list[int]:
    """The numbers of the pictures on the page."""
    return [int(name[4:-4]) for name in page.locator("#cards figcaption").all_text_contents()]


@pytest.mark.parametrize(
    ("view", "shown"),
    [
        ("Best", list(range(59, 35, -1))),
        ("Worst", list(range(24))),
        ("Least confident", list(range(59, 35, -1))),
        ("All", list(range(24))),  # and more when one comes to them
    ],
)
def test_views(page: Page, view: str, shown: list[int]) -> None:
    page.get_by_role("radio", name=view).check()
    assert names(page) == shown
    expect(page.get_by_role("status")).to_contain_text(f"{60 if view == 'All' else 24} of 60 pictures.")


def test_the_random_pictures_are_the_same_for_everyone(page: Page) -> None:
    page.get_by_role("radio", name="Random").check()
    drawn = names(page)
    assert len(set(drawn)) == 24
    assert drawn == sorted(drawn)
    page.reload()
    page.get_by_role("radio", name="Random").check()
    assert names(page) == drawn


def test_more_pictures_come_as_one_scrolls(page: Page) -> None:
    page.get_by_role("radio", name="All").check()
    for _ in range(400):  # a machine that is busy with other things is slow
        page.mouse.wheel(0, 20_000)
        if len(names(page)) == COUNT:
            break
        page.wait_for_timeout(50)
    assert names(page) == list(range(COUNT))


def test_sorting(page: Page) -> None:
    page.get_by_role("radio", name="Worst").check()
    page.get_by_label("Sort by").select_option("confidence, lowest first")
    assert names(page) == list(range(23, -1, -1))


def test_search_finds_captions_and_references(page: Page) -> None:
    page.get_by_role("radio", name="All").check()
    page.get_by_label("Search captions and references").fill("STAR  Small")
    found = {
        number
        for number, example in enumerate(toy_examples(COUNT))
        if all(word in "\n".join((example.caption.text, *example.references)) for word in ("star", "small"))
    }
    assert 0 < len(found) < COUNT
    assert set(names(page)) == set(sorted(found)[:24])
    expect(page.get_by_role("status")).to_contain_text(f"{len(found)} match the search.")
    page.keyboard.press("Escape")
    assert names(page) == list(range(24))
    page.get_by_label("Search captions and references").fill("no such word")
    assert names(page) == []


def test_pointing_at_a_word_shows_where_the_model_looked(page: Page) -> None:
    card = page.locator("#cards .card").first
    card.locator(".word").nth(3).hover()  # looked at the middle of the first row
    expect(card.locator("canvas")).to_have_css("opacity", "1")
    dark = card.evaluate(DARKNESS)
    assert min(range(9), key=dark.__getitem__) == 1
    assert dark[8] == pytest.approx(255 * 0.78, abs=2)
    page.get_by_role("heading", name="Examples").hover()
    expect(card.locator("canvas")).to_have_css("opacity", "0")


def test_the_attention_lies_over_what_the_model_saw(page: Page) -> None:
    card = page.locator("#cards .card").first
    card.locator(".word").first.focus()  # looked at the top left corner of the middle three quarters
    left, right = card.evaluate(
        """card => {
          const canvas = card.querySelector("canvas");
          const row = canvas.getContext("2d").getImageData(0, 2, canvas.width, 1).data;
          return [0.06, 0.18].map((x) => row[4 * Math.round(x * canvas.width) + 3]);
        }"""
    )
    assert left == pytest.approx(255 * 0.78, abs=2)  # not seen
    assert right < 40


def test_the_keyboard_is_enough(page: Page) -> None:
    cards = page.locator("#cards .card")
    page.keyboard.press("j")
    expect(cards.nth(0)).to_be_focused()
    page.keyboard.press("j")
    expect(cards.nth(1)).to_be_focused()
    expect(cards.nth(1)).to_be_in_viewport()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(cards.nth(1).locator(".word").nth(1)).to_be_focused()
    expect(cards.nth(1).locator("canvas")).to_have_css("opacity", "1")
    page.keyboard.press("ArrowLeft")
    expect(cards.nth(1).locator(".word").nth(0)).to_be_focused()
    page.keyboard.press("Tab")
    word = cards.nth(1).locator(".word").nth(1)
    expect(word).to_be_focused()
    assert word.evaluate("word => getComputedStyle(word).outlineStyle") == "solid"
    page.keyboard.press("Escape")
    expect(cards.nth(1)).to_be_focused()
    expect(cards.nth(1).locator("canvas")).to_have_css("opacity", "0")
    page.keyboard.press("k")
    expect(cards.nth(0)).to_be_focused()
    page.keyboard.press("/")
    search = page.get_by_label("Search captions and references")
    expect(search).to_be_focused()
    page.keyboard.type("j/k")
    expect(search).to_have_value("j/k")


def test_j_goes_on_to_the_last_picture(page: Page) -> None:
    page.get_by_role("radio", name="All").check()
    for _ in range(COUNT + 2):
        page.keyboard.press("j")
    expect(page.locator("#cards .card").nth(COUNT - 1)).to_be_focused()


def test_letters_can_be_turned_off(page: Page) -> None:
    page.get_by_text("Keys", exact=True).click()
    page.get_by_label("Letters are keys").uncheck()
    page.keyboard.press("j")
    assert page.locator(".card:focus").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390])
def test_nothing_is_cut_off_on_a_phone(browser: Browser, report: Path, scheme: str, width: int) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 700}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page = context.new_page()
    page.goto(report.as_uri())
    expect(page.locator("#cards .card").first).to_be_attached()
    page.get_by_text("The numbers").first.click()
    page.get_by_text("Keys", exact=True).click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert (sum(map(int, ink[4:-1].split(","))) > sum(map(int, paper[4:-1].split(",")))) == (scheme == "dark")
    context.close()


def test_without_javascript(browser: Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    expect(page.locator(".scores")).to_contain_text("53.1")
    expect(page.locator("noscript .card")).to_have_count(12)
    expect(page.locator("noscript img").first).to_be_visible()
    expect(page.locator(".toolbar")).to_be_hidden()
    context.close()


def test_hostile_texts_are_only_shown(open_page: Callable[[str], Page], tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    with file.open("w", encoding="utf-8") as opened:
        write_report(hostile_report(), opened)
    page = open_page(file.as_uri())
    assert page.title() == HOSTILE
    expect(page.locator("#cards h3")).to_have_text([HOSTILE])
    expect(page.locator("#cards .references li")).to_have_text([HOSTILE])
    expect(page.locator("#cards figcaption")).to_have_text([HOSTILE + "?"])
    assert page.locator("#cards img").get_attribute("alt") == HOSTILE
    assert page.locator("#cards img, #cards script").count() == 1
    page.get_by_label("Search captions and references").fill("<img")
    expect(page.locator("#cards .card")).to_have_count(1)
