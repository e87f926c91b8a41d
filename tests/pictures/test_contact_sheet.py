"""The page of a contact sheet."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from hashlib import sha256
from html.parser import HTMLParser
from io import StringIO

from captioner.pictures.contact_sheet import ContactSheet, SheetEntry, write_contact_sheet

HOSTILE = "</textarea></script><script>alert(1)</script>\"'&amp;<!--$style"


def page(*entries: SheetEntry, total: int | None = None, models: tuple[str, ...] = ("toy@0123",)) -> str:
    file = StringIO()
    shown = len(entries)
    write_contact_sheet(ContactSheet(entries=entries, shown=shown, total=total or shown, models=models), file)
    return file.getvalue()


def entry(name: str = "a.jpg", caption: str = "a dog", picture: bytes | None = b"\xff\xd8") -> SheetEntry:
    return SheetEntry(name=name, picture=picture, caption=caption, confidence=0.5)


class Reader(HTMLParser):
    """The elements, the attributes of cards and the captions of a page, as a browser has them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: list[str] = []
        self.captions: list[str] = []
        self.addresses: list[str] = []
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append(tag)
        self.addresses += [attributes.get(name) or "" for name in ("src", "href", "action") if name in attributes]
        if tag == "article":
            self.names.append(attributes["data-name"] or "")
        if tag == "textarea":
            self._open = tag
            self.captions.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = "" if tag == self._open else self._open

    def handle_data(self, data: str) -> None:
        if self._open:
            self.captions[-1] += data


def test_names_captions_and_pictures_are_on_the_page() -> None:
    html = page(entry("b.jpg", "a cat"), entry("a.jpg", "a dog", picture=None))
    found = Reader(html)
    assert found.names == ["b.jpg", "a.jpg"]
    assert [caption.strip("\n") for caption in found.captions] == ["a cat", "a dog"]
    assert [b64decode(one.split(",")[1]) for one in found.addresses if one.startswith("data:image/jpeg")] == [
        b"\xff\xd8"
    ]
    assert "no picture" in html
    assert "toy@0123" in html


def test_text_is_text_whatever_it_says() -> None:
    failed = SheetEntry(name=HOSTILE, picture=None, caption="", confidence=None, error=HOSTILE)
    html = page(entry(HOSTILE, HOSTILE), failed, models=(HOSTILE,))
    found = Reader(html)
    assert found.tags.count("script") == 1
    assert found.names == [HOSTILE] * 2
    assert "<script>alert" not in html


def test_the_policy_allows_this_style_and_this_script_only() -> None:
    html = page(entry())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy[1]
    for tag in ("style", "script"):
        content = re.search(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert content is not None
        assert f"{tag}-src 'sha256-{b64encode(sha256(content[1].encode()).digest()).decode()}'" in policy[1]
    assert all(address.startswith("data:") for address in Reader(html).addresses)
    assert " style=" not in html
    assert not re.search(r"\son[a-z]+=", html)


def test_what_is_not_shown_is_said() -> None:
    assert "The 1 least confident of 1,234 pictures, the least confident first." in page(entry(), total=1234)
    assert "2 pictures, the least confident first." in page(entry(), entry())
    assert "<p>1 picture.</p>" in page(entry())


def test_no_pictures_are_a_page_too() -> None:
    assert Reader(page(models=())).names == []
