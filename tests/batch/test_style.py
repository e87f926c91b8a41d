"""Captions in words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.batch.style import ALT_MAX_LENGTH, LINE_MARK, TextStyle
from captioner.errors import ConfigurationError
from tests.batch.writers.samples import MODEL, row


def said(caption: str, image: str = "photos/dogs/rex.old.jpg", **options: object) -> str:
    return TextStyle(**options).text(row(image, caption, 0.8125))  # type: ignore[arg-type]  # options of the test


def test_a_caption_stays_as_it_is_without_options() -> None:
    assert said("a  picture of a dog") == "a  picture of a dog"


def test_a_template_has_its_fields_and_formats() -> None:
    template = "{folder}|{stem}|{name}|{confidence:.2f}|{{{caption}}}"
    assert said("a dog", template=template, prefix="<", suffix=">") == "<dogs|rex.old|rex.old.jpg|0.81|{a dog}>"


def test_a_picture_without_a_folder_has_an_empty_one() -> None:
    assert said("a dog", image="rex.jpg", template="[{folder}]") == "[]"


def test_line_feeds_of_a_name_do_not_break_a_text() -> None:
    assert said("a dog", image="a\nb.jpg", template="{stem}") == "a b"


@pytest.mark.parametrize("template", ["{author}", "{}", "{0}", "{caption.upper}", "{caption[0]}"])
def test_an_unknown_field_is_refused_with_the_known_ones(template: str) -> None:
    with pytest.raises(ConfigurationError, match=r"unknown field .*: use \{caption\}, \{stem\}, \{name\}, \{folder\}"):
        TextStyle(template=template)


@pytest.mark.parametrize("template", ["{caption", "}", "{caption:d}", "{confidence:%%}", "{caption!x}"])
def test_a_template_that_cannot_be_filled_in_is_refused(template: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be filled in"):
        TextStyle(template=template)


def test_a_length_that_fits_no_words_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="max_length must be at least 10, not 9"):
        TextStyle(max_length=9)


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        ("a dog runs", "A dog runs."),
        ("a picture of a dog", "A dog."),
        ("This is an image of a photo of  two dogs", "Two dogs."),
        ("there is a photograph showing a dog", "A dog."),
        ("a man takes a picture of a dog", "A man takes a picture of a dog."),
        ("a black and white photo of a dog", "A black and white photo of a dog."),
        ("pictures often hang here", "Pictures often hang here."),
        ("a picture of", "A picture of."),
        ("is it a dog?", "Is it a dog?"),
        ('a sign says "stop."', 'A sign says "stop."'),
        ("“éclair” on a plate ,", "“Éclair” on a plate."),
        ("a dog\nruns", "A dog runs."),
    ],
)
def test_alternative_text(caption: str, text: str) -> None:
    assert said(caption, alt=True) == text


def test_a_long_text_is_cut_after_a_word() -> None:
    assert said("a dog runs, far away", max_length=12) == "a dog runs…"
    assert said("a dog runs far", max_length=14) == "a dog runs far"
    assert said("incomprehensibilities of dogs", max_length=12) == "incomprehen…"
    assert said("e\u0301" * 20, max_length=12) == "e\u0301" * 5 + "…"


def test_alternative_text_is_short_by_itself() -> None:
    text = said("a dog runs " * 40, alt=True)
    assert text == ("A" + ("a dog runs " * 40)[1:])[:122] + "…"
    assert len(said("a dog runs " * 40, alt=True, max_length=300)) > ALT_MAX_LENGTH


@given(caption=st.text(max_size=200), limit=st.integers(10, 60), alt=st.booleans(), mark=st.booleans())
def test_no_text_is_longer_than_allowed(caption: str, limit: int, alt: bool, mark: bool) -> None:
    style = TextStyle(alt=alt, max_length=limit, mark=mark)
    assert len(style.text(row("a.jpg", caption))) <= limit
    line = style.line(row("a.jpg", caption))
    assert len(line) <= max(limit, len(LINE_MARK) + 1)
    assert not re.search(r"[\n\r\t]", line)


def test_a_mark_says_that_a_machine_wrote_it() -> None:
    style = TextStyle(mark=True)
    assert style.line(row("a.jpg", "a dog")) == "a dog (machine-made)"
    assert style.document(row("a.jpg", "a dog")) == f"a dog\n[machine-made by {MODEL}]\n"
    assert style.text(row("a.jpg", "a dog")) == "a dog"
    assert TextStyle().document(row("a.jpg", "a dog")) == "a dog\n"
