"""Sentences to words and back."""

from __future__ import annotations

import nltk
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.text import tokenizer
from captioner.text.tokenizer import join, tokenize, words_by_nltk


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A dog runs .", "a dog runs"),
        ("Two men, one of them OLD, sit!", "two men one of them old sit"),
        ("A dog's ball in the girls' yard.", "a dog 's ball in the girls yard"),
        ("They don't and can't move", "they do n't and ca n't move"),
        ("A merry-go-round and a t-shirt", "a merry-go-round and a t-shirt"),
        ("A sign reads \"No. 5\" & 'stop' ...", "a sign reads no. 5 stop"),
        ("a café in São Paulo", "a café in são paulo"),
        ("3.5 metres , 1,000 people", "3.5 metres 1,000 people"),
        ("", ""),
        (" .,;!? -- _ ", ""),
    ],
)
def test_words(caption: str, words: str) -> None:
    assert tokenize(caption) == words.split()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("a dog 's ball", "a dog's ball"),
        ("they do n't stop and ca n't wait", "they don't stop and can't wait"),
        ("i 'm gon na run", "i'm gonna run"),
        ("the 80 's", "the 80's"),
        ("dog", "dog"),
        ("", ""),
    ],
)
def test_a_sentence(words: str, sentence: str) -> None:
    assert join(words.split()) == sentence


WORDS = "a the dog dogs man men child 's n't 'm 're t-shirt 80 girl run can not gon na café no. in of".split()


@given(st.lists(st.sampled_from(WORDS), max_size=12))
def test_a_sentence_has_one_line_and_no_space_around_it(words: list[str]) -> None:
    sentence = join(words)
    assert sentence == sentence.strip()
    assert "  " not in sentence
    assert sentence.replace(" ", "") == "".join(words)


@given(st.lists(st.sampled_from([word for word in WORDS if word.isalpha() and word not in ("na", "gon", "not")])))
def test_ordinary_words_survive_the_way_there_and_back(words: list[str]) -> None:
    assert tokenize(join(words)) == words


@given(st.text())
def test_any_text_has_words(caption: str) -> None:
    for word in tokenize(caption):
        assert word == word.lower()
        assert not any(character.isspace() for character in word)
        assert any(character.isalnum() for character in word)


def test_its_name_and_version_can_go_into_a_bundle() -> None:
    assert "nltk" in tokenizer.NAME
    assert nltk.__version__ == tokenizer.VERSION


PIECES = st.sampled_from(
    [
        *WORDS,
        "cannot",
        "gonna",
        "wanna",
        "more'n",
        "d'ye",
        ",",
        ", ",
        ".",
        " .",
        "-",
        "--",
        "'",
        '"',
        "\n",
        "x,1",
        "1,5",
    ]
)


@given(st.lists(PIECES | st.characters(codec="utf-8"), max_size=8), st.sampled_from(["", " "]))
def test_the_short_cut_for_plain_captions_says_what_nltk_says(pieces: list[str], between: str) -> None:
    assert tokenize(between.join(pieces)) == words_by_nltk(between.join(pieces))


@given(st.from_regex(r"[a-cns0-1' ,.-]{0,12}", fullmatch=True))
def test_the_short_cut_says_what_nltk_says_of_dense_punctuation(caption: str) -> None:
    assert tokenize(caption) == words_by_nltk(caption)
