"""The scorers' tokeniser: what coco-caption does to every caption before BLEU, ROUGE-L and CIDEr see it.

The reference is Stanford's PTBTokenizer of CoreNLP 3.4.1 with ``-preserveLines -lowerCase``, after which coco-caption
drops 17 punctuation tokens. This is that in plain Python, written from the reference's observed behaviour, and for
scores only: the model's own words come from :mod:`captioner.text`.

Like the reference, this is a list of rules: at each place the rule that matches most characters wins, and the first of
equals. So a new rule may be written wherever it reads well. Oddities of the reference are kept: brackets stay, as
``-lrb-`` (the dropped tokens name them in upper case, and the lower-casing comes first), a full stop before a comma
stays with its word, and ``:)`` is one token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# What coco-caption drops, without the four brackets, which it never meets in upper case. It tells opening quotation
# marks, ` and ``, from closing ones; here that would be lost work, since all of them are dropped.
DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

Emit = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Rule:
    """What a pattern emits for the text that it takes.

    A pattern takes all that it matches; or, if it has a group, the group only: what the pattern matches after the group
    must follow, and counts when the longest match is sought, but stays for the next rule.
    """

    pattern: re.Pattern[str]
    emit: Emit


def tokenize(caption: str) -> list[str]:
    """The lower-case words that coco-caption would score.

    A few tokens (telephone numbers, ``1 1/2``) hold a no-break space, as they do there. Each caption is read by itself;
    the reference reads all of them as one text, so that a last ``B.`` or ``no.`` can lose or keep its full stop by the
    caption in the next line.
    """
    tokens: list[str] = []
    place = 0
    while place < len(caption):
        plain = _PLAIN.match(caption, place)
        if plain:
            tokens.append(plain[1])
            place = plain.end()
        else:
            emitted, place = _next(caption, place)
            tokens.extend(emitted)
    return [token for token in map(str.lower, tokens) if token not in DROPPED]


def _next(caption: str, place: int) -> tuple[Sequence[str], int]:
    """What the rule with the longest match at ``place`` emits, and where the text that it takes ends."""
    winner: tuple[Rule, re.Match[str]] | None = None
    for rule in _RULES:
        match = rule.pattern.match(caption, place)
        if match and (winner is None or match.end() > winner[1].end()):
            winner = rule, match
    if winner is None:
        return [caption[place]], place + 1
    rule, match = winner
    group = min(1, rule.pattern.groups)
    return rule.emit(match[group]), match.end(group)


# --- What rules emit --------------------------------------------------------------------------------------------------

_SYMBOLS = {
    "(": "-LRB-",
    ")": "-RRB-",
    "[": "-LSB-",
    "]": "-RSB-",
    "{": "-LCB-",
    "}": "-RCB-",
    "&": "&",
    "&amp;": "&",
    "&lt;": "<",
    "&gt;": ">",
    "&quot;": "''",
    "&apos;": "'",
    "\u20ac": "$",
    "\u00a3": "#",
    "\u00a2": "cents",
    "\u00bc": "1/4",
    "\u00bd": "1/2",
    "\u00be": "3/4",
    "\u2153": "1/3",
    "\u2154": "2/3",
}


def _itself(text: str) -> Sequence[str]:
    return [text]


def _nothing(text: str) -> Sequence[str]:
    return []


def _bracketed(text: str) -> Sequence[str]:
    """One token in which the round brackets are spelled out and spaces become no-break spaces."""
    return [text.replace("(", "-LRB-").replace(")", "-RRB-").replace(" ", "\u00a0")]


def _apostrophe(text: str) -> Sequence[str]:
    """One token with typewriter apostrophes for the curly ones."""
    return [_CURLY.sub("'", text)]


def _ampersand(text: str) -> Sequence[str]:
    return [text.replace("&amp;", "&")]


def _symbol(text: str) -> Sequence[str]:
    return [_SYMBOLS[text]]


def _split_after(length: int) -> Emit:
    """Two tokens, the first of ``length`` characters."""
    return lambda text: [text[:length], text[length:]]


# --- The pieces of patterns -------------------------------------------------------------------------------------------

_CURLY = re.compile("[\u2018\u2019\u201b\u0092]")
_APOSTROPHE = "(?:['\u2018\u2019\u201b\u0092]|&apos;)"
_FRACTIONS = "\u00bc-\u00be\u2150-\u215e"  # \w has them, the reference's letters and digits have not
_LETTER = rf"[^\W\d_{_FRACTIONS}]"
_LETTER_OR_DIGIT = rf"[^\W_{_FRACTIONS}]"
_WORD = rf"{_LETTER_OR_DIGIT}+"
_NUMBER = r"(?:\d+(?:[.:,]\d+)*|(?:[.:,]\d+)+)"
_ACRONYM = r"[A-Za-z](?:\.[A-Za-z])+"
_ELISION = f"(?:[dDlLoO]{_APOSTROPHE}(?={_LETTER_OR_DIGIT}))"  # the start of o'clock
_HYPHENATED = rf"{_ELISION}?{_LETTER_OR_DIGIT}(?:{_LETTER_OR_DIGIT}|[.,])*(?:-(?:{_ACRONYM}\.|{_ELISION}?{_WORD}))+"
_DOTTED = rf"{_LETTER}{_LETTER_OR_DIGIT}*(?:\.{_LETTER}{_LETTER_OR_DIGIT}*)+"
_SLASH_PART = rf"{_WORD}(?:-{_LETTER}+){{0,2}}"
_AUXILIARY = rf"{_APOSTROPHE}(?i:s|m|d|ll|re|ve)"
_NOT = rf"[nN]{_APOSTROPHE}[tT]"

# Abbreviations that keep their full stop, however they are written.
_ABBREVIATIONS = """
    adj adm adv al ala alex apr ariz assn assoc asst atty attys aug ave bhd bldg blvd brig bros calif capt cf cie cmdr
    co col colo conn corp cos cpl ct dak dec dept det dr drs elec ens esq est etc ext feb fla fri ft ga gen gov govs hon
    inc ind insp intl invt jan jos jr jul jun kan kans ky lieut lt ltd maj mar md messrs mich minn mlle mme mo mon mont
    mr mrs ms msgr mt natl neb nev nov oct okla penn pfc ph plc pres prof pvt rd rep reps rev rt sen sens sep sept seq
    sfc sgt spc sq sr st ste supt sys tel tenn thu thurs treas tue tues univ va vs vt wed wis wisc wm wyo
"""
_CAPITALISED = "ark az del ill la mass miss ore pa tex wash"  # only with a capital first letter: else they are words
_UNCAPITALISED = "mfg mtg ppte ppty pte ptes pty ptys"  # only with small letters after the first
_BEFORE_NUMBERS = "art ca fig figs no nos op pp prop"  # only before a number


# A single letter and a full stop are an initial, unless one of these words, written with a capital, follows.
_STARTS = """
    a about according additionally after an as at but earlier he her here however if in it last many more mr\\. ms\\.
    now once one other our she since so some such that the their then there these they this we what when while yet you
"""


def _any_of(words: str) -> str:
    return "(?:" + "|".join(words.split()) + ")"


_ABBREVIATION = "|".join(
    [
        f"(?i:{_any_of(_ABBREVIATIONS)})",
        f"(?=[A-Z])(?i:{_any_of(_CAPITALISED)})",
        "|".join(f"[{word[0].upper()}{word[0]}]{word[1:]}" for word in _UNCAPITALISED.split()),
        _LETTER,
    ]
)

_SENTENCE_START = f"(?=[A-Z])(?i:{_any_of(_STARTS)})"

# Nearly all words: small letters, then a space or the end, and none of those that are split without an apostrophe.
_SPLIT = {"cannot": 3, "gonna": 3, "gotta": 3, "lemme": 3, "gimme": 3, "wanna": 3}
_PLAIN = re.compile(rf"(?!(?:{'|'.join(_SPLIT)}|more)\b)([a-z]+)(?: +|$)")


def _rule(pattern: str, emit: Emit = _itself) -> Rule:
    return Rule(re.compile(pattern), emit)


_RULES = (
    _rule(r"\s+", _nothing),
    _rule(r"[\U00010000-\U0010ffff]", _nothing),  # the reference reads UTF-16 and cannot read these
    # Words
    *(_rule(f"(?i:{word})", _split_after(length)) for word, length in _SPLIT.items()),
    _rule(_WORD),
    _rule(rf"({_LETTER}+?){_NOT}"),
    _rule(_NOT, _apostrophe),
    _rule(rf"({_WORD}){_AUXILIARY}"),
    _rule(rf"{_AUXILIARY}(?!{_LETTER})", _apostrophe),
    _rule(r"'[tT](?=[iI][sS]|[wW][aA][sS])"),  # 'tis, 'twas
    _rule(rf"([mM][oO][rR][eE]){_APOSTROPHE}[nN](?!{_LETTER})"),
    _rule(rf"[A-HJ-XZdlno]{_APOSTROPHE}{_LETTER}{{2,}}"),  # o'brien
    _rule(rf"[A-Za-z]+[aeiouyAEIOUY]{_APOSTROPHE}[aeiouA-Z][A-Za-z]*"),
    _rule(rf"[jJyY]{_APOSTROPHE}(?={_LETTER})"),  # y'all
    _rule(rf"{_APOSTROPHE}(?i:em|til|cause|n{_APOSTROPHE}|n(?!{_LETTER}))"),
    _rule(rf"{_APOSTROPHE}\d\d(?:[sS]|(?=\s|$))"),  # '90s
    _rule(rf"(?i:c'mon|(?:ol|somethin){_APOSTROPHE}|ma{_APOSTROPHE}am|o{_APOSTROPHE}clock)"),
    # Compounds
    _rule(_HYPHENATED),
    _rule(rf"{_SLASH_PART}(?:/{_SLASH_PART}){{1,2}}"),
    _rule(rf"(?:{_WORD}(?:-{_WORD})*_)+{_WORD}(?:-{_WORD})*"),
    _rule(_DOTTED),
    _rule(r"[A-Z]+(?:(?:&|&amp;|\+)[A-Z]+)+", _ampersand),
    _rule(r"[A-Za-z]+[!?][A-Za-z]+"),
    _rule(r"[cC]\+\+|[cCfF]#|[A-Z]+\$"),
    # Abbreviations
    _rule(rf"{_ACRONYM}\.?"),
    _rule(rf"(?:{_ABBREVIATION})\."),
    _rule(rf"([A-Za-z])\.\s+{_SENTENCE_START}(?:\s|$)"),
    _rule(rf"((?i:{_any_of(_BEFORE_NUMBERS)})\.)\s?\d"),  # No. 5
    _rule(rf"((?:{_WORD}|{_HYPHENATED}|{_DOTTED})\.)[,;:]"),
    # Numbers
    _rule(rf"[-+]?{_NUMBER}"),
    _rule(r"(?:\d{1,4}[- ])?\d{1,4}/\d{1,4}|\d{1,4}/\d{1,4}/\d{1,4}", _bracketed),
    _rule(r"(?:\+?\d{1,3}[-.])?(?:\(\d{3}\)[-. ]?|\d{3}[-. ])\d{3}[-. ]\d{4}|\d{3}[-.]\d{4}", _bracketed),
    # The net
    _rule(r"https?://[^\s\"<>|()]*[^\s\"<>|.!?,;:()'-]"),
    _rule(r"#?[A-Za-z]\w*(?:\.[A-Za-z]\w*)*\.(?:com|net|org|edu)(?:[/?][^\s\"<>|()]+[^\s\"<>|.!?,;:()'-])?"),
    _rule(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*"),
    _rule(r"@[A-Za-z_][A-Za-z0-9_]*|#[A-Za-z]+"),
    _rule(r"</?[A-Za-z!?][^<>]*>", _bracketed),
    # Punctuation
    _rule(r"&nbsp;", _nothing),
    _rule("|".join(map(re.escape, sorted(_SYMBOLS, key=len, reverse=True))), _symbol),
    _rule(r"\.\.\.+|\. \. \.|\u2026", _nothing),
    _rule(r"-{2,4}|[\u2013\u2014]|&mdash;", _nothing),
    _rule("''|``|[\"\u2018\u2019\u201c\u201d]", _nothing),
    _rule(r"[!?]+|_+|[*]+|-{5,}|@+|##+"),
    _rule(r"[<>]?[:;=]['o*-]?[()DPdpO\\{@|\[\]](?![A-Za-z0-9])", _bracketed),
    _rule(r"\^_\^|-_-"),
)
