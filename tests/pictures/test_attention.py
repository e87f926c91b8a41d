"""Drawings of attention: where it is bright, and sheets for captions of every length."""

from __future__ import annotations

import dataclasses
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from captioner.errors import ConfigurationError
from captioner.pictures.attention import draw_attention, light
from tests.pictures.toy_examples import toy_caption

WHOLE = (0.0, 0.0, 1.0, 1.0)
GREY = np.full((60, 90, 3), 200, dtype=np.uint8)


def sheet(data: bytes) -> Image.Image:
    with Image.open(BytesIO(data), formats=["PNG"]) as image:
        image.load()
        return image


@settings(max_examples=50)
@given(row=st.integers(0, 6), column=st.integers(0, 6))
def test_it_is_brightest_where_the_model_looked(row: int, column: int) -> None:
    weights = np.zeros((7, 7), dtype=np.float32)
    weights[row, column] = 0.3
    lit = light(GREY, weights, WHOLE)[..., 0].astype(int)
    y, x = divmod(int(lit.argmax()), 90)
    assert (y * 7 // 60, x * 7 // 90) == (row, column)
    assert lit.max() > 190
    assert lit[(y + 30) % 60, (x + 45) % 90] == 60  # half a picture away: 0.3 of the light


def test_an_even_look_leaves_the_picture_as_it_is() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (33, 47, 3), dtype=np.uint8)
    assert np.array_equal(light(picture, np.full((7, 7), 1 / 49, dtype=np.float32), WHOLE), picture)


def test_what_the_model_did_not_see_stays_dim() -> None:
    picture = np.random.default_rng(1).integers(100, 256, (40, 80, 3), dtype=np.uint8)
    lit = light(picture, np.ones((5, 5), dtype=np.float32), (0.25, 0.0, 0.75, 1.0))
    assert np.array_equal(lit[:, 20:60], picture[:, 20:60])
    outside = np.concatenate([lit[:, :20], lit[:, 60:]], axis=1)
    assert outside.max() < 80
    assert np.ptp(outside, axis=2).max() == 0  # grey


def test_weights_of_nothing_are_dark() -> None:
    assert light(GREY, np.zeros((7, 7), dtype=np.float32), WHOLE).max() == 60


@pytest.mark.parametrize("number", [1, 5, 12, 20])
@pytest.mark.parametrize("shape", [(240, 320), (320, 180), (64, 64), (1, 300)])
def test_a_caption_of_any_length_fits_on_a_sheet(number: int, shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), 128, dtype=np.uint8)
    image = sheet(draw_attention(picture, toy_caption(" ".join(["triangle"] * number)), WHOLE))
    assert image.mode == "RGB"
    assert max(image.size) < 4000
    assert image.getpixel((1, 1)) == image.getpixel((image.width - 2, image.height - 2)) == (250, 248, 244)


def test_words_that_are_long_or_foreign_are_drawn() -> None:
    caption = toy_caption("Café Zürich naïve 犬 donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen")
    image = sheet(draw_attention(GREY, caption, WHOLE))
    margin = np.asarray(image)[:, -38:]
    assert (margin == margin[0, 0]).all()  # nothing runs over


def test_no_attention_is_one_sentence() -> None:
    with pytest.raises(ConfigurationError, match=r"^This model has no attention .*\.$"):
        draw_attention(GREY, dataclasses.replace(toy_caption("a dog"), attention=None), WHOLE)
