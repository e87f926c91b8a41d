"""zip and tar files, read in place."""

from __future__ import annotations

import gzip
import io
import os
import random
import stat
import struct
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from captioner.batch.archives import close_archives, list_members, read_member
from captioner.batch.selection import Selection
from captioner.batch.sources import find_items
from captioner.batch.survey import Survey
from captioner.errors import ImageError, ImageTooLarge, UnreadableImage

Members = dict[str, bytes]
LIMIT = 1000


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    close_archives()


def write_zip(path: Path, members: Members, method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def write_tar(path: Path, members: Members, mode: str = "w") -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


WRITERS: dict[str, Callable[[Path, Members], None]] = {
    "a.zip": write_zip,
    "stored.ZIP": lambda path, members: write_zip(path, members, zipfile.ZIP_STORED),
    "a.tar": write_tar,
    "a.tar.gz": lambda path, members: write_tar(path, members, "w:gz"),
    "a.TGZ": lambda path, members: write_tar(path, members, "w:gz"),
}
each_kind = pytest.mark.parametrize("kind", WRITERS)


def open_files() -> int:
    """How many files this process has open, 0 where the system does not tell."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def refused_with(archive: Path, name: str, max_bytes: int = LIMIT) -> type[BaseException]:
    with pytest.raises(ImageError) as caught:
        read_member(str(archive), name, max_bytes)
    return caught.type


@each_kind
def test_members_are_listed_and_read_in_any_order(tmp_path: Path, kind: str) -> None:
    chance = random.Random(1)
    members = {f"{number % 7}/{number:04d}.jpg": chance.randbytes(chance.randrange(LIMIT)) for number in range(300)}
    WRITERS[kind](tmp_path / kind, members)
    path = str(tmp_path / kind)
    listing = list_members(path)
    assert listing.members == [(name, len(content)) for name, content in members.items()]
    assert (listing.links, listing.repeated, listing.problem) == (0, 0, None)
    for name in [*sorted(members), *chance.sample(sorted(members), 100)]:
        assert read_member(path, name, LIMIT) == members[name]


@each_kind
def test_a_member_beyond_the_limit_is_refused(tmp_path: Path, kind: str) -> None:
    WRITERS[kind](tmp_path / kind, {"a.jpg": bytes(LIMIT), "b.jpg": bytes(LIMIT + 1), "empty.jpg": b""})
    assert read_member(str(tmp_path / kind), "a.jpg", LIMIT) == bytes(LIMIT)
    assert read_member(str(tmp_path / kind), "empty.jpg", LIMIT) == b""
    assert refused_with(tmp_path / kind, "b.jpg") is ImageTooLarge
    assert refused_with(tmp_path / kind, "gone.jpg") is UnreadableImage


def test_a_zip_bomb_that_lies_about_its_size_is_read_no_further_than_it_says(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {"a.jpg": bytes(50 * 2**20)})
    data = bytearray((tmp_path / "a.zip").read_bytes())
    central = data.index(b"PK\x01\x02")
    for place in (22, central + 24):  # the unpacked size in the member's header and in the central directory
        struct.pack_into("<I", data, place, 10)
    (tmp_path / "a.zip").write_bytes(data)
    assert list_members(str(tmp_path / "a.zip")).members == [("a.jpg", 10)]
    assert refused_with(tmp_path / "a.zip", "a.jpg") is UnreadableImage


def test_an_encrypted_member_says_so(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {"a.jpg": b"xyz", "b.jpg": b"xyz"})
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UnreadableImage, match="encrypted"):
        read_member(str(tmp_path / "a.zip"), "a.jpg", LIMIT)
    assert read_member(str(tmp_path / "a.zip"), "b.jpg", LIMIT) == b"xyz"


def test_another_way_of_packing_says_so(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {"a.jpg": b"xyz"}, zipfile.ZIP_LZMA)
    with pytest.raises(UnreadableImage, match="packed in a way"):
        read_member(str(tmp_path / "a.zip"), "a.jpg", LIMIT)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_members_with_one_name_the_later_counts(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for content in ("1", "22"):
            archive.writestr("a.jpg", content)
    for name, mode in (("a.tar", "w"), ("a.tgz", "w:gz")):
        with tarfile.open(tmp_path / name, mode) as tar:  # type: ignore[call-overload]
            for data in (b"1", b"22"):
                info = tarfile.TarInfo("a.jpg")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    for name in ("a.zip", "a.tar", "a.tgz"):
        listing = list_members(str(tmp_path / name))
        assert (listing.members, listing.repeated) == ([("a.jpg", 2)], 1)
        assert read_member(str(tmp_path / name), "a.jpg", LIMIT) == b"22"


def test_links_in_a_zip_are_counted(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("link.jpg")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "a.jpg")
        archive.writestr("folder/", "")
    listing = list_members(str(tmp_path / "a.zip"))
    assert (listing.members, listing.links) == ([], 1)


def test_a_member_without_a_name_is_another_file(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {"b.jpg": b"x", "a.jpg": b"x"})
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(data.replace(b"b.jpg", b"\0.jpg"))  # a name ends at its first null character
    survey = Survey()
    assert [item.member for item in find_items([tmp_path / "a.zip"], None, survey)] == ["a.jpg"]
    assert survey == Survey(other_files=1)


def test_the_pictures_of_a_webdataset_shard_are_its_items(tmp_path: Path) -> None:
    members = {f"{number:06d}.{ending}": b"x" for number in range(5) for ending in ("jpg", "json", "txt")}
    write_tar(tmp_path / "0.tar", members)
    survey = Survey()
    items = list(find_items([tmp_path / "0.tar"], None, survey))
    assert [item.relative for item in items] == [f"{number:06d}.jpg" for number in range(5)]
    assert items[0].load() == b"x"
    assert survey == Survey(other_files=10)


def test_an_archive_inside_an_archive_stays_closed(tmp_path: Path) -> None:
    write_zip(tmp_path / "in.zip", {"a.jpg": b"x"})
    write_zip(tmp_path / "a.zip", {"in.zip": (tmp_path / "in.zip").read_bytes(), "b.jpg": b"x"})
    assert [item.member for item in find_items([tmp_path / "a.zip"])] == ["b.jpg"]


@each_kind
def test_an_archive_that_was_replaced_is_read_anew(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    WRITERS[kind](path, {"a.jpg": b"old", "b.jpg": b"old"})
    assert read_member(str(path), "a.jpg", LIMIT) == b"old"
    path.unlink()
    assert refused_with(path, "a.jpg") is UnreadableImage
    WRITERS[kind](path, {"a.jpg": b"newer"})
    assert read_member(str(path), "a.jpg", LIMIT) == b"newer"
    assert refused_with(path, "b.jpg") is UnreadableImage


def test_a_pipe_is_no_archive_and_is_not_waited_for(tmp_path: Path) -> None:
    for name in WRITERS:
        os.mkfifo(tmp_path / name)
        survey = Survey()
        assert list(find_items([tmp_path / name], None, survey)) == []
        assert "regular file" in survey.failures[0].reason


def test_few_archives_stay_open_and_many_threads_may_read(tmp_path: Path) -> None:
    names = [f"{number}{kind}" for number in range(4) for kind in WRITERS]
    for name in names:
        WRITERS[name[1:]](tmp_path / name, {f"{member}.jpg": f"{name} {member}".encode() for member in range(20)})
    descriptors = open_files()
    problems: list[str] = []

    def read_all(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(300):
            name, member = chance.choice(names), chance.randrange(20)
            if read_member(str(tmp_path / name), f"{member}.jpg", LIMIT) != f"{name} {member}".encode():
                problems.append(name)

    threads = [threading.Thread(target=read_all, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    if descriptors:
        assert open_files() <= descriptors + 4
        close_archives()
        assert open_files() == descriptors


# Damage


@each_kind
def test_an_archive_that_breaks_off_is_a_failure_and_its_first_members_come(tmp_path: Path, kind: str) -> None:
    chance = random.Random(1)
    members = {f"{number:02d}.jpg": chance.randbytes(700) for number in range(40)}
    WRITERS[kind](tmp_path / kind, members)
    data = (tmp_path / kind).read_bytes()
    (tmp_path / kind).write_bytes(data[: len(data) // 2])
    survey = Survey()
    items = list(find_items([tmp_path / kind], Selection(), survey))
    assert [failure.source for failure in survey.failures] == [str(tmp_path / kind)]
    if kind.lower().endswith("zip"):  # its directory is at the end
        assert items == []
    else:
        assert [item.relative for item in items] == sorted(members)[: len(items)]
        assert len(items) >= 10
        for item in items:
            assert item.load() == members[item.relative]


@each_kind
def test_whatever_the_damage_nothing_else_is_raised(tmp_path: Path, kind: str) -> None:
    chance = random.Random(2)
    members = {f"a/{number}.jpg": chance.randbytes(200) for number in range(5)} | {"b" * 150 + ".jpg": b"x" * 600}
    WRITERS[kind](tmp_path / kind, members)
    whole = (tmp_path / kind).read_bytes()
    for number in range(150):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 3, 20])):
            data[chance.randrange(len(data))] = chance.choice([0, 255, chance.randrange(256)])
        path = tmp_path / f"{number}{kind}"
        path.write_bytes(data[: chance.choice([len(data), chance.randrange(len(data))])])
        for item in find_items([path]):
            with suppress(ImageError):
                assert len(item.load(LIMIT)) <= LIMIT  # type: ignore[arg-type]


def test_a_changed_byte_in_a_gzip_file_is_told_at_the_latest_by_its_check_sum(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(50_000)
    write_tar(tmp_path / "plain.tar", {"a.jpg": content, "b.jpg": bytes(50_000)})
    data = bytearray(gzip.compress((tmp_path / "plain.tar").read_bytes(), 0))
    data[data.index(content[1000:1020])] ^= 1
    (tmp_path / "a.tar.gz").write_bytes(data)
    survey = Survey()
    assert [item.member for item in find_items([tmp_path / "a.tar.gz"], None, survey)] == ["a.jpg"]
    assert "damaged" in survey.failures[0].reason
