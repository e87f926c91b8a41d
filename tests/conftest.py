"""Pictures for every test, drawn here; no photo of anyone is in this repository."""

from __future__ import annotations

import io
import os
import signal
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from PIL import Image

# One thread a process, as `make test` has it: two workers have both processors, and threads that wait for each other
# do so awake. Read by torch when it is imported, and by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# How long an example takes says nothing where other things run beside it.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")
# A shell that starts the tests in the background has its children ignore Ctrl-C, which some tests send to theirs.
signal.signal(signal.SIGINT, signal.default_int_handler)
_SIGNALS = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file, which trains a model, begins first, so that no worker waits for it at the end."""
    items.sort(key=lambda item: item.path.name != "test_three_doors.py")


Encode = Callable[..., bytes]
Draw = Callable[..., Image.Image]


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """A job leaves signals ignored, since its process ends with it; this process goes on, and has children.

    Before a test as well as after it: a fixture of a whole file may have run a job.
    """
    _restore_signals()
    yield
    _restore_signals()


def _restore_signals() -> None:
    for number, handler in _SIGNALS.items():
        signal.signal(number, handler)


def _draw(width: int = 160, height: int = 120, seed: int = 0) -> Image.Image:
    """A smooth random RGB picture, so that JPEG and resizing have something to do."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def _encode(image: Image.Image, image_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def _png(width: int, height: int, depth: int, colour: int, data: bytes) -> bytes:
    """A PNG with any header before any data."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.fixture(scope="session")
def draw() -> Draw:
    return _draw


@pytest.fixture(scope="session")
def encode() -> Encode:
    return _encode


@pytest.fixture(scope="session")
def foreign_files() -> dict[str, bytes]:
    """The first bytes of formats that are refused, under a word that the refusal must contain."""
    rest = bytes(64)
    return {
        "HEIC": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + rest,
        "HEIF": b"\x00\x00\x00\x14ftypmif1\x00\x00\x00\x00mif1" + rest,
        "AVIF": b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00mif1avif" + rest,
        "MP4": b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp42" + rest,
        "SVG": b'\xef\xbb\xbf<?xml version="1.0"?>\n<SVG xmlns="http://www.w3.org/2000/svg"/>',
        "HTML": b"\n<!DOCTYPE html><p>404",
        "PDF": b"%PDF-1.7\n" + rest,
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "Photoshop": b"8BPS\x00\x01" + rest,
        "JPEG XL": b"\xff\x0a" + rest,
        "JPEG 2000": b"\x00\x00\x00\x0cjP  \r\n\x87\n" + rest,
        "ICO": b"\x00\x00\x01\x00\x01\x00" + rest,
        "PNM": b"P6\n2 2\n255\n" + rest,
        "FITS": b"SIMPLE  =                    T",
        "ZIP": b"PK\x03\x04" + rest,
    }


@pytest.fixture(scope="session")
def damaged_files() -> dict[str, bytes]:
    """Files that must give UnreadableImage, whatever Pillow raises inside."""
    picture = _draw()
    jpeg = _encode(picture, "JPEG", quality=90)
    png = _encode(picture, "PNG")
    webp = _encode(picture, "WEBP")
    gif = _encode(picture, "GIF")
    bmp = _encode(picture, "BMP")
    tiff = _encode(picture, "TIFF", compression="tiff_lzw")
    middle = len(png) // 2
    return {
        "empty": b"",
        "one byte": b"\xff",
        "zeros": bytes(4096),
        "text": b"This is not a picture.\n" * 40,
        "jpeg: signature only": b"\xff\xd8\xff",
        "jpeg: header only": jpeg[:200],
        "jpeg: half": jpeg[: len(jpeg) // 2],
        "jpeg: no size": jpeg.replace(struct.pack(">HH", 120, 160), bytes(4), 1),
        "png: signature only": png[:8],
        "png: half": png[:middle],
        "png: a byte changed": png[:middle] + bytes([png[middle] ^ 255]) + png[middle + 1 :],
        "png: no width": _png(0, 10, 8, 2, zlib.compress(b"")),
        "png: depth 3": _png(8, 8, 3, 2, zlib.compress(bytes(200))),
        "png: pixels missing": _png(100, 100, 8, 2, zlib.compress(bytes(50))),
        "png: no zlib stream": _png(8, 8, 8, 2, b"garbage"),
        "webp: signature only": webp[:12],
        "webp: half": webp[: len(webp) // 2],
        "gif: signature only": gif[:6],
        "gif: half": gif[: len(gif) // 2],
        "gif: no width": b"GIF89a" + bytes(32),
        "bmp: signature only": bmp[:2],
        "bmp: half": bmp[: len(bmp) // 2],
        "bmp: 5 bits": bmp[:28] + b"\x05\x00" + bmp[30:],
        "bmp: unknown compression": bmp[:30] + b"\x63\x00\x00\x00" + bmp[34:],
        "tiff: signature only": tiff[:4],
        "tiff: half": tiff[: len(tiff) // 2],
        "tiff: directory nowhere": tiff[:4] + b"\xff\xff\xff\x7f" + tiff[8:],
        "tiff: directory on itself": b"II*\x00\x08\x00\x00\x00\x00\x00\x08\x00\x00\x00",
    }


@pytest.fixture(scope="session")
def bombs() -> dict[str, bytes]:
    """Small files that announce enormous pictures: ImageTooLarge, before anything is decoded."""
    rows = zlib.compress(bytes(1 + 13000 // 8) * 13000, 9)
    frame = b"," + struct.pack("<HHHHBB", 0, 0, 65535, 65535, 0, 8)
    extended = b"\x02\x00\x00\x00" + b"\xfe\x3f\x00" * 2
    animation = b"WEBPVP8X" + struct.pack("<I", 10) + extended + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    return {
        "png: 169 million": _png(13000, 13000, 1, 0, rows),
        "png: 4 billion squared": _png(2**31 - 1, 2**31 - 1, 8, 6, zlib.compress(b"")),
        "gif: 65535 squared": b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(3) + frame,
        "bmp: a billion": b"BM" + struct.pack("<IIIIiiHHIIiiII", 58, 0, 54, 40, 32000, 32000, 1, 24, 0, 0, 0, 0, 0, 0),
        "webp: 16383 squared": b"RIFF" + struct.pack("<I", len(animation)) + animation,
    }


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a tiny untrained model: its captions are nonsense, always the same nonsense."""
    import torch  # not for the tests that read pictures: it takes seconds

    from captioner.bundle import Bundle, save_bundle
    from captioner.decoding.options import DecodingOptions
    from captioner.geometry import Geometry
    from captioner.model.caption_model import CaptionModel
    from captioner.model.configuration import DecoderConfiguration, EncoderConfiguration
    from captioner.model.decoder import Decoder
    from captioner.preprocessing import Preprocessing
    from captioner.text.vocabulary import Vocabulary

    words = "a the dog cat man woman child ball beach grass water runs sits jumps plays on in with red 's".split()
    vocabulary = Vocabulary(words)
    configuration = DecoderConfiguration(embedding_size=16, hidden_size=24, attention_size=12)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = CaptionModel(
            EncoderConfiguration(name="squeezenet1_1", cut="features.5"),  # 7 x 7 places of 64 x 64 pixels
            configuration,
            vocabulary_size=len(vocabulary),
        )
        torch.manual_seed(2)
        model.decoder = Decoder(configuration, vocabulary_size=len(vocabulary), channels=model.encoder.channels)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(3.0)  # opinions strong enough to differ from picture to picture
    bundle = Bundle(
        name="tiny",
        model=model.eval(),
        vocabulary=vocabulary,
        preprocessing=Preprocessing(geometry=Geometry(size=64)),
        decoding=DecodingOptions(max_length=12),
        licence="Apache-2.0",
    )
    path = tmp_path_factory.mktemp("bundles") / "tiny"
    save_bundle(bundle, path, card="# tiny\n\nUntrained, for tests.\n", licence_text="Apache-2.0\n")
    return path
