"""read_image on every format, mode and kind of damage."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from captioner.errors import ConfigurationError, ImageError, ImageTooLarge, UnreadableImage, UnsupportedFormat
from captioner.images import ImageLimits, read_image

Encode = Callable[..., bytes]
Draw = Callable[..., Image.Image]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
WHITE = (255, 255, 255)


def pixel(data: bytes) -> Any:
    """The first pixel of a picture as we read it."""
    image = read_image(data)
    assert image.mode == "RGB"
    return image.getpixel((0, 0))


# What is read


@pytest.mark.parametrize("image_format", FORMATS)
def test_every_allowed_format_is_read_as_pillow_reads_it(image_format: str, draw: Draw, encode: Encode) -> None:
    data = encode(draw(), image_format)
    image = read_image(data)
    assert image.mode == "RGB"
    with Image.open(BytesIO(data)) as expected:
        assert image.tobytes() == expected.convert("RGB").tobytes()


def test_the_content_decides_not_the_name(tmp_path: Path, draw: Draw, encode: Encode) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(encode(draw(), "PNG"))
    assert read_image(path).tobytes() == draw().tobytes()
    assert read_image(str(path)).tobytes() == draw().tobytes()


def test_of_several_frames_the_first_is_read(draw: Draw, encode: Encode) -> None:
    for image_format in ("GIF", "MPO", "PNG", "TIFF", "WEBP"):
        first, second = draw(seed=1), draw(seed=2)  # Pillow leaves the last encoder's settings on a picture it saved
        options = {"lossless": True} if image_format == "WEBP" else {}
        data = encode(first, image_format, save_all=True, append_images=[second], **options)
        difference = np.abs(np.asarray(read_image(data), dtype=int) - np.asarray(first, dtype=int))
        assert difference.mean() < 12, image_format


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pictures_come_out_upright(image_format: str, orientation: int, draw: Draw, encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(draw(40, 24), image_format, exif=exif)
    with Image.open(BytesIO(data)) as stored:
        expected = ImageOps.exif_transpose(stored)
    assert read_image(data).size == ((24, 40) if orientation > 4 else (40, 24))
    assert read_image(data).tobytes() == expected.convert("RGB").tobytes()


@pytest.mark.parametrize(
    "block",
    [
        b"Exif\x00\x00",
        b"Exif\x00\x00II*\x00\xff\xff\xff\xff",
        b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff" + bytes(9),
    ],
)
def test_a_damaged_exif_block_costs_nothing(block: bytes, draw: Draw, encode: Encode) -> None:
    assert read_image(encode(draw(), "JPEG", exif=block)).size == (160, 120)


def test_an_impossible_orientation_is_upright(draw: Draw, encode: Encode) -> None:
    for value in (0, 9, 65535):
        exif = Image.Exif()
        exif[0x0112] = value
        assert read_image(encode(draw(), "JPEG", exif=exif)).size == (160, 120)


# Modes


def test_what_is_transparent_becomes_white(encode: Encode) -> None:
    assert pixel(encode(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "PNG")) == WHITE
    assert pixel(encode(Image.new("RGBA", (4, 4), (255, 0, 0, 128)), "PNG")) == (255, 127, 127)
    assert pixel(encode(Image.new("RGBA", (4, 4), (255, 0, 0, 255)), "PNG")) == (255, 0, 0)
    assert pixel(encode(Image.new("LA", (4, 4), (0, 0)), "PNG")) == WHITE
    assert pixel(encode(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "WEBP", lossless=True)) == WHITE
    assert pixel(encode(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "TIFF")) == WHITE
    assert pixel(encode(Image.new("PA", (4, 4), (0, 0)).convert("RGBA"), "PNG")) == WHITE


def test_one_value_declared_transparent_becomes_white_and_no_other(encode: Encode) -> None:
    cases: list[tuple[str, Any, Any, tuple[int, int, int]]] = [
        ("L", 7, 8, (8, 8, 8)),
        ("RGB", (1, 2, 3), (8, 8, 8), (8, 8, 8)),
        ("1", 1, 0, (0, 0, 0)),
        ("I;16", 1000, 8 * 257, (8, 8, 8)),
    ]
    for mode, transparent, stored, other in cases:
        image = Image.new(mode, (2, 1), transparent)
        image.putpixel((1, 0), stored)
        read = read_image(encode(image, "PNG", transparency=transparent))
        assert (read.getpixel((0, 0)), read.getpixel((1, 0))) == (WHITE, other), mode


def test_palettes_with_transparency(encode: Encode) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for x in range(3):
        image.putpixel((x, 0), x)
    for image_format in ("PNG", "GIF"):
        read = read_image(encode(image, image_format, transparency=1))
        assert [read.getpixel((x, 0)) for x in range(3)] == [(255, 0, 0), WHITE, (0, 0, 255)], image_format
    read = read_image(encode(image, "PNG", transparency=bytes([255, 0, 128])))
    assert [read.getpixel((x, 0)) for x in range(3)] == [(255, 0, 0), WHITE, (127, 127, 255)]


@pytest.mark.parametrize(("value", "grey"), [(0, 0), (128, 0), (129, 1), (40000, 156), (65406, 254), (65535, 255)])
def test_sixteen_bit_grey_is_scaled_and_rounded(value: int, grey: int, encode: Encode) -> None:
    for mode, image_format in (("I;16", "PNG"), ("I;16", "TIFF"), ("I;16B", "TIFF")):
        data = encode(Image.new(mode, (3, 2), value), image_format)
        assert pixel(data) == (grey, grey, grey), (mode, image_format)


def test_twelve_bit_grey_has_its_own_white(encode: Encode) -> None:
    stored = encode(Image.new("I;16", (2, 2), 65535), "TIFF")
    bits_per_sample = b"\x02\x01\x03\x00\x01\x00\x00\x00"  # tag 258, one 16-bit number
    data = stored.replace(bits_per_sample + b"\x10\x00", bits_per_sample + b"\x0c\x00")
    assert data != stored
    assert pixel(data) == WHITE


@pytest.mark.parametrize(
    ("mode", "values", "greys"),
    [
        ("I", (0, 200), (0, 200)),
        ("I", (0, 40000), (0, 156)),
        ("I", (-1000, 1000), (0, 255)),
        ("I", (-5, -5), (0, 0)),
        ("I", (-(2**31), 2**31 - 1), (0, 255)),
        ("F", (0.0, 0.5), (0, 128)),
        ("F", (0.0, 200.4), (0, 200)),
        ("F", (0.0, 65535.0), (0, 255)),
        ("F", (-2.0, 2.0), (0, 255)),
        ("F", (0.0, 0.0), (0, 0)),
    ],
)
def test_wide_grey_keeps_its_range(
    mode: str, values: tuple[float, float], greys: tuple[int, int], encode: Encode
) -> None:
    image = Image.new(mode, (2, 1))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    read = read_image(encode(image, "TIFF"))
    assert [read.getpixel((x, 0)) for x in range(2)] == [(grey, grey, grey) for grey in greys]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_grey_that_is_no_number_is_refused(value: float, encode: Encode) -> None:
    with pytest.raises(UnreadableImage, match="not finite"):
        read_image(encode(Image.new("F", (2, 2), value), "TIFF"))


def test_the_other_modes(draw: Draw, encode: Encode) -> None:
    assert pixel(encode(Image.new("1", (9, 9), 1), "PNG")) == WHITE
    assert pixel(encode(Image.new("1", (9, 9), 0), "TIFF")) == (0, 0, 0)
    assert pixel(encode(Image.new("CMYK", (9, 9), (0, 0, 0, 0)), "TIFF")) == WHITE
    assert pixel(encode(Image.new("CMYK", (16, 16), (0, 0, 0, 255)), "JPEG")) == (0, 0, 0)
    assert max(pixel(encode(Image.new("LAB", (9, 9), (0, 128, 128)), "TIFF"))) < 10
    assert min(pixel(encode(Image.new("LAB", (9, 9), (255, 128, 128)), "TIFF"))) > 240
    difference = np.asarray(read_image(encode(draw().convert("YCbCr"), "TIFF")), int) - np.asarray(draw(), int)
    assert np.abs(difference).mean() < 2


# What is refused


def test_foreign_formats_are_refused_by_name(foreign_files: dict[str, bytes]) -> None:
    for name, data in foreign_files.items():
        with pytest.raises(UnsupportedFormat, match=name) as caught:
            read_image(data)
        assert "convert the picture to JPEG or PNG" in str(caught.value)


def test_damaged_files_are_unreadable(damaged_files: dict[str, bytes]) -> None:
    for name, data in damaged_files.items():
        with pytest.raises(UnreadableImage) as caught:
            read_image(data)
        assert str(caught.value).endswith("."), name


def test_bombs_are_too_large(bombs: dict[str, bytes]) -> None:
    for name, data in bombs.items():
        with pytest.raises(ImageTooLarge, match="50,000,000 pixels"):
            read_image(data)
        assert len(data) < 40_000, name


@pytest.mark.parametrize("image_format", FORMATS)
def test_damage_anywhere_gives_our_errors_or_a_picture(image_format: str, draw: Draw, encode: Encode) -> None:
    """Any other exception, or a warning (they are errors in our tests), would end this test."""
    data = encode(draw(48, 32), image_format)
    dice = random.Random(image_format)
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            damaged[dice.randrange(len(data) if dice.random() < 0.5 else min(len(data), 120))] = dice.randrange(256)
        try:
            assert read_image(bytes(damaged[: dice.randint(1, 2 * len(data))])).mode == "RGB"
            outcomes.add("read")
        except ImageError:
            outcomes.add("refused")
    assert "refused" in outcomes


def test_limits_are_inclusive(tmp_path: Path, draw: Draw, encode: Encode) -> None:
    data = encode(draw(), "PNG")
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    for source in (data, path):
        assert read_image(source, ImageLimits(max_bytes=len(data), max_pixels=160 * 120)).size == (160, 120)
        with pytest.raises(ImageTooLarge, match=f"more than {len(data) - 1:,} bytes"):
            read_image(source, ImageLimits(max_bytes=len(data) - 1))
        with pytest.raises(ImageTooLarge, match="more than 19,199 pixels"):
            read_image(source, ImageLimits(max_pixels=160 * 120 - 1))


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.jpg"
    with path.open("wb") as file:
        file.truncate(2**40)  # a sparse terabyte: reading it would not end
    with pytest.raises(ImageTooLarge):
        read_image(path)


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    loop = tmp_path / "loop.jpg"
    loop.symlink_to(loop)
    cases: list[tuple[str | Path, str]] = [
        (tmp_path / "missing.jpg", "There is no file"),
        (tmp_path, "is a directory"),
        (pipe, "not a regular file"),
        ("/dev/zero", "not a regular file"),
        (loop, "cannot be read"),
        ("a" * 5000, "cannot be read"),
        ("nul\x00.jpg", "cannot be the path"),
        ("surrogate\ud800.jpg", "cannot be the path"),
        ("", "There is no file"),
    ]
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0  # noqa: PTH208
    for path, words in cases:
        with pytest.raises(UnreadableImage, match=words) as caught:
            read_image(path)
        str(caught.value).encode()
    after = len(os.listdir("/proc/self/fd")) if before else 0  # noqa: PTH208
    assert after == before, "a descriptor was left open"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.jpg"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(UnreadableImage, match="may not be read"):
        read_image(path)


def test_limits_that_make_no_sense() -> None:
    for wrong in ({"max_bytes": 0}, {"max_pixels": 0}, {"max_pixels": 10**9}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            ImageLimits(**wrong)


# Side effects


def test_the_warning_filters_survive_many_threads(draw: Draw, encode: Encode) -> None:
    data = encode(draw(), "JPEG")
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [read_image(data) for _ in range(20)]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


def test_reading_needs_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, captioner.reader_child; print([m for m in ('torch', 'torchvision', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
