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


def tokenize(caption: str) -> list[str]:
    """The lower-case words of `caption`; punctuation is dropped, "dog's" becomes "dog", "'s"."""
    return [word for word in _tokenizer.tokenize(caption.lower()) if _has_letter_or_digit.search(word)]


def join(words: Sequence[str]) -> str:
    """`words` as a sentence: contractions are closed up again ("dog", "'s" becomes "dog's")."""
    return str(_detokenizer.detokenize(list(words)))
