"""A few development pictures with the captions of this moment, in TensorBoard."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytorch_lightning as lightning
from PIL import Image, ImageDraw, ImageFont
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger

from captioner.errors import ImageError
from captioner.geometry import Geometry
from captioner.images import read_image
from captioner.training.module import CaptionModule

SHOWN = 8
_SIZE = 256  # pixels: the longer side of a picture
_LINE = 18  # pixels
_LETTERS = 38  # in a line


class ShowSamples(Callback):
    """After every validation, `samples/1` and so on: a picture, above it what the model says, below it one reference.

    The pictures are spread evenly over the development split, and are the same ones each time. One that
    cannot be read is left out.
    """

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Lightning's hook."""
        writers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if trainer.sanity_checking or not trainer.is_global_zero or not isinstance(pl_module, CaptionModule):
            return
        captions = pl_module.dev_captions
        if not writers or not captions:
            return
        records = pl_module.data.records("dev")
        count = min(SHOWN, len(records))
        for number in range(count):
            index = number * len(records) // count
            reference = records[index].captions[0] if records[index].captions else ""
            try:
                picture = with_caption(records[index].image, captions[index], reference)
            except ImageError:  # a cached picture may have gone meanwhile: no reason to end a run
                continue
            for writer in writers:
                writer.experiment.add_image(f"samples/{number + 1}", picture, trainer.global_step, dataformats="HWC")


def with_caption(file: Path, caption: str, reference: str) -> npt.NDArray[np.uint8]:
    """The picture (H, W, 3), small, between a `caption` and what somebody wrote of it."""
    picture = Geometry(resize="fit", size=_SIZE).apply(read_image(file))
    above, below = _lines(caption), _lines(f"({reference})" if reference else "")
    sheet = Image.new("RGB", (max(_SIZE, picture.width), picture.height + _LINE * (len(above) + len(below))), "white")
    sheet.paste(picture, (0, _LINE * len(above)))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for number, line in enumerate(above):
        draw.text((2, _LINE * number), line, fill="black", font=font)
    for number, line in enumerate(below):
        draw.text((2, _LINE * (len(above) + number) + picture.height), line, fill="dimgray", font=font)
    return np.asarray(sheet)


def _lines(text: str) -> list[str]:
    return textwrap.wrap(text, _LETTERS)[:4]
