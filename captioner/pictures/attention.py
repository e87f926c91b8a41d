"""Where the model looked for each word of a caption, as one PNG: a sheet of panels, the plain picture first.

In a panel the picture keeps its light where the model looked and is grey and dim elsewhere; under it stand the word and
its probability. Every map is scaled by its own largest weight, so an even look at everything leaves the picture as it
is. Pillow only, with the one typeface that comes with it.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from captioner.captions import Caption
from captioner.errors import ConfigurationError
from captioner.geometry import Box
from captioner.pictures.percent import percent

Pixels = npt.NDArray[np.uint8]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

DISPLAY_SIZE = 320  # pixels: the longer side of a panel's picture

_PAPER, _INK, _SOFT, _LINE, _ACCENT = "#faf8f4", "#23211d", "#66615a", "#ddd7cc", "#0b6b5b"
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as in Pillow's own grey
_DIM = 0.3  # how much light is left where the model did not look
_MARGIN, _GAP, _LEGEND = 40, 28, 46  # pixels: around the sheet, between panels, under a panel's picture
_MIN_PANEL = 170  # pixels: the width of a panel that a long word still fits into
_TITLE, _NOTE, _LABEL, _SHARE = 36, 20, 26, 19  # sizes of letters, in pixels
_SHAPE = 1.5  # width to height that the grid of panels comes close to


@dataclass(frozen=True)
class _Grid:
    """Places of panels, in pixels."""

    columns: int
    rows: int
    panel_width: int
    panel_height: int

    @property
    def width(self) -> int:
        return self.columns * (self.panel_width + _GAP) - _GAP

    @property
    def height(self) -> int:
        return self.rows * (self.panel_height + _GAP) - _GAP

    def corner(self, number: int) -> tuple[int, int]:
        """Left and top of a panel, within the grid."""
        row, column = divmod(number, self.columns)
        return column * (self.panel_width + _GAP), row * (self.panel_height + _GAP)


def draw_attention(picture: Pixels, caption: Caption, seen: Box) -> bytes:
    """One PNG of the caption and of where the model looked for each of its words.

    Args:
        picture: the upright picture for showing, uint8 (H, W, 3).
        caption: its caption, with attention (T, rows, columns).
        seen: the part of the picture that the attention lies over (`Geometry.seen`).

    Raises:
        ConfigurationError: the caption is from a model without attention.
    """
    if caption.attention is None:
        raise ConfigurationError("This model has no attention that could be drawn: use one whose decoder has it.")
    scale = DISPLAY_SIZE / max(picture.shape[:2])
    width, height = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    shown = Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC)
    grid = _arrange(len(caption.words) + 1, max(width, _MIN_PANEL), height + _LEGEND)

    told = f"confidence {percent(caption.confidence)}; bright is where the model looked for the word"
    lines = [(line, _TITLE, _INK) for line in _wrapped(caption.text, _font(_TITLE), grid.width)]
    lines += [(line, _NOTE, _SOFT) for line in _wrapped(told, _font(_NOTE), grid.width)]
    head = sum(_leading(size) for _, size, _ in lines) + 20
    sheet = Image.new("RGB", (grid.width + 2 * _MARGIN, head + grid.height + 2 * _MARGIN), _PAPER)
    pen = ImageDraw.Draw(sheet)
    top = _MARGIN
    for line, size, ink in lines:
        fitted, font = _fitting(line, size, grid.width)
        pen.text((_MARGIN, top), fitted, ink, font)
        top += _leading(size)

    panels: list[tuple[str, float | None, Image.Image]] = [("the picture", None, shown)]
    pixels = np.asarray(shown)
    for word, weights in zip(caption.words, caption.attention, strict=True):
        panels.append((word.word, word.probability, Image.fromarray(light(pixels, weights, seen))))
    for number, (label, probability, image) in enumerate(panels):
        left, top = grid.corner(number)
        _draw_panel(sheet, (_MARGIN + left, _MARGIN + head + top), grid.panel_width, label, probability, image)
    file = BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def light(picture: Pixels, weights: npt.NDArray[np.float32], seen: Box) -> Pixels:
    """The picture (H, W, 3), bright where the `weights` (rows, columns) of its part `seen` are large."""
    height, width = picture.shape[:2]
    left, right = round(seen[0] * width), max(round(seen[0] * width) + 1, round(seen[2] * width))
    top, bottom = round(seen[1] * height), max(round(seen[1] * height) + 1, round(seen[3] * height))
    largest = float(weights.max())
    relative = np.asarray(weights / largest if largest > 0 else weights, dtype=np.float32)
    smooth = Image.fromarray(relative).resize((right - left, bottom - top), Image.Resampling.BICUBIC)
    share = np.zeros((height, width, 1), dtype=np.float32)
    share[top:bottom, left:right, 0] = np.clip(np.asarray(smooth), 0.0, 1.0)[: height - top, : width - left]
    grey = (picture @ _LUMA * _DIM)[..., None]  # (H, W, 1)
    return np.rint(grey + (picture - grey) * share).astype(np.uint8)


def _arrange(number: int, panel_width: int, panel_height: int) -> _Grid:
    """So many panels in a grid of a pleasant shape, its last row as full as can be."""
    wanted = math.sqrt(_SHAPE * number * panel_height / panel_width)
    rows = math.ceil(number / min(number, max(1, round(wanted))))
    return _Grid(math.ceil(number / rows), rows, panel_width, panel_height)


def _draw_panel(
    sheet: Image.Image, corner: tuple[int, int], width: int, label: str, probability: float | None, image: Image.Image
) -> None:
    """One picture with its label and, for a word, its probability as a number and as a bar."""
    pen = ImageDraw.Draw(sheet)
    left, top = corner
    sheet.paste(image, corner)
    below = top + image.height
    share = "" if probability is None else percent(probability)
    small = _font(_SHARE)
    text, font = _fitting(label, _LABEL, width - math.ceil(small.getlength(share)) - 12)
    pen.text((left, below + 36), text, _SOFT if probability is None else _INK, font, anchor="ls")
    if probability is not None:
        pen.text((left + width, below + 36), share, _SOFT, small, anchor="rs")
        pen.rectangle((left, below + 43, left + width - 1, below + 45), _LINE)
        pen.rectangle((left, below + 43, left + max(1, round(width * probability)) - 1, below + 45), _ACCENT)


def _font(size: float) -> Font:
    return ImageFont.load_default(size)


def _leading(size: int) -> int:
    """From one line to the next, in pixels."""
    return round(1.28 * size)


def _plain(text: str) -> str:
    """The text in the letters that Pillow's typeface has: those without accents stand for those with them."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))


def _wrapped(text: str, font: Font, width: int) -> list[str]:
    """The text in lines of at most `width` pixels, or of one longer word, broken at spaces; at least one line."""
    lines: list[str] = []
    for word in _plain(text).split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines or [""]


def _fitting(text: str, size: int, width: int) -> tuple[str, Font]:
    """The text and the font in which it takes at most `width` pixels: smaller down to half of `size`, then cut."""
    text = _plain(text)
    for smaller in range(size, size // 2, -1):
        font = _font(smaller)
        if font.getlength(text) <= width:
            return text, font
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…", font
