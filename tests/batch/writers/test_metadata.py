"""Texts in pictures, through the real ExifTool: pixels untouched, no person's text replaced."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captioner.batch.style import TextStyle
from captioner.batch.whole_file import partial_path
from captioner.batch.writers.exiftool import ExifTool
from captioner.batch.writers.metadata import ALT_TEXT, CAPTION, DESCRIPTION, IMAGE_DESCRIPTION, TARGET, MetadataWriter
from captioner.errors import OutputError
from captioner.ledger import Change
from tests.batch.writers.samples import MODEL, item, picture, row

ALL = (ALT_TEXT, DESCRIPTION, CAPTION, IMAGE_DESCRIPTION)
CONTRIBUTOR = "XMP-dc:Contributor"

pytestmark = pytest.mark.skipif(
    shutil.which("exiftool") is None, reason="no exiftool on this machine (apt-get install libimage-exiftool-perl)"
)


@pytest.fixture(scope="module")
def exiftool() -> Iterator[ExifTool]:
    """One process for this file."""
    with ExifTool() as exiftool:
        yield exiftool


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A JPEG without metadata."""
    path = tmp_path / "a.jpg"
    path.write_bytes(picture("JPEG"))
    return path


def plan(exiftool: ExifTool, path: Path, caption: str = "a dog runs", style: TextStyle | None = None) -> Change | None:
    writer = MetadataWriter(style=style or TextStyle(), exiftool=exiftool)
    return writer.plan(item(path.name, path=path), row(path.name, caption))


def apply(exiftool: ExifTool, path: Path, caption: str = "a dog runs", style: TextStyle | None = None) -> Change:
    change = plan(exiftool, path, caption, style)
    assert change is not None
    MetadataWriter(style=TextStyle(), exiftool=exiftool).apply(change)
    return change


def revert(exiftool: ExifTool, change: Change) -> bool:
    return MetadataWriter(style=TextStyle(), exiftool=exiftool).revert(change)


def exif(path: Path, *arguments: str) -> None:
    """A person at work, with an exiftool of their own."""
    subprocess.run(["exiftool", "-q", "-overwrite_original", *arguments, str(path)], check=True)


def texts(path: Path) -> dict[str, Any]:
    """The fields that are there, as a process of its own reads them."""
    arguments = ["-j", "-a", "-G1", "-XMP-dc:all", "-XMP-iptcCore:all", "-IPTC:all", "-IFD0:ImageDescription"]
    with path.open("rb") as file:  # from its content: not every name can be an argument
        printed = subprocess.run(["exiftool", *arguments, "-"], stdin=file, capture_output=True, check=True).stdout
    found: dict[str, Any] = json.loads(printed)[0]
    return {name: value for name, value in found.items() if name not in ("SourceFile", "IPTC:ApplicationRecordVersion")}


def pixels(path: Path) -> bytes:
    with Image.open(BytesIO(path.read_bytes())) as image:
        return image.convert("RGB").tobytes()


@pytest.mark.parametrize(
    ("format_name", "fields"),
    [
        ("JPEG", ALL),
        ("TIFF", ALL),
        ("PNG", (ALT_TEXT, DESCRIPTION, IMAGE_DESCRIPTION)),
        ("WEBP", (ALT_TEXT, DESCRIPTION, IMAGE_DESCRIPTION)),
        ("GIF", (ALT_TEXT, DESCRIPTION)),
    ],
)
def test_each_format_takes_the_text_keeps_its_pixels_and_gives_it_back(
    format_name: str, fields: tuple[str, ...], exiftool: ExifTool, tmp_path: Path
) -> None:
    path = tmp_path / "a.xyz"
    path.write_bytes(picture(format_name))
    path.chmod(0o640)
    before = pixels(path)
    change = apply(exiftool, path)
    found = texts(path)
    assert {field: found[field] for field in fields} == dict.fromkeys(fields, "a dog runs")
    assert found[CONTRIBUTOR].startswith(f"captioner {MODEL} (machine-made text ")
    assert pixels(path) == before
    assert path.stat().st_mode & 0o777 == 0o640
    assert plan(exiftool, path) is None
    assert revert(exiftool, change)
    assert texts(path) == {}
    assert pixels(path) == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_bytes_of_a_jpeg_picture_are_the_same(exiftool: ExifTool, photo: Path) -> None:
    scan = photo.read_bytes()[photo.read_bytes().index(b"\xff\xda") :]
    apply(exiftool, photo)
    assert photo.read_bytes().endswith(scan)


def test_a_change_holds_what_undoing_needs(exiftool: ExifTool, photo: Path) -> None:
    change = plan(exiftool, photo)
    assert change is not None
    assert change.target == TARGET + os.fsencode(photo)
    assert json.loads(change.before or b"") == dict.fromkeys(ALL) | {CONTRIBUTOR: []}
    assert set(json.loads(change.after)) == {*ALL, CONTRIBUTOR}


@pytest.mark.parametrize("field", [DESCRIPTION, "XMP-dc:Description-fr", CAPTION, "EXIF:ImageDescription"])
def test_a_description_by_a_person_is_the_only_one(field: str, exiftool: ExifTool, photo: Path) -> None:
    exif(photo, f"-{field}=Rex, 2019")
    before = texts(photo)
    change = apply(exiftool, photo)
    assert texts(photo) == before | {ALT_TEXT: "a dog runs", CONTRIBUTOR: texts(photo)[CONTRIBUTOR]}
    assert revert(exiftool, change)
    assert texts(photo) == before


def test_an_alternative_text_by_a_person_stays_too(exiftool: ExifTool, photo: Path) -> None:
    exif(photo, f"-{ALT_TEXT}-de=Ein Hund", f"-{DESCRIPTION}=2019", f"-{CONTRIBUTOR}=Ann")
    before = photo.read_bytes()
    assert plan(exiftool, photo) is None
    assert photo.read_bytes() == before


def test_blanks_of_a_camera_are_no_text_and_come_back(exiftool: ExifTool, photo: Path) -> None:
    exif(photo, "-EXIF:ImageDescription=     ")
    change = apply(exiftool, photo)
    assert texts(photo)[IMAGE_DESCRIPTION] == "a dog runs"
    assert revert(exiftool, change)
    assert texts(photo) == {IMAGE_DESCRIPTION: "     "}


def test_our_own_text_is_brought_up_to_date_and_a_persons_entry_stays(exiftool: ExifTool, photo: Path) -> None:
    exif(photo, f"-{CONTRIBUTOR}=Ann")
    apply(exiftool, photo)
    change = apply(exiftool, photo, "two dogs")
    found = texts(photo)
    assert [found[field] for field in ALL] == ["two dogs"] * 4
    assert found[CONTRIBUTOR][0] == "Ann"
    assert len(found[CONTRIBUTOR]) == 2
    assert revert(exiftool, change)
    assert texts(photo)[ALT_TEXT] == "a dog runs"
    assert plan(exiftool, photo) is None, "and is known as ours again"


def test_a_text_of_ours_that_a_person_edited_is_theirs(exiftool: ExifTool, photo: Path) -> None:
    change = apply(exiftool, photo)
    exif(photo, f"-{DESCRIPTION}=Rex")
    second = plan(exiftool, photo, "two dogs")
    assert second is not None
    assert set(json.loads(second.after)) == {ALT_TEXT, CONTRIBUTOR}
    assert not revert(exiftool, change)
    assert texts(photo) == {DESCRIPTION: "Rex"}


def test_applying_again_does_nothing_and_a_text_in_between_is_an_error(exiftool: ExifTool, photo: Path) -> None:
    change = apply(exiftool, photo)
    before = photo.read_bytes()
    MetadataWriter(style=TextStyle(), exiftool=exiftool).apply(change)
    assert photo.read_bytes() == before
    exif(photo, f"-{ALT_TEXT}=Rex")
    with pytest.raises(OutputError, match="were changed by somebody else meanwhile"):
        MetadataWriter(style=TextStyle(), exiftool=exiftool).apply(change)


@pytest.mark.parametrize(
    "text", ["=x", "<x", "-y=z", "a & b; \"c\" 'd' $e @f #g %h \\n &lt;", "übergröße 犬", "2019", "+"]
)
def test_any_text_arrives_as_it_is(text: str, exiftool: ExifTool, photo: Path) -> None:
    change = apply(exiftool, photo, text)
    found = texts(photo)
    assert [str(found[field]) for field in ALL] == [text] * 4
    assert plan(exiftool, photo, text) is None
    assert revert(exiftool, change)


def test_letters_that_iptc_does_not_know_do_not_garble_what_is_there(exiftool: ExifTool, photo: Path) -> None:
    exif(photo, "-IPTC:Keywords=Köln")
    apply(exiftool, photo, "犬")
    assert texts(photo)["IPTC:Keywords"] == "Köln"
    assert CAPTION not in texts(photo)
    assert plan(exiftool, photo, "犬") is None


@pytest.mark.parametrize(
    "name",
    [
        "-a.jpg",
        " a b .jpg",
        "a\nb.jpg",
        "#a.jpg",
        "a%f$d@x'\".jpg",
        "é犬.jpg",
        os.fsdecode(b"\xff\xfe.jpg"),
        "x" * 251 + ".jpg",
    ],
)
def test_any_file_name_works(name: str, exiftool: ExifTool, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(picture("JPEG"))
    change = apply(exiftool, path)
    assert texts(path)[ALT_TEXT] == "a dog runs"
    assert revert(exiftool, change)
    assert texts(path) == {}
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_and_its_picture_gets_the_text(exiftool: ExifTool, photo: Path) -> None:
    link = photo.with_name("link.jpg")
    link.symlink_to(photo)
    apply(exiftool, link)
    assert link.is_symlink()
    assert texts(photo)[ALT_TEXT] == "a dog runs"


def test_what_an_attempt_left_that_was_killed_is_tidied_up(exiftool: ExifTool, photo: Path) -> None:
    partial_path(photo).write_bytes(b"half of something longer" * 1000)
    apply(exiftool, photo)
    assert list(photo.parent.iterdir()) == [photo]


def test_pictures_that_take_no_text_are_named(exiftool: ExifTool, tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    path.write_bytes(picture("BMP"))
    with pytest.raises(OutputError, match=r"^a\.bmp is a BMP picture, which takes no text: write a sidecar instead\.$"):
        plan(exiftool, path)
    member = item("s.tar/a.jpg", path=tmp_path / "s.tar", member="a.jpg")
    with pytest.raises(OutputError, match=r"^s\.tar/a\.jpg lies in an archive, which is only read"):
        MetadataWriter(style=TextStyle(), exiftool=exiftool).plan(member, row("a.jpg"))


def test_a_damaged_picture_is_refused_and_stays(exiftool: ExifTool, photo: Path) -> None:
    photo.write_bytes(photo.read_bytes()[:200])
    before = photo.read_bytes()
    with pytest.raises(OutputError, match=r"^exiftool refused: "):
        apply(exiftool, photo)
    assert photo.read_bytes() == before
    assert list(photo.parent.iterdir()) == [photo]


def test_the_style_and_its_length_hold_here_too(exiftool: ExifTool, photo: Path) -> None:
    apply(exiftool, photo, "a picture of a dog", TextStyle(alt=True, suffix=os.fsdecode(b"\xff")))
    assert texts(photo)[DESCRIPTION] == "A dog\\udcff."
    assert plan(exiftool, photo, "a picture of a dog", TextStyle(alt=True, suffix=os.fsdecode(b"\xff"))) is None
