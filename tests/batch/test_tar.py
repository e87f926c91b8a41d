"""Where the members of a tar lie; Python's tarfile is the reference."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from captioner.batch.tar import PlainFile, TarIndex, read_index

NAMES = [
    "a.jpg",
    "b/" * 40 + "c.jpg",
    "d" * 90 + "/" + "e" * 98,
    "f" * 300 + ".jpg",
    "é/ß.jpg",
    "\udcff.jpg",
    "x" * 100,
]


def index_of(path: Path) -> TarIndex:
    file = PlainFile(str(path))
    try:
        return read_index(file)
    finally:
        file.close()


def by_tarfile(path: Path) -> dict[str, tuple[int, int]]:
    with tarfile.open(path) as archive:
        return {member.name: (member.offset_data, member.size) for member in archive if member.isfile()}


def write(path: Path, *members: tarfile.TarInfo, tar_format: int = tarfile.PAX_FORMAT) -> None:
    with tarfile.open(path, "w", format=tar_format) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size))


def member(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, to: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, to
    return info


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_every_format_of_tarfile(tmp_path: Path, tar_format: int) -> None:
    names = [name for name in NAMES if tar_format != tarfile.USTAR_FORMAT or len(name) < 200]
    members = [member(name, size) for size, name in enumerate(names, start=510)]
    members.insert(2, member("folder", kind=tarfile.DIRTYPE))
    members.insert(3, member("pipe", kind=tarfile.FIFOTYPE))
    write(tmp_path / "a.tar", *members, tar_format=tar_format)
    index = index_of(tmp_path / "a.tar")
    assert index.members == by_tarfile(tmp_path / "a.tar")
    assert list(index.members) == names
    assert index.problem is None


@pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not installed")
@pytest.mark.parametrize("tar_format", ["v7", "oldgnu", "gnu", "ustar", "pax"])
def test_every_format_of_the_tar_command(tmp_path: Path, tar_format: str) -> None:
    names = ["a.jpg", "b/c.jpg", "d" * 99, *([] if tar_format == "v7" else ["e" * 90 + "/" + "f" * 90 + ".jpg"])]
    for size, name in enumerate(names, start=511):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"x" * size)
    subprocess.run(
        ["tar", "-C", tmp_path / "in", f"--format={tar_format}", "-cf", tmp_path / "a.tar", *names], check=True
    )
    index = index_of(tmp_path / "a.tar")
    assert index.members == by_tarfile(tmp_path / "a.tar")
    assert len(index.members) == len(names)
    assert index.problem is None


def test_a_hard_link_is_the_file_that_it_links_to(tmp_path: Path) -> None:
    long = "n" * 200 + ".jpg"
    for tar_format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        links = [
            member("b.jpg", kind=tarfile.LNKTYPE, to=long),
            member("c.jpg", kind=tarfile.SYMTYPE, to=long),
            member("d.jpg", kind=tarfile.LNKTYPE, to="nowhere"),
        ]
        write(tmp_path / "a.tar", member(long, 7), *links, tar_format=tar_format)
        index = index_of(tmp_path / "a.tar")
        assert list(index.members) == [long, "b.jpg"]
        assert index.members["b.jpg"] == index.members[long]
        assert (index.links, index.problem) == (2, None)


@pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not installed")
@pytest.mark.parametrize("tar_format", ["gnu", "pax"])
def test_a_member_with_holes_is_told_and_the_next_one_is_found(tmp_path: Path, tar_format: str) -> None:
    with (tmp_path / "holes.jpg").open("wb") as file:
        for number in range(30):
            file.seek(number * 2**17)
            file.write(b"x")
    (tmp_path / "next.jpg").write_bytes(b"abc")
    options = ["--sparse", "--hole-detection=raw", f"--format={tar_format}"]
    subprocess.run(["tar", "-C", tmp_path, *options, "-cf", tmp_path / "a.tar", "holes.jpg", "next.jpg"], check=True)
    index = index_of(tmp_path / "a.tar")
    assert index.problem is None
    assert list(index.members) == ["holes.jpg", "next.jpg"]
    assert index.members["holes.jpg"] == (-1, 29 * 2**17 + 1)
    assert index.members["next.jpg"] == by_tarfile(tmp_path / "a.tar")["next.jpg"]


def test_common_pax_records_and_sizes_beyond_the_field(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "all"}) as archive:
        info = member("a.jpg", 3)
        info.pax_headers = {"size": "3", "comment": "a = b\nc"}
        archive.addfile(info, io.BytesIO(b"abc"))
    assert index_of(tmp_path / "a.tar").members == by_tarfile(tmp_path / "a.tar")


def test_base_256_sizes(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", member("a.jpg", 3), tar_format=tarfile.GNU_FORMAT)
    data = bytearray((tmp_path / "a.tar").read_bytes())
    data[124:136] = b"\x80" + (3).to_bytes(11, "big")
    data[148:156] = b" " * 8
    data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()
    (tmp_path / "a.tar").write_bytes(data)
    assert index_of(tmp_path / "a.tar").members == {"a.jpg": (512, 3)}


def test_a_tar_that_breaks_off_keeps_what_was_whole(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", member("a.jpg", 600), member("b.jpg", 600), member("c.jpg", 600))
    data = (tmp_path / "a.tar").read_bytes()
    step = 512 + 1024
    for end, whole in ((step, 1), (step + 100, 1), (step + 512, 1), (step + 1111, 1), (step + 1112, 2), (3 * step, 3)):
        (tmp_path / "b.tar").write_bytes(data[:end])
        index = index_of(tmp_path / "b.tar")
        assert (len(index.members), index.problem is not None) == (whole, True)


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 2000, bytes(100), b"PK\x03\x04" + bytes(1000)])
def test_what_is_no_tar_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    index = index_of(tmp_path / "a.tar")
    assert not index.members
    assert "no tar" in (index.problem or "")


def test_an_empty_tar_is_a_tar(tmp_path: Path) -> None:
    write(tmp_path / "a.tar")
    assert index_of(tmp_path / "a.tar") == TarIndex()
