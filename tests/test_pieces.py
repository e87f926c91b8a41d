"""Files of too many pieces are refused before they are decoded, and honest ones are not."""

from __future__ import annotations

import io
import time

import pytest
from PIL import Image

from captioner.errors import UnreadableImage
from captioner.images import read_image
from captioner.pieces import MAX_PIECES, MAX_SCANS
from tests.pieces import chunk, jpeg_with, png_with, progressive_jpeg, segment, striped_tiff

TOO_MANY = {
    "scans of a JPEG": lambda: progressive_jpeg(MAX_SCANS + 1),
    "segments of a JPEG": lambda: jpeg_with(segment() * MAX_PIECES),
    "bytes between the segments of a JPEG": lambda: jpeg_with(b"\xff" * MAX_PIECES + segment()),
    "chunks of a PNG": lambda: png_with(chunk(b"abCd") * MAX_PIECES),
    "strips of a TIFF": lambda: striped_tiff(MAX_PIECES + 1),
    "strips of a TIFF of Motorola": lambda: striped_tiff(MAX_PIECES + 1, order=">"),
    "strips of a BigTIFF": lambda: striped_tiff(MAX_PIECES + 1, big=True),
}


@pytest.mark.parametrize("name", TOO_MANY)
def test_too_many_pieces_are_one_sentence(name: str) -> None:
    data = TOO_MANY[name]()
    started = time.process_time()
    with pytest.raises(UnreadableImage, match=r"made of more than [\d,]+ \w+.*: save it again\.$"):
        read_image(data)
    assert time.process_time() - started < 1


def test_the_bounds_are_inclusive() -> None:
    assert read_image(progressive_jpeg(MAX_SCANS)).size == (64, 64)
    assert read_image(striped_tiff(1000)).size == (1, 1000)  # MAX_PIECES of them take Pillow half a second
    assert read_image(striped_tiff(1000, order=">")).size == (1, 1000)
    assert read_image(striped_tiff(1000, big=True)).size == (1, 1000)


@pytest.mark.parametrize("options", [{"progressive": True}, {"progressive": True, "quality": 100}, {}])
def test_honest_jpegs_are_read(options: dict[str, int]) -> None:
    noise = Image.effect_noise((500, 400), 90).convert("RGB")  # its entropy-coded data is full of FF 00
    stream = io.BytesIO()
    noise.save(stream, "JPEG", **options)
    assert read_image(stream.getvalue()).size == (500, 400)


def test_what_only_looks_like_a_scan_does_not_count() -> None:
    """Markers in a comment, in the picture's own thumbnail, and behind its end."""
    scans = b"\xff\xda\x00\x02" * (2 * MAX_SCANS)
    assert read_image(jpeg_with(segment(scans, 0xFE) + segment(scans, 0xE1))).size == (64, 64)
    assert read_image(jpeg_with(b"") + scans).size == (64, 64)
    assert read_image(progressive_jpeg(MAX_SCANS) + progressive_jpeg(MAX_SCANS)).size == (64, 64)


def test_scans_that_hide_count() -> None:
    """Behind what decoders skip: bytes that fill, restarts, and bytes of no meaning between two segments."""
    data = progressive_jpeg(MAX_SCANS + 1)
    for between in (b"\xff\xff", b"\xff\xd0", b"\xff\x01", b"junk"):
        with pytest.raises(UnreadableImage, match="more than 100 scans"):
            read_image(data.replace(b"\xff\xda", between + b"\xff\xda"))


def test_what_stands_behind_the_end_of_a_png_does_not_count() -> None:
    assert read_image(png_with(b"", behind=bytes(13 * MAX_PIECES))).size == (64, 64)


@pytest.mark.parametrize("data", [b"\xff" * 2**20, b"\xff\x00" * 2**19, b"\xff\xd0" * 2**19, b"\xff\xe0" * 2**19])
def test_the_walk_is_quick_itself(data: bytes) -> None:
    started = time.process_time()
    with pytest.raises(UnreadableImage):
        read_image(b"\xff\xd8\xff" + data)
    assert time.process_time() - started < 1
