"""Which format the first bytes of a file announce: one that is read here, or one that is refused by its name.

A file's name and its declared media type are never asked. The six allowed formats are those that the web and data sets
use; every other parser is one more way in for a hostile file.
"""

from __future__ import annotations

from captioner.errors import UnreadableImage, UnsupportedFormat

ALLOWED_FORMATS = "JPEG, PNG, WebP, GIF, BMP or TIFF"

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),  # BigTIFF
    (b"MM\x00+", "TIFF"),
)

_FOREIGN_SIGNATURES = (
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"8BPS", "Photoshop"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\x00\x00\x01\x00", "icon (ICO)"),
    (b"icns", "icon (ICNS)"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"SIMPLE  =", "FITS"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"\x8aMNG", "MNG"),
    (b"AT&TFORM", "DjVu"),
    (b"\x1a\x45\xdf\xa3", "Matroska or WebM video"),
    (b"PK\x03\x04", "ZIP archive"),
    (b"\x1f\x8b", "gzip archive"),
)

_FOREIGN_BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"heim": "HEIC",
    b"heis": "HEIC",
    b"hevc": "HEIC",
    b"hevx": "HEIC",
    b"mif1": "HEIF",
    b"msf1": "HEIF",
    b"crx ": "Canon raw (CR3)",
}


def recognise(data: bytes) -> str:
    """Which of the allowed formats the first bytes announce.

    Args:
        data: the file, or its first kilobyte.

    Returns:
        Pillow's name of the format: JPEG, PNG, WEBP, GIF, BMP or TIFF.

    Raises:
        UnsupportedFormat: another format that is known by name.
        UnreadableImage: no bytes, or no format that is known.
    """
    if not data:
        raise UnreadableImage("The file is empty: use an intact copy.")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    foreign = _recognise_foreign(data)
    if foreign is None:
        raise UnreadableImage(f"The file holds no picture that is known here: use {ALLOWED_FORMATS}.")
    raise UnsupportedFormat(f"{foreign} is not read here: convert the picture to JPEG or PNG ({ALLOWED_FORMATS} work).")


def _recognise_foreign(data: bytes) -> str | None:
    """The name of a format that is not read here, or None if the bytes are no format that we know."""
    for signature, name in _FOREIGN_SIGNATURES:
        if data.startswith(signature):
            return name
    if data[4:8] == b"ftyp":  # ISO base media file (ISO/IEC 14496-12): major brand, version, compatible brands
        box_end = min(int.from_bytes(data[:4], "big"), len(data), 256)
        brands = [data[8:12], *(data[start : start + 4] for start in range(16, box_end, 4))]
        # A generic major brand (mif1) may carry a compatible brand that says more: the specific names win.
        names = [_FOREIGN_BRANDS[brand] for brand in brands if brand in _FOREIGN_BRANDS]
        return next((name for name in names if name != "HEIF"), names[0] if names else "MP4 or QuickTime video")
    if data[:2] in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"P7") and data[2:3].isspace():
        return "PNM"
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"<") and b"<svg" in head:
        return "SVG"
    if head.startswith((b"<!doctype html", b"<html")):
        return "HTML"
    return None
