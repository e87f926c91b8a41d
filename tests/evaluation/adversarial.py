"""Sentences made to trip a tokeniser, and coco-caption's own words for them.

    python tests/evaluation/adversarial.py --write

stores the official words of the first thousand sentences of one seed in tests/golden/ptb-adversarial.json, for machines
without Java.

The sentences are the same with every version of Python: each character comes from the tables below, never from
unicodedata, and each draw from ``random.Random.random``, the one method whose sequence Python promises to keep.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

GOLDEN = Path(__file__).parents[1] / "golden" / "ptb-adversarial.json"
GOLDEN_SEED = 2014
GOLDEN_COUNT = 1000

# What ends a line for the official program. coco-caption writes all captions into one text, a line each, and makes only
# \n a space: each of the others in a caption gives every later caption the words of another one.
LINE_BREAKS = "\n\r\x0b\x0c\u2028\u2029"

# Ranges of code points in hexadecimal, by what they are.
CHARACTERS = {
    "small": "61-7a",
    "capital": "41-5a",
    "digit": "30-39",
    "ascii punctuation": "21-2f 3a-40 5b-60 7b-7e",
    "space": "20 9 a0 2000-200a 202f 205f 3000",
    "line break": "a-d 85 2028-2029",
    "control": "0-1f 7f-9f",
    "format": "ad 200b-200f 202a-202e 2060-2064 feff fe00-fe0f",
    "latin 1": "a1-ff",
    "latin": "100-24f 1e00-1eff",
    "modifier": "2b0-2ff",
    "combining": "300-36f 483-489 591-5c7 610-61a 1ab0-1ace 20d0-20f0",
    "greek": "370-3ff 1f00-1fff",
    "cyrillic": "400-52f",
    "hebrew and arabic": "5d0-5f4 600-6ff fb1d-fdfb",
    "indic": "900-dff",
    "south-east asian": "e00-eff 1000-109f 1780-17f9",
    "other scripts": "10a0-10ff 1200-139f 13a0-13fd 1400-16f8 1800-18aa 2c00-2dff",
    "kana and han": "3001-30ff 4e00-4e40 9fa0-9fff ac00-ac40 f900-fa10",
    "late additions": "8a0-8ff 1c80-1cbf a640-a7ff ab30-abbf",
    "general punctuation": "2010-2027 2030-205e",
    "superscript": "2070-209c b2-b3 b9",
    "currency": "24 a2-a5 20a0-20bf ffe0-ffe6 e3f 60b",
    "fraction": "bc-be 2044 2150-215f 2189",
    "foreign digit": "660-66c 6f0-6f9 7c0-7c9 966-96f ff10-ff19 1d7ce-1d7ff",
    "symbol": "2100-214f 2190-23ff 2460-2bff",
    "full width": "ff01-ffef",
    "private": "e000-e010 f8f0-f8ff fff9-ffff",
    "emoji": "1f300-1f64f 1f680-1f6ff 1f900-1f9ff 1f1e6-1f1ff 1f3fb-1f3ff",
    "beyond 16 bits": "10000-100ff 10400-1044f 1d400-1d4ff 20000-20040 e0001-e007f",
    "one that folds to ascii": "130-131 17f 212a-212b 3a3 3c2",
}
WORDS = """
    a the of in on with and at is are man woman dog dogs child children ball grass beach snow red blue small A
    The Two dog's girls' runs jumping black-and-white t-shirt T-shirt merry-go-round skate-boarder two-year-old
    someone's mother-in-law's St. Bernard YMCA USA U.S. U.S.A. iPhone McDonald's 7-Eleven A4 3D 80s x-ray x more
    than CAFÉ café naïve Ångström São straße ΣΑΣ ΟΔΟΣ и мир 日本 語 عربي עברית हिन्दी ไทย
"""
CONTRACTIONS = """
    don't can't won't isn't ain't I'm I'll I've I'd he's she'll they're we've you'd it's let's DON'T It'S cannot
    Cannot CANNOT cannots gonna gotta lemme gimme wanna Gonna gonnabe wannabe 'tis 'Tis 'twas 'TWAS 'til 'till
    'em 'Em 'cause 'n' 'n rock'n'roll fish'n'chips more'n o'clock O'Clock o'brien O'Brien D'Artagnan l'eau
    L'Oréal d'etre y'all Y'all j'accuse c'mon C'mon ma'am Ma'am ol' somethin' Somethin' dunkin' Dunkin' goin'
    dogs' s'mores e'er ev'ry li'l nat'l nor'easter cont'd cont'd. '90s '90 '05 90's 1990's 90s' A's a's n't 's
    'll 're s's should've shouldn't've whaddya whatcha gotcha dunno d'ye d'you more'n' ne'er hallowe'en Qur'an
    Ba'ath Shi'ite Hawai'i va'a assalamu'alaikum isn&apos;t dog&apos;s don\u2019t dog\u2019s don\u2018t
    dog\u0092s don`t dog\u00b4s dog\u201bs
"""
ABBREVIATIONS = """
    Mr. Mrs. Ms. Dr. Drs. Prof. St. Ste. Ave. Blvd. Rd. Jr. Sr. Inc. Co. Cos. Corp. Ltd. Ph.D. Ed.D. M.D. B.A.
    e.g. i.e. etc. vs. v. cf. al. seq. approx. est. ca. c. p. pp. no. No. nos. Nos. fig. Fig. figs. art. op.
    prop. bldg. ext. dept. Jan. Feb. Mar. Apr. Jun. Jul. Aug. Sep. Sept. Oct. Nov. Dec. Mon. Tue. Tues. Wed.
    Thu. Thurs. Fri. Sat. Sun. Calif. Mass. mass. Miss. miss. Tex. tex. Wash. wash. Ill. ill. Ala. Ariz. Pa. pa.
    Me. Del. La. Ore. Ark. Az. Va. D.C. N.Y. L.A. J.R.R. A. B. I. x. U.K. U.S.S.R. U.S.-U.K. non-U.S. Sino-U.S.
    Korean-U.S. EU-U.S. Canada-U.S. a.k.a. a.m. p.m. Gen. Gov. Sen. Rep. Lt. Col. Maj. Sgt. Cpl. Pvt. Capt. Adm.
    Rev. Hon. Pres. Messrs. Mt. Sq. tel. Ph. Esq. Bros. Univ. Assn. Intl. Sys. Invt. Elec. Natl. Mfg. Mtg. mfg.
    MFG. Pty. Pte. PTY. ppte. Bancorp. Alex. Wm. Jos. Cie. TREAS. So. so. Nev. Conn. Dak. Kans. Kan. Minn. Wisc.
    Wis. Okla. Fla. Neb. Mont. ex. Ex. Bhd. Plc. Supt. Det. Dist. Hwy. Ft.
"""
NUMBERS = """
    0 1 2 12 100 1,000 1,000,000.50 3.14 .5 ,5 :5 1:30 12:30:45 -5 +5 --5 -.5 (5) (-5) (1,000) 1. 1.. 1.2.3
    1,2,3 1/2 3/4 1-1/2 12/25 12/25/2013 25-12-2013 2013-12-25 2013/12/25 1/2/3/4 12345/6 1\u20442 1\\/2 1\u00bd
    2 1/2 \u00bd 2013-01-02T03:04:05Z 10% 5$ $5 $1.50 US$5 A$ C$10 #5 #1 no.5 \u20ac5 5\u20ac \u00a35 \u00a55
    50\u00a2 \u00a4 1st 2nd 3rd 4th 1990s 5'10" 6' 6'2 5ft 10x10 4x4 2x 1e10 0x1F 555-1212 (212)555-1212 (212)
    555-1212 212-555-1212 1-800-555-1212 +1-212-555-1212 212.555.1212 +44.20.7946.0958 ++49 30 123456 020 7946
    0958 12 34 5678 12-34-5678 20\u00b0C 70\u00b0F m\u00b2 x\u00b3 10\u207b\u00b3 H\u2082O 1\u066b5 1\u00ad5
    \u0661\u0662 \u0967/\u0968 \uff11\uff12 9-to-5 24/7 50-50 1-2-3 9/11 1920x1080 16:9 2-0 4-wheel 1-way 10-12
    10\u201312 5-ft. 100m. 3.5-inch C3PO R2-D2 B-52 b2b 1.b 1.a. 7. #7. 7,
"""
PUNCTUATION = """
    . , ; : ! ? ... .. .... ..... . . . .... ?! !? !!! ??? ?!?! - -- --- ---- ----- ------ _ __ ___ ( ) [ ] { }
    < > << >> " "" ' '' ''' ` `` ``` \u2018 \u2019 \u201a \u201b \u201c \u201d \u201e \u201f \u00ab \u00bb
    \u2039 \u203a \u0091 \u0092 \u0093 \u0094 \u0096 \u0097 \u0082 \u0084 \u0080 \u0085 / // \\ \\\\ \\/ \\* |
    || ~ ~~ ^ ^^ @ @@ @@@ # ## ### $ $$ % %% & && &&& * ** *** + ++ = == -> <- => :) :( :-) ;) :D :P :p :o) :'(
    =) :\\ :/ :| :{ :@ <:) >:( ^_^ ^.^ -_- =_= ~_~ x.x >.< <_< (-_-) (^.^) (^-^) ('_') ^_~ O_o
    \u00af\\_(\u30c4)_/\u00af :- :-- :d \u2010 \u2011 \u2012 \u2013 \u2014 \u2015 \u2026 \u2022 \u00b7 \u00a7
    \u00b6 \u2020 \u00ad \u3001 \u3002 \uff0c -LRB- -RRB- -LSB- -RSB- -LCB- -RCB- -lrb- -rrb- *NL* -- -LRB
"""
MARKUP = """
    &amp; &lt; &gt; &quot; &apos; &nbsp; &mdash; &ndash; &MD; &HT; &TL; &UR; &LR; &QC; &QL; &QR; &odq; &cdq;
    &#39; &#160; &#x27; &eacute; &agrave; &ouml; &Aacute; &hellip; &bogus; &amp &amp;amp; AT&T AT&amp;T R&B
    B&amp;B a&b A+B A&B&C Q+A <b> </b> <br> <br/> <br /> <a> <p> <!--x--> <!DOCTYPE> <?xml?> <a href="x.y"> <img
    src='a'/> <b <3 <-- < b> <B>bold</B> <a href=x title="y z"> <1> <_> <a.b> <a:b> <a\u00a0b> <u@v.w>
    <http://a.b> <a=b> <a b=c> <a b="c'd"> </a > </ a> <a/ > <!> <?> <!a http://a.b
    http://www.flickr.com/photos/1234/ https://example.org/a_b?c=d&e=f#g, http://x. http:// HTTP://A.B ftp://a.b
    (http://a.b/c) www.example.com www.example.co.uk www.a www.a.b.info/x example.com example.net/a/b.
    Example.ORG a.edu example.com, a-b.com a_b.com $a.com 1.com foo.comb x.com/(y) x.net' me@example.com a.b@c.d
    a@b @ a@ @b @me @me_2 @1 a@b@c first.last+tag@sub.example.org, mailto:me@a.b #tag #Tag2 #tag-tag #caf\u00e9
    #1tag #_ #a_b # a ##tag C# F# c# C++ c++ f# .NET a.jpg IMG_0001.JPG file.txt photo.png x.PDF a.html
    readme.doc index.php b.gif c.tiff d.zip e.mp3 f.java data.csv and/or he/she black/white/red a/b/c/d 1/2-inch
    w/o w/ c/o A/C either/or-not yes/no/maybe-so-then-what a\\/b
"""
GLUE = (
    "",
    "",
    "",
    "",
    " ",
    " ",
    " ",
    " ",
    " ",
    "  ",
    "-",
    ".",
    ",",
    "'",
    '"',
    "/",
    "_",
    "!",
    ". ",
    ", ",
    "' ",
    " '",
    "&",
    "\u00a0",
)
TEMPLATES = (
    "A man in a {} shirt is holding a {}.",
    'The sign reads "{}" and {}.',
    "Two dogs ({}) play with a {} ball",
    "a woman's {} , {} ; and {}",
    "{} {} {}",
    "{}{}",
    "{}, {}, and {}!",
    "Number {} on the {} jersey. {} The crowd",
    "It is {} o'clock {} - {}",
    "'{}' `{}` \u201c{}\u201d",
    "({}) [{}] {{{}}} <{}>",
    "{}. {} {}",
    "x{}y{}z",
)


# Small alphabets, in which the patterns of a tokeniser are hit and just missed all the time.
ALPHABETS = (
    "aB1.-'  ",
    "12345 -.,/()+",
    "usUS.-K ,",
    "'\u2019sStTnNdm ",
    "<a>/ =\"'!",
    ":;=-()'oDP<>|\\",
    "^_-.=x~()<>'",
    "@#_a1.com-/ ",
    "&amp;ltgnbsquo #39",
    "aeiouY'bO\u2018",
    "`'\"\u2018\u201c a1$",
    "-_\u2010\u00ada1.",
)


class Draw:
    """Draws from one seed, by nothing but ``random.Random.random``."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def below(self, bound: int) -> int:
        """A whole number from 0 to ``bound`` - 1."""
        return int(self._random.random() * bound)

    def of(self, items: Sequence[str]) -> str:
        return items[self.below(len(items))]

    def character(self) -> str:
        ends = [int(end, 16) for end in self.of(_RANGES[self.below(len(_RANGES))]).split("-")]
        return chr(ends[0] + self.below(ends[-1] - ends[0] + 1))


_RANGES = tuple(ranges.split() for ranges in CHARACTERS.values())
_PIECES = tuple(
    tuple(piece for piece in words.replace("\n", " ").split(" ") if piece)
    for words in (WORDS, CONTRACTIONS, ABBREVIATIONS, NUMBERS, PUNCTUATION, MARKUP)
)


def _piece(draw: Draw) -> str:
    """A word, a number, a mark ..., now and then with one of its characters changed."""
    piece = draw.of(_PIECES[draw.below(len(_PIECES))])
    return _mutated(draw, piece) if draw.below(8) == 0 else piece


def _mutated(draw: Draw, text: str) -> str:
    """``text`` with one character put in, taken out or replaced, or with the case of all changed."""
    place = draw.below(len(text) + 1)
    new = draw.character() if draw.below(2) else draw.of(draw.of(ALPHABETS))
    return (
        text[:place] + new + text[place:],
        text[:place] + new + text[place + 1 :],
        text[:place] + text[place + 1 :],
        text.upper(),
        text.capitalize(),
    )[draw.below(5)]


def _glued(draw: Draw) -> str:
    """A few pieces, stuck together in odd ways."""
    text = _piece(draw)
    for _ in range(1 + draw.below(7)):
        text += draw.of(GLUE) + _piece(draw)
    return text


def _soup(draw: Draw) -> str:
    """Characters of all kinds."""
    return "".join(draw.character() for _ in range(1 + draw.below(14)))


def _narrow(draw: Draw) -> str:
    """Characters of one small alphabet."""
    alphabet = draw.of(ALPHABETS)
    return "".join(draw.of(alphabet) for _ in range(2 + draw.below(14)))


def _caption(draw: Draw) -> str:
    """What a caption looks like, with odd things in some places."""
    template = draw.of(TEMPLATES)
    fillings = [
        _KINDS[draw.below(3)](draw) if draw.below(4) == 0 else _piece(draw) for _ in range(template.count("{}"))
    ]
    return template.format(*fillings)


_KINDS: tuple[Callable[[Draw], str], ...] = (_soup, _narrow, _glued, _glued, _caption, _caption)


def sentences(seed: int, count: int) -> list[str]:
    """``count`` sentences; a larger ``count`` begins with the same ones."""
    draw = Draw(seed)
    return [_KINDS[draw.below(len(_KINDS))](draw) for _ in range(count)]


def official(captions: Sequence[str], *, between: str = "zzz") -> list[str]:
    """What coco-caption makes of each caption: its words, joined by spaces. Needs Java and pycocoevalcap.

    A few rules of its program look across the end of a line. So a caption lies between two lines of ``between``, where
    no caption can disturb another, and characters that end a line become spaces, as coco-caption makes \\n one.

    Raises:
        RuntimeError: the answers do not lie where they should: some caption has more or less than one line.
    """
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    lines = [between]
    for caption in captions:
        lines += [caption.translate(dict.fromkeys(map(ord, LINE_BREAKS), " ")), between]
    tokenized = PTBTokenizer().tokenize({i: [{"caption": line}] for i, line in enumerate(lines)})
    answers = [tokenized[i][0] for i in range(len(lines))]
    if set(answers[::2]) != {between}:
        raise RuntimeError("a caption has run into its neighbour")
    return answers[1::2]


def write() -> None:
    """Store the official answers to the first sentences of the golden seed."""
    captions = sentences(GOLDEN_SEED, GOLDEN_COUNT)
    pairs = [
        {"caption": caption, "tokens": tokens} for caption, tokens in zip(captions, official(captions), strict=True)
    ]
    rows = ",\n".join(" " + json.dumps(pair) for pair in pairs)
    GOLDEN.write_text(f"[\n{rows}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python tests/evaluation/adversarial.py --write")
    write()
