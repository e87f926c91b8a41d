"""Sentences to lower-case words and words to a sentence, by nltk's Treebank rules.

The name and the version of the tokenizer go into the bundle, since a model's words mean nothing without them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import nltk
from nltk.tokenize.destructive import NLTKWordTokenizer
from nltk.tokenize.treebank import TreebankWordDetokenizer

NAME = "nltk.NLTKWordTokenizer, lower case, words with a letter or a digit"
VERSION: str = nltk.__version__

_tokenizer = NLTKWordTokenizer()
_detokenizer = TreebankWordDetokenizer()
_has_letter_or_digit = re.compile(r"[^\W_]")
# Most captions (93 of 100 of Flickr8k, 99 of COCO) are plain: words with a blank or a comma and a blank between them,
# and a full stop at the end. Of these nltk's rules split nothing but "'s" and the words of `_split_by_nltk`, so they
# need not be asked, which takes 20 times as long: seconds instead of a minute for the 617,000 captions of COCO.
_word = r"[a-z0-9]+(?:-[a-z0-9]+)*(?:'s)?"
_split_by_nltk = r"(?!.*\b(?:cannot|gimme|gonna|gotta|lemme|wanna)\b)"
_plain = re.compile(rf"{_split_by_nltk}{_word}(?:,? {_word})*(?: ?\.)? *")
_plain_words = re.compile(r"'s|[a-z0-9-]+")


def tokenize(caption: str) -> list[str]:
    """The lower-case words of `caption`; punctuation is dropped, "dog's" becomes "dog", "'s"."""
    lower = caption.lower()
    if _plain.fullmatch(lower):
        return _plain_words.findall(lower)
    return words_by_nltk(caption)


def words_by_nltk(caption: str) -> list[str]:
    """What `tokenize` says, without its short cut for plain captions."""
    return [word for word in _tokenizer.tokenize(caption.lower()) if _has_letter_or_digit.search(word)]


def join(words: Sequence[str]) -> str:
    """`words` as a sentence: contractions are closed up again ("dog", "'s" becomes "dog's")."""
    return str(_detokenizer.detokenize(list(words)))
