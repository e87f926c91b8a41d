"""One example of a report: a picture with its caption, as one HTML card.

The card is drawn here only. The page holds the cards as text, in the page's order, and its script turns into elements
those that somebody looks at; a few are shown as they are where there is no script.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from string import Template
from typing import Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from captioner.captions import Caption, Word
from captioner.geometry import Box
from captioner.pictures.percent import percent

DISPLAY_SIZE = 256  # pixels: the longer side that a picture is shown with, see Geometry's "fit"

_QUALITY = 80  # of the JPEG: half the bytes of 90, and nobody has seen the difference at this size
_CARD = Template((Path(__file__).parent / "report_card.html").read_text(encoding="utf-8"))


@dataclass(frozen=True, kw_only=True)
class DisplayPicture:
    """A small picture for showing, as JPEG; width and height in pixels."""

    jpeg: bytes
    width: int
    height: int

    @classmethod
    def of(cls, pixels: npt.NDArray[np.uint8]) -> Self:
        """Encode `pixels`, uint8 (H, W, 3), at most about DISPLAY_SIZE wide and high."""
        file = BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY, optimize=True)
        return cls(jpeg=file.getvalue(), width=pixels.shape[1], height=pixels.shape[0])


@dataclass(frozen=True, kw_only=True)
class Example:
    """A picture of the report.

    Attributes:
        name: of its file.
        picture: upright and small.
        caption: what the model says; its attention may be None.
        seen: the part of the picture that the attention lies over (`Geometry.seen`).
        references: what people wrote.
        cider: CIDEr-D of this picture's caption, 0 to 1000.
    """

    name: str
    picture: DisplayPicture
    caption: Caption
    seen: Box
    references: tuple[str, ...]
    cider: float


def card(example: Example, number: int) -> str:
    """The HTML of an example; `number` is its own on the page."""
    caption, looked = example.caption, example.caption.attention
    return _CARD.substitute(
        number=number,
        attention="" if looked is None else _attention(looked, example.seen),
        picture=b64encode(example.picture.jpeg).decode("ascii"),
        width=example.picture.width,
        height=example.picture.height,
        # What a person wrote of the picture says best what is to be seen on it.
        alternative_text=text(example.references[0] if example.references else ""),
        name=text(example.name),
        caption=text(caption.text),
        cider=f"{example.cider:.1f}",
        confidence=text(percent(caption.confidence)),
        words="".join(_word(word, index, button=looked is not None) for index, word in enumerate(caption.words)),
        references=_part("What people wrote", "ul", "references", example.references),
        alternatives=_part("It might also be", "ol", "alternatives", (other.caption for other in caption.alternatives)),
    )


def text(value: str) -> str:
    """Text for an element or a quoted attribute; what UTF-8 cannot hold (of a file name) becomes a question mark."""
    return escape(value.encode("utf-8", "replace").decode("utf-8"))


def _attention(looked: npt.NDArray[np.float32], seen: Box) -> str:
    """The attributes with the maps (T, rows, columns), a byte a place: each map relative to its own largest weight."""
    most = looked.max(axis=(1, 2), keepdims=True)
    relative = np.divide(looked, most, out=np.zeros_like(looked), where=most > 0)
    coded = b64encode(np.rint(255 * relative).astype(np.uint8).tobytes()).decode("ascii")
    box = " ".join(f"{side:.4g}" for side in seen)
    return f' data-attention="{coded}" data-rows="{looked.shape[1]}" data-columns="{looked.shape[2]}" data-seen="{box}"'


def _word(word: Word, index: int, *, button: bool) -> str:
    inside = (
        f'<span class="letters">{text(word.word)}</span>'
        f'<meter min="0" max="1" value="{word.probability:.3f}" aria-hidden="true"></meter>'
        f'<span class="share">{text(percent(word.probability))}</span>'
    )
    if button:
        return f'<li><button type="button" class="word" data-word="{index}">{inside}</button></li>'
    return f'<li><span class="word">{inside}</span></li>'


def _part(title: str, element: str, name: str, lines: Iterable[str]) -> str:
    """A titled list of sentences, or nothing where there are none."""
    items = "".join(f'<li dir="auto">{text(line)}</li>' for line in lines)
    return f'<h4>{title}</h4><{element} class="{name}">{items}</{element}>' if items else ""
