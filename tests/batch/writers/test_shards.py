"""WebDataset shards."""

from __future__ import annotations

import json
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captioner.batch.items import Item
from captioner.batch.style import TextStyle
from captioner.batch.writers.shards import ShardWriter
from captioner.errors import ConfigurationError, OutputError
from tests.batch.writers.samples import MODEL, failure, item, picture, row


def job(folder: Path, formats: str = "JPEG PNG WEBP GIF BMP TIFF JPEG") -> list[tuple[Item, dict[str, Any]]]:
    """Pictures in a folder, whose names say nothing of their formats, with their rows; the second one failed."""
    rows = []
    for number, name in enumerate(formats.split()):
        path = folder / f"picture.no.{number}"
        path.write_bytes(picture(name))
        source = f"photos/{path.name}"
        one = failure(source) if number == 1 else row(source, f"a dog {number}")
        rows.append((item(source, root="photos", path=path), one))
    return rows


def test_samples_hold_picture_text_and_row(tmp_path: Path) -> None:
    rows = job(tmp_path)
    ShardWriter(shard_size=4)(rows, tmp_path / "set.tar", TextStyle(alt=True, mark=True))
    names: list[str] = []
    for number in (0, 1):
        with tarfile.open(tmp_path / f"set-00000{number}.tar") as tar:
            for one in tar:
                header = (one.mtime, one.uid, one.gid, one.uname, one.gname, one.mode)
                assert header == (0, 0, 0, "", "", 0o644)
                names.append(one.name)
                content = tar.extractfile(one)
                assert content is not None
                if one.name.endswith((".txt", ".json")):
                    continue
                data = content.read()
                Image.open(BytesIO(data)).load()
                assert data in [Path(each.path).read_bytes() for each, _ in rows]
            if number == 0:
                text = tar.extractfile("000000000.txt")
                line = tar.extractfile("000000000.json")
                assert text is not None
                assert line is not None
                assert text.read().decode() == f"A dog 0.\n[machine-made by {MODEL}]\n"
                assert json.loads(line.read()) == rows[0][1] | {"caption": "A dog 0."}
    pictures = [name for name in names if not name.endswith((".txt", ".json"))]
    assert pictures == [
        *("000000000.jpg", "000000001.webp", "000000002.gif", "000000003.bmp"),
        *("000000004.tiff", "000000005.jpg"),
    ]
    assert names == [f"{name.split('.')[0]}.{end}" for name in pictures for end in (name.split(".")[1], "txt", "json")]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    rows = job(tmp_path)
    ShardWriter(shard_size=2)(iter(rows), tmp_path / "one", TextStyle())
    ShardWriter(shard_size=2)(iter(rows), tmp_path / "two.tar", TextStyle())
    assert len(list(tmp_path.glob("one-*.tar"))) == 3
    for path in tmp_path.glob("one-*.tar"):
        assert path.read_bytes() == path.with_name(path.name.replace("one", "two")).read_bytes()


def test_members_of_archives_are_copied_as_they_are(tmp_path: Path) -> None:
    data = picture("PNG")
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        header = tarfile.TarInfo("a/b.png")
        header.size = len(data)
        tar.addfile(header, BytesIO(data))
    member = item("in.tar/a/b.png", root="in.tar", path=tmp_path / "in.tar", member="a/b.png")
    ShardWriter()([(member, row("in.tar/a/b.png"))], tmp_path / "set.tar", TextStyle())
    with tarfile.open(tmp_path / "set-000000.tar") as tar:
        content = tar.extractfile("000000000.png")
        assert content is not None
        assert content.read() == data


@pytest.mark.parametrize("damage", [b"", b"hello", None])
def test_a_picture_that_has_gone_is_named_and_leaves_no_half_shard(damage: bytes | None, tmp_path: Path) -> None:
    rows = job(tmp_path, "JPEG JPEG JPEG")
    path = Path(rows[2][0].path)
    path.unlink() if damage is None else path.write_bytes(damage)
    with pytest.raises(OutputError, match=r"^photos/picture\.no\.2 has a caption but cannot be put into a shard"):
        ShardWriter()(rows, tmp_path / "set.tar", TextStyle())
    assert not [path for path in tmp_path.iterdir() if "set" in path.name]


def test_shards_of_a_longer_set_are_not_left_unsaid(tmp_path: Path) -> None:
    rows = job(tmp_path)
    ShardWriter(shard_size=1)(rows, tmp_path / "set.tar", TextStyle())
    with pytest.raises(OutputError, match=r"set-000003\.tar is of an earlier and longer set: this one has 3 shards"):
        ShardWriter(shard_size=2)(rows, tmp_path / "set.tar", TextStyle())


def test_a_shard_holds_something() -> None:
    with pytest.raises(ConfigurationError, match="shard_size must be at least 1, not 0"):
        ShardWriter(shard_size=0)
