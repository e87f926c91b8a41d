"""How large a report is, how long it takes to write and, in headless Chromium, to open.

    python tests/benchmarks/bench_report.py [--count 1000] [--rounds 5] [--grid 7] [--output FILE.json]

The pictures are generated: 256 x 192 pixels with as much detail as makes a JPEG of a photo's size, twelve words each,
attention over grid x grid places, five references and two alternatives. "Opened" is from asking for the file until the
first card is on the page and the keys work; "first paint" is when the scores are to be seen. Every round is a new page.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from captioner.captions import Alternative, Caption, Word
from captioner.pictures.cards import DISPLAY_SIZE, DisplayPicture, Example
from captioner.pictures.report import Report, ReportScore, write_report

WORDS = "a the dog cat man woman child ball beach grass water runs sits jumps plays on in with red blue".split()
SENTENCE = 12  # words
# When an element first appears, and when the browser first painted, in milliseconds from asking for the page.
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"


def examples(count: int, grid: int) -> Iterator[Example]:
    """So many examples, the same every time."""
    chance, noise = random.Random(1), np.random.default_rng(1)

    def sentence() -> str:
        return " ".join(chance.choices(WORDS, k=SENTENCE))

    for number in range(count):
        attention = noise.dirichlet(np.full(grid * grid, 0.3), SENTENCE).reshape(SENTENCE, grid, grid)
        text = sentence()
        yield Example(
            name=f"photo_{number:05}.jpg",
            picture=DisplayPicture.of(photo(noise)),
            caption=Caption(
                text=text,
                score=-1.0,
                log_probability=-12.0,
                confidence=chance.random(),
                words=tuple(Word(word=word, probability=chance.random()) for word in text.split()),
                alternatives=tuple(
                    Alternative(caption=sentence(), score=-1.5, log_probability=-18.0, confidence=0.2) for _ in range(2)
                ),
                attention=attention.astype(np.float32),
            ),
            seen=(0.125, 0.0, 0.875, 1.0),
            references=tuple(sentence() for _ in range(5)),
            cider=chance.gammavariate(1.5, 40.0),
        )


def photo(noise: np.random.Generator) -> np.ndarray:
    """uint8 (192, 256, 3): large smooth parts with finer and finer detail on them."""
    height, width = 3 * DISPLAY_SIZE // 4, DISPLAY_SIZE
    total = np.full((height, width, 3), 128.0)
    for side, strength in ((4, 60.0), (16, 40.0), (64, 25.0), (192, 10.0)):
        detail = noise.normal(0.0, strength, (side, side, 3)).clip(-127, 127) + 128
        layer = Image.fromarray(detail.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(layer, dtype=float) - 128
    return total.clip(0, 255).astype(np.uint8)


def write(file: Path, count: int, grid: int) -> dict[str, Any]:
    """Write the report; its size, the seconds and the memory that this took, generating the pictures included."""
    process = psutil.Process()
    before, start = process.memory_info().rss, time.perf_counter()
    most = before

    def watched() -> Iterator[Example]:
        nonlocal most
        for example in examples(count, grid):
            most = max(most, process.memory_info().rss)
            yield example

    report = Report(
        title="Benchmark",
        scores=(ReportScore(name="CIDEr-D", value=53.1, low=49.6, high=56.7),),
        examples=watched(),
    )
    with file.open("w", encoding="utf-8") as opened:
        write_report(report, opened)
    return {
        "megabytes": round(file.stat().st_size / 1e6, 2),
        "bytes a picture": round(file.stat().st_size / count),
        "seconds to generate and write": round(time.perf_counter() - start, 2),
        "megabytes of memory more": round((most - before) / 1e6, 1),
    }


def open_once(browser: Browser, file: Path) -> dict[str, float]:
    """Milliseconds of one visit."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    start = time.perf_counter()
    page.goto(file.as_uri(), wait_until="commit", timeout=120_000)
    page.locator("#cards .card img").first.wait_for(timeout=120_000)
    opened = 1000 * (time.perf_counter() - start)
    page.wait_for_load_state("load")
    found = {"opened": opened, "first paint": page.evaluate(PAINTED), **actions(page)}
    context.close()
    return {name: float(value) for name, value in found.items() if value is not None}


def actions(page: Page) -> dict[str, float]:
    """Milliseconds of what a reader does: a search, all pictures in another order, a word."""
    timed = """([selector, value, kind]) => {
      const element = document.querySelector(selector);
      const start = performance.now();
      if (value !== null) element.value = value;
      if (kind === "click") element.click(); else element.dispatchEvent(new Event(kind, {bubbles: true}));
      document.body.getBoundingClientRect();  // layout included
      return performance.now() - start;
    }"""
    return {
        "search": page.evaluate(timed, ["#search", "dog beach", "input"]),
        "all, sorted": page.evaluate(timed, ['input[value="all"]', None, "click"]),
        "attention of a word": page.evaluate(timed, ["#cards .word", None, "click"]),
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": round(statistics.median(values), 1), "min": round(min(values), 1), "max": round(max(values), 1)}


def main() -> None:
    """Read the arguments, measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--grid", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path("runs/bench_report.json"))
    arguments = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("no chromium on this machine (apt-get install chromium)", file=sys.stderr)
        sys.exit(0)  # a machine without a browser skips this
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        result: dict[str, Any] = {"pictures": arguments.count, **write(file, arguments.count, arguments.grid)}
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            visits = [open_once(browser, file) for _ in range(arguments.rounds)]
            result["chromium"] = browser.version
            browser.close()
    result["milliseconds"] = {name: spread([visit[name] for visit in visits if name in visit]) for name in visits[0]}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
