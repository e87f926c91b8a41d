"""The scorers' tokeniser: what coco-caption does to every caption before BLEU, ROUGE-L and CIDEr see it.

The reference is Stanford's PTBTokenizer of CoreNLP 3.4.1 with ``-preserveLines -lowerCase``, after which coco-caption
drops 17 punctuation tokens. This is that in plain Python, written to do what the reference was observed to do, and for
scores only: the model's own words come from :mod:`captioner.text`.

Like the reference, this is a list of rules (:mod:`captioner.evaluation.ptb_rules`): at each place the rule that matches
most characters wins, and the first of equals. What no rule matches is dropped. Oddities of the reference are kept:
brackets stay, as ``-lrb-`` (the dropped tokens name them in upper case, and the lower-casing comes first), a full stop
before a comma stays with its word, and ``:)`` is one token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from captioner.evaluation.ptb_characters import lower
from captioner.evaluation.ptb_rules import RULES, SPACE, SPLIT, Rule

# What coco-caption drops, without the four brackets, which it never meets in upper case. It tells opening quotation
# marks, ` and ``, from closing ones; here that would be lost work, since all of them are dropped.
DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

# Nearly all words: plain letters before a space or the end, but none of those that are split without an apostrophe. No
# rule joins such a word to what follows.
_PLAIN = re.compile(rf" *(?!(?i:{'|'.join(SPLIT)})[ \n])([A-Za-z]+)(?: ++(?!{SPACE})(?:\. *\n)?|\n)")

_LINE_BREAKS = re.compile("[\r\n\x0b\x0c\u2028\u2029]")
_BEYOND_16_BITS = re.compile("[\U00010000-\U0010ffff]")


def tokenize(caption: str) -> list[str]:
    """The lower-case words that coco-caption would score.

    A few tokens (telephone numbers, ``1 1/2``) hold a no-break space, as they do there.

    Each caption is read by itself, as one line between others; the reference reads all of them as one text. There a
    last ``B.`` or ``no.`` can lose or keep its full stop by the caption in the next line, and the last caption of all
    ends with the text and not with a line: a last ``'ve`` that stands alone loses its apostrophe.

    A character that ends a line is a space. coco-caption makes \\n one, but not \\r, \\x0b, \\x0c, U+2028 and U+2029:
    its program ends a line there, so this caption loses what follows, and every later one is scored with the words of
    another.
    """
    text = _LINE_BREAKS.sub(" ", caption if caption.isascii() else _in_16_bits(caption)) + "\n"
    tokens: list[str] = []
    place = 0
    while place < len(text):
        plain = _PLAIN.match(text, place)
        if plain:
            tokens.append(plain[1])
            place = plain.end()
        else:
            emitted, place = _next(text, place)
            tokens.extend(emitted)
    if tokens:
        tokens[-1] = tokens[-1].rstrip()  # an address may end with an odd space, and coco-caption strips its lines
    if not caption.isascii():
        tokens = [_in_whole_characters(token) for token in tokens]
    return [token for token in map(lower, tokens) if token and token not in DROPPED]


def _next(text: str, place: int) -> tuple[Sequence[str], int]:
    """What the rule with the longest match at ``place`` emits, and where the text that it takes ends."""
    winner: tuple[Rule, re.Match[str]] | None = None
    for rule in RULES:
        match = rule.pattern.match(text, place)
        if match and (winner is None or match.end() > winner[1].end()):
            winner = rule, match
    if winner is None:
        return [], place + 1
    rule, match = winner
    group = min(1, rule.pattern.groups)
    return rule.emit(match[group]), match.end(group)


def _in_16_bits(text: str) -> str:
    """``text`` as Java sees it: a character beyond U+FFFF is two, the halves of a surrogate pair."""
    return _BEYOND_16_BITS.sub(_halves, text)


def _halves(match: re.Match[str]) -> str:
    offset = ord(match[0]) - 0x10000
    return chr(0xD800 + (offset >> 10)) + chr(0xDC00 + (offset & 0x3FF))


def _in_whole_characters(token: str) -> str:
    return token.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
