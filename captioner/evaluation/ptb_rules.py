r"""The rules of the scorers' tokeniser: which texts are tokens, and what is written for them.

A table to be read from the end: :data:`RULES`, in the order that decides between matches of one length, over the pieces
of patterns above it. ``tests/evaluation/test_ptb.py`` holds every rule against the reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from captioner.evaluation.ptb_characters import DIGITS, LETTERS, MARKS, SYMBOLS

Emit = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Rule:
    """What a pattern emits for the text that it takes.

    A pattern takes all that it matches; or, if it has a group, the group only: what the pattern matches after the group
    must follow, and counts when the longest match is sought, but stays for the next rule.
    """

    pattern: re.Pattern[str]
    emit: Emit


# --- What rules emit --------------------------------------------------------------------------------------------------

_SYMBOLS = {
    "(": "-LRB-",
    ")": "-RRB-",
    "[": "-LSB-",
    "]": "-RSB-",
    "{": "-LCB-",
    "}": "-RCB-",
    "&amp;": "&",
    "&lt;": "<",
    "&gt;": ">",
    "\u20ac": "$",
    "\u0080": "$",
    "\u00a4": "$",
    "\u20a0": "$",
    "\u00a3": "#",
    "\u00a2": "cents",
    "\u00bc": "1/4",
    "\u00bd": "1/2",
    "\u00be": "3/4",
    "\u2153": "1/3",
    "\u2154": "2/3",
}
_QUOTATION_MARKS = (
    dict.fromkeys(map(ord, "\u2018\u201b\u0091\u2039"), "`")
    | dict.fromkeys(map(ord, "\u2019\u0092\u203a"), "'")
    | dict.fromkeys(map(ord, "\u201c\u0093\u00ab"), "``")
    | dict.fromkeys(map(ord, '\u201d\u0094\u00bb"'), "''")
)
_AMPERSAND = re.compile("(?i:&amp;)")


def _itself(text: str) -> Sequence[str]:
    return [text]


def _nothing(text: str) -> Sequence[str]:
    return []


def _word(text: str) -> Sequence[str]:
    """One token without its soft hyphens; if it has nothing else, a hyphen."""
    return [text.replace("\u00ad", "") or "-"]


def _spaced(text: str) -> Sequence[str]:
    """One token in which spaces become no-break spaces."""
    return [text.replace(" ", "\u00a0")]


def _bracketed(text: str) -> Sequence[str]:
    """The same, with the round brackets spelled out."""
    return _spaced(text.replace("(", "-LRB-").replace(")", "-RRB-"))


def _quotation(text: str) -> Sequence[str]:
    """One token in which ` and ' stand for the quotation marks of print."""
    return [text.replace("&apos;", "'").replace("&quot;", "''").translate(_QUOTATION_MARKS)]


def _ampersand(text: str) -> Sequence[str]:
    return [_AMPERSAND.sub("&", text)]


def _symbol(text: str) -> Sequence[str]:
    return [_SYMBOLS[text.lower()]]


def _always(token: str) -> Emit:
    return lambda text: [token]


def _split_after(length: int) -> Emit:
    """Two tokens, the first of ``length`` characters."""
    return lambda text: [text[:length], text[length:]]


# --- The pieces of patterns -------------------------------------------------------------------------------------------

_APOSTROPHE = "(?:['\u2019\u0092]|(?i:&apos;))"
_ANY_APOSTROPHE = "(?:['\u2019\u0092\u2018\u201b\u0091`]|(?i:&apos;))"
SPACE = r"[ \t\xa0\u2000-\u200a\u3000]"
_SPACE_OR_END = r"[ \t\n\x85\xa0\u2000-\u200a\u3000]"
_LETTER = f"[{LETTERS}]"
_DIGIT = f"[{DIGITS}]"
_LETTER_OR_DIGIT = f"[{LETTERS}{DIGITS}]"

# In ordinary words, marks, the soft hyphen and some entities are letters too.
_WORD_LETTER = rf"(?:[{LETTERS}{MARKS}\xad]|&[aeiouAEIOU](?i:acute|grave|uml);)"
_WORD_PART = f"{_WORD_LETTER}(?:{_WORD_LETTER}|{_DIGIT})*+"
_WORD = f"{_WORD_PART}(?:[.!?]{_WORD_PART})*+"
_AUXILIARY = rf"{_APOSTROPHE}(?:[msdMSD]|(?i:ll|re|ve))"
_NOT = rf"[nN]{_ANY_APOSTROPHE}[tT]"

_ELISION = f"(?:[dDlLoO]{_ANY_APOSTROPHE}{_LETTER_OR_DIGIT})"  # the start of d'or
_COMPOUND = rf"{_ELISION}?{_LETTER_OR_DIGIT}+(?:[-_\u058a\u2010\u2011]{_ELISION}?{_LETTER_OR_DIGIT}+)*"
_ACRONYM = r"[A-Za-z](?:\.[A-Za-z])+"
_RELATION = r"(?i:(?:canada|eu|japan|korean|non|sino)-u\.s|u\.s\.-(?:u\.k|u\.s\.s\.r))"
_HYPHENATED = rf"[A-Za-z0-9][A-Za-z0-9.,\xad]*(?:-(?:{_ACRONYM}\.|[A-Za-z0-9\xad]+))+"
_PARTNERS = r"[A-Z]+(?:(?:(?i:&amp;)|[&+])[A-Z]+)+"
_SLASH_PART = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
_NUMBER = rf"(?:{_DIGIT}*(?:[.:,\xad\u066b\u066c]{_DIGIT}+)+|{_DIGIT}+)"

_NAME = r"[A-Za-z][A-Za-z0-9_:.-]*"  # of an element or an attribute
_ATTRIBUTE = rf"{_NAME}(?: *= *(?:'[^'\n]*'|\"[^\"\n]*\"))?"
_TAG = rf"<(?:[!?][A-Za-z-][^>\n]*|{_NAME}(?: +{_ATTRIBUTE})* *+/?|/{_NAME}) *+>"
_HOST = r"(?:[^ \t\n\"<>|.!?(){},]+\.)"
_BARE_HOST = r"(?:[^ \t\n\"`'<>|.!?(){},-_$]+\.)"  # ,-_ is a range in the reference: it takes in digits and capitals
_PATH = r"/[^ \t\n\"<>|()]+[^ \t\n\"<>|.!?(){},-]"
_MAILBOX = r"[a-zA-Z0-9][^ \t\n\"<>|(){}\xa0]*"
_DOMAIN = r"[^ \t\n\"<>|(){}\xa0.]+"


def _any_of(words: str) -> str:
    return "(?i:" + "|".join(words.split()) + ")"


# Abbreviations keep their full stop. These keep it also from one letter that follows at once.
_ABBREVIATION = _any_of(r"""
    al ala apr ariz assn aug bancorp bhd bldg blvd bros calif co colo conn corp cos ct dak dec ed\.d esq est etc ext feb
    fla fri ga inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb nev nov oct okla penn ph\.d
    plc rd rt sep sept seq sq sr sys tel tenn thu thurs tue tues univ va vt wed wis wisc wyo
""")
_CAPITALISED = _any_of("ark az del ill la mass miss ore pa tex wash")  # with a small first letter they are words
_TITLE = _any_of("""
    adj adm adv alex assoc asst atty attys ave brig capt cf cie cmdr col comdr cpl dept det dr drs elec ens ft gen gov
    govs hon insp invt jos lieut lt maj messrs mlle mme mr mrs ms msgr mt natl pfc ph pres prof profs pvt rep reps rev
    sen sens sfc sgt spc st ste supt supts treas vs wm
""")
_BEFORE_NUMBERS = _any_of("art ca fig figs no nos op pp prop")
_SHORTENED = rf"(?:{_ABBREVIATION}|(?=[A-Z]){_CAPITALISED}|(?i:pp?t)[ey](?i:s?))\."
_SHORTENED_TITLE = rf"(?:{_TITLE}|(?i:m)[ft](?i:g)|[A-Za-z])\."

# A single letter and a full stop are an initial, unless one of these words, written with a capital, follows.
_SENTENCE_START = "(?=[A-Z])" + _any_of(r"""
    a about according additionally after an as at but earlier he her here however if in it last many more mr\. ms\. now
    once one other our she since so some such that the their then there these they this we what when while yet you
""")
_EXTENSION = _any_of("""
    bat bmp c class cgi cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl png ppt ps py sql
    tar txt wav x xml zip
""")
_FILE_NAME = rf"(?:{_WORD_LETTER}|{_DIGIT})+(?:\.(?:{_WORD_LETTER}|{_DIGIT})+)*\.{_EXTENSION}"

_AREA = r"(?:\([0-9]{2,3}\)[ \xa0]?|(?:\+\+?)?(?:[0-9]{2,4}[- \xa0])?[0-9]{2,4}[- \xa0])"  # of a telephone number
_FACES = (
    r"[\^x=~<>]\.\[\^x=~<>\]",  # this one by a slip of the reference
    r"[-\^x=~<>']_[-\^x=~<>']",
    r"\([-\^x=~<>'][_.]?[-\^x=~<>']\)",
    r"\([\^x=~<>']-[\^x=~<>'`]\)",
)

SPLIT = {"cannot": 3, "gonna": 3, "gotta": 3, "lemme": 3, "gimme": 3, "wanna": 3}  # and how long the first part is


def _rule(pattern: str, emit: Emit = _itself) -> Rule:
    return Rule(re.compile(pattern), emit)


RULES = (
    *(_rule(f"(?i:{word})", _split_after(length)) for word, length in SPLIT.items()),
    _rule(_TAG, _spaced),
    _rule("(?i:&(?:md|mdash|ndash);)", _always("--")),
    _rule("(?i:&(?:ht|tl|ur|lr|qc|ql|qr|odq|cdq|#[0-9]+);)"),
    # Words
    _rule(f"({_WORD}){_AUXILIARY}", _word),
    _rule(rf"([A-Za-z\xad]*[A-MO-Za-mo-z]\xad*){_NOT}", _word),
    _rule(_WORD, _word),
    _rule(rf"{_APOSTROPHE}[nN]{_APOSTROPHE}?"),  # 'n'
    _rule(rf"[lLdDjJ]{_APOSTROPHE}"),
    _rule(rf"([yY]{_APOSTROPHE}){_LETTER}"),  # y'all
    _rule(rf"(?i:dunkin|somethin|ol){_APOSTROPHE}"),
    _rule(rf"{_APOSTROPHE}(?i:em|till?|cause)"),
    _rule(rf"{_APOSTROPHE}[2-9]0(?i:s)"),  # '90s
    _rule(rf"[A-HJ-XZn]{_ANY_APOSTROPHE}{_LETTER}{{2,}}"),  # O'Brien
    _rule(rf"{_LETTER}+[aeiouyAEIOUY]{_ANY_APOSTROPHE}[aeiouA-Z]{_LETTER}*"),  # Hawai'i, ma'am
    _rule(rf"[oO]{_ANY_APOSTROPHE}[oO]"),
    _rule(r"(?i:cont'd\.?|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l)"),
    # The net
    _rule(r"(?i:https?)://[^ \t\n\"<>|(){}]+[^ \t\n\"<>|.!?(){},-]"),
    *(_rule(rf"(?i:www\.){hosts}[a-zA-Z]{{2,4}}{path}") for hosts, path in ((f"{_HOST}+", ""), (f"{_HOST}+?", _PATH))),
    *(
        _rule(f"{hosts}(?i:com|net|org|edu){path}")
        for hosts, path in ((f"{_BARE_HOST}+", ""), (f"{_BARE_HOST}+?", _PATH))
    ),
    _rule(rf"(?i:&lt;|<)?{_MAILBOX}@(?:{_DOMAIN}\.)*{_DOMAIN}(?i:&gt;|>)?"),
    _rule(r"@[A-Za-z_][A-Za-z_0-9]*"),
    _rule(f"#{_WORD_LETTER}+"),
    # What is left of words that were split
    _rule(f"({_AUXILIARY})[^A-Za-z]", _quotation),
    _rule(_NOT, _quotation),
    # Numbers
    _rule(rf"{_DIGIT}{{1,2}}[-/]{_DIGIT}{{1,2}}[-/]{_DIGIT}{{2,4}}"),  # 12/25/2013
    _rule(rf"[-+]?{_NUMBER}", _word),
    _rule(r"[\u207a\u207b\u208a\u208b]?(?:[\u2070\xb9\xb2\xb3\u2074-\u2079]+|[\u2080-\u2089]+)"),
    _rule(rf"(?:{_DIGIT}{{1,4}}[- \xa0])?{_DIGIT}{{1,4}}(?:\\?/|\u2044){_DIGIT}{{1,4}}", _spaced),  # 1 1/2
    # Compounds
    _rule(r"(?i:-[lr][rcs]b-|c\.d\.s|pro-|anti-|s(?:&|&amp;)(?:p-500|ls))", _ampersand),
    _rule(rf"{_SLASH_PART}(?:\\?/{_SLASH_PART}){{1,2}}"),
    _rule(r"[A-Z]*\$|#"),
    # Full stops that stay with their word
    _rule(rf"([A-Za-z])\.{_SPACE_OR_END}+(?:{_SENTENCE_START}|{_TAG}){_SPACE_OR_END}"),  # B. The: here it does not
    _rule(rf"({_SHORTENED})(?s:..)"),
    _rule(_SHORTENED),
    _rule(_SHORTENED_TITLE),
    _rule(rf"{_ACRONYM}\.?|{_RELATION}\."),
    _rule(rf"({_RELATION}){_SPACE_OR_END}"),
    _rule(rf"({_BEFORE_NUMBERS}\.){_SPACE_OR_END}?{_DIGIT}"),  # No. 5
    _rule(rf"({_APOSTROPHE}[0-9][0-9]){_SPACE_OR_END}"),  # '05
    *(_rule(rf"({word}\.)[,;:\u3001]", _word) for word in (_WORD, _COMPOUND, _HYPHENATED)),
    _rule(rf"({_PARTNERS}\.)[,;:\u3001]", _ampersand),
    _rule(rf"({_FILE_NAME})(?:{_SPACE_OR_END}|[.?!,])"),
    # Telephone numbers
    _rule(rf"{_AREA}[0-9]{{3,4}}[- \xa0]?[0-9]{{3,5}}", _bracketed),
    _rule(r"(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}"),
    # More compounds
    _rule(_COMPOUND),
    _rule(_HYPHENATED, _word),
    _rule(_PARTNERS, _ampersand),
    _rule(r"(?i:c\+\+|[cf]#)"),
    # Punctuation
    _rule(r"('[tT])(?i:is|was)"),  # 'tis
    _rule(r"(')[A-Za-z][^ \t\n\xa0]"),  # a quotation mark, not the start of 'll or 've
    _rule(_AUXILIARY, _quotation),
    _rule(f"{SPACE}+|(?i:&nbsp;)", _nothing),
    _rule("(?i:" + "|".join(map(re.escape, sorted(_SYMBOLS, key=len, reverse=True))) + ")", _symbol),
    _rule(r"\.{3,5}|(?:\.[ \xa0]){2,4}\.|[\u2026\x85]", _always("...")),
    _rule(r"-{2,4}|[\u2013-\u2015\x96\x97]", _always("--")),
    _rule("(?i:&quot;|&apos;)|\"|''?|[`\u2018-\u201f\u0091-\u0094\u2039\u203a\u00ab\u00bb]{1,2}", _quotation),
    _rule(r"[!?]+|_+|[*]+|-{5,}|@+|##+|<<|>>|(?:\\\*)+"),
    _rule(rf"[{SYMBOLS}.,:-]"),
    _rule(r"([<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]])[^A-Za-z0-9]", _bracketed),  # :-)
    _rule("|".join(_FACES), _bracketed),
)
