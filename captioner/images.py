"""From bytes or a path to an upright RGB picture within limits, and on to the square that the model sees.

This is the only door through which a picture enters, whoever asks: the service, a folder job, evaluation or training.
Pillow and the standard library only: a reading child (reader.py) imports this under a memory limit that torch breaks.

Formats are recognised by their content, never by a name. JPEG (also the first picture of an MPO), PNG, WebP, GIF (first
frame), BMP and TIFF (first page) are read. HEIC and AVIF are refused by name: not every build of Pillow reads AVIF, and
one picture must not fare differently on two machines. Colour profiles are not applied, as in torchvision.
"""

from __future__ import annotations

import math
import os
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageMath,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from captioner.errors import ConfigurationError, ImageError, ImageTooLarge, UnreadableImage
from captioner.formats import recognise
from captioner.pieces import check_pieces

ImageSource = bytes | str | os.PathLike[str]

# Importing the plugins by name registers them, so Pillow never has to load its forty others to find one.
_PLUGINS = (
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

# What Pillow has been seen to raise on damaged files, or raises in its source. RuntimeError holds NotImplementedError,
# LookupError holds KeyError and IndexError, ValueError holds UnicodeError; the last three derive from Exception alone.
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    ImageCms.PyCMSError,
    struct.error,
    zlib.error,
)

# Above this Pillow itself warns of a decompression bomb, which we turn into a refusal.
_PILLOW_MAX_PIXELS = 89_478_485


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """How large a picture may be.

    Args:
        max_bytes: of the file, in bytes.
        max_pixels: width times height; at most 89,478,485, where Pillow's own ceiling lies.

    Raises:
        ConfigurationError: a limit is not positive, or max_pixels is above Pillow's ceiling.
    """

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise ConfigurationError(f"max_bytes must be at least 1, not {self.max_bytes}.")
        if not 1 <= self.max_pixels <= _PILLOW_MAX_PIXELS:
            raise ConfigurationError(f"max_pixels must be from 1 to {_PILLOW_MAX_PIXELS}, not {self.max_pixels}.")


DEFAULT_LIMITS = ImageLimits()


def read_image(source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS) -> Image.Image:
    """Read one picture as upright RGB; what is transparent becomes white.

    Args:
        source: the bytes of an encoded picture, or the path of a regular file.
        limits: the most bytes and pixels; both are checked before anything is decoded.

    Returns:
        A Pillow image in mode RGB, turned as its EXIF orientation says.

    Raises:
        UnreadableImage: no such file, no picture, a truncated or damaged one, or one of too many pieces.
        UnsupportedFormat: a picture or document in a format that is not read here.
        ImageTooLarge: more bytes or pixels than the limits allow.
    """
    data = source if isinstance(source, bytes) else _read_file(source, limits.max_bytes)
    if len(data) > limits.max_bytes:
        raise _too_many_bytes(limits.max_bytes)
    format_name = recognise(data)
    check_pieces(data, format_name)
    try:
        with _quiet():
            return _decode(data, format_name, limits.max_pixels)
    except ImageError:
        raise
    except MemoryError as error:
        raise UnreadableImage("The picture needs more memory than is allowed here: make it smaller.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels(limits.max_pixels) from error
    except _DAMAGE as error:
        raise UnreadableImage(
            f"The {format_name} picture is damaged or incomplete and cannot be read: use an intact copy."
        ) from error


def _read_file(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """The bytes of a regular file, at most one more than `max_bytes` of them."""
    name = os.fsdecode(path)
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise UnreadableImage(f"{name!r} is a directory, not a picture: name the pictures in it.")
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableImage(f"{name!r} is not a regular file: name a picture file.")
            if status.st_size > max_bytes:
                raise _too_many_bytes(max_bytes)
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(max_bytes + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise UnreadableImage(f"There is no file {name!r}: check the path.") from error
    except PermissionError as error:
        raise UnreadableImage(f"The file {name!r} may not be read by this user: change its permissions.") from error
    except OSError as error:
        raise UnreadableImage(f"The file {name!r} cannot be read ({error.strerror}): check the path.") from error
    except ValueError as error:  # a path with a null character
        raise UnreadableImage(f"{name!r} cannot be the path of a file: check the path.") from error


def _too_many_bytes(max_bytes: int) -> ImageTooLarge:
    return ImageTooLarge(f"The file has more than {max_bytes:,} bytes, the most allowed: use a smaller one.")


def _too_many_pixels(max_pixels: int) -> ImageTooLarge:
    return ImageTooLarge(f"The picture has more than {max_pixels:,} pixels, the most allowed: make it smaller.")


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_filters: warnings.catch_warnings[None] | None = None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Pillow's warnings in, save the one about bombs, which becomes an error.

    Warning filters belong to the whole process, and two threads that save and restore them in turn would leave them
    changed for ever. So the first thread in saves them, and the last one out restores them.
    """
    global _quiet_depth, _quiet_filters
    with _quiet_lock:
        if _quiet_depth == 0:
            _quiet_filters = warnings.catch_warnings()
            _quiet_filters.__enter__()
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0 and _quiet_filters is not None:
                _quiet_filters.__exit__(None, None, None)
                _quiet_filters = None


def _decode(data: bytes, format_name: str, max_pixels: int) -> Image.Image:
    with Image.open(BytesIO(data), formats=[format_name]) as image:
        if image.width * image.height > max_pixels:
            raise _too_many_pixels(max_pixels)
        image.load()
        rgb, orientation = _to_rgb(image), _orientation(image)
    # The decoded picture is gone by now: turning needs the room of two pictures, not of three.
    return _upright(rgb, orientation)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) where it is missing or the EXIF block is damaged."""
    try:
        orientation = image.getexif().get(0x0112)
    except _DAMAGE:  # a damaged EXIF block must not cost the picture
        return 1
    return orientation if isinstance(orientation, int) else 1


# EXIF 2.3, tag 0x0112: how the stored picture must be turned to stand upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB on white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _grey_to_rgb(image)
    if not image.has_transparency_data:
        return image.copy() if image.mode == "RGB" else image.convert("RGB")
    picture = image if image.mode == "RGBA" else image.convert("RGBA")  # one copy fewer of what may be enormous
    white = Image.new("RGB", picture.size, "white")
    white.paste(picture, mask=picture)
    return white


def _grey_to_rgb(image: Image.Image) -> Image.Image:
    """Grey with more than 8 bits to RGB: scaled to 0..255 with rounding, where Pillow's own conversion saturates."""
    transparent = image.info.get("transparency")
    wide = image.convert("I") if image.mode.startswith("I;16") else image
    low, high = _range(wide) if wide is image else (0.0, _white_of_16_bits(image))
    scale = 255.0 / (high - low)
    # The conversion to L cuts the fraction off, so a half is added first.
    grey = wide.convert("F").point(lambda value: value * scale + (0.5 - low * scale)).convert("L")
    if isinstance(transparent, int) and wide is not image:  # PNG's tRNS: this one value is transparent
        mask = ImageMath.lambda_eval(lambda args: args["wide"] == transparent, wide=wide)
        grey.paste(255, mask=mask.point(lambda value: value * 255).convert("L"))
    return grey.convert("RGB")


def _white_of_16_bits(image: Image.Image) -> float:
    """65535, save in a TIFF that says that it uses only 12 of the bits (tag 258, BitsPerSample)."""
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(258) == (12,):
        return 4095.0
    return 65535.0


def _range(image: Image.Image) -> tuple[float, float]:
    """What is black and what is white in a grey picture of mode I or F."""
    extrema = image.getextrema()
    low, high = float(extrema[0]), float(extrema[1])  # type: ignore[arg-type]  # one channel: two numbers
    if not math.isfinite(low) or not math.isfinite(high):
        raise UnreadableImage("The picture has values that are not finite numbers: convert it to JPEG or PNG.")
    # The file does not say which value is white: the smallest customary range that holds all values, else their own.
    customary = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    for white in customary:
        if low >= 0.0 and high <= white:
            return 0.0, white
    return (low, high) if high > low else (low, low + 1.0)
