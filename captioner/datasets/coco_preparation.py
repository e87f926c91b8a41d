"""COCO captions on a disk: fetched from where they are published or adopted where they are, counted and read once.

2014: 82,783 training, 40,504 validation and 40,775 test pictures, and Karpathy's splits of the first two
2017: 118,287 training, 5,000 validation and 40,670 test pictures

Of the archives only what captioning needs is kept: the captions, Karpathy's file of COCO, the pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.datasets.checks import check_pictures, write_left_out
from captioner.datasets.coco_set import load_coco
from captioner.datasets.download import check_room, check_sum, download, size_of
from captioner.datasets.json_file import entries, list_of, read_json
from captioner.datasets.karpathy import load_karpathy
from captioner.datasets.records import DataSet, LeftOut, told_of
from captioner.datasets.unpack import unpack
from captioner.errors import DatasetError

_COCO = "http://images.cocodataset.org"
_KARPATHY = "https://cs.stanford.edu/people/karpathy/deepimagesent"

# Published counts: pictures of each folder, and of Karpathy's splits (restval belongs to train).
COUNTS = {
    "2014": {"train2014": 82_783, "val2014": 40_504, "test2014": 40_775},
    "2017": {"train2017": 118_287, "val2017": 5_000, "test2017": 40_670},
}
KARPATHY_COUNTS = {"train": 113_287, "dev": 5_000, "test": 5_000}


@dataclass(frozen=True)
class _Archive:
    """An archive: where it is published, and what of it is wanted by the names of its members."""

    host: str
    path: str
    wanted: Callable[[str], bool]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def url(self, mirror: str | None) -> str:
        return f"{(mirror or self.host).rstrip('/')}/{self.path}"


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What to prepare, and where.

    Attributes:
        root: the folder.
        year: "2014" (with Karpathy's splits) or "2017".
        mirror: another address that has the same archives; None: those that publish them.
        test: whether the test pictures, which have no captions, are wanted too.
        subset: whether there may be fewer pictures than are published.
        cache: the folder for which pictures have been found readable, see `data.cache`.
        say: takes what there is to tell, line by line.
    """

    root: Path
    year: str
    mirror: str | None
    test: bool
    subset: bool
    cache: Path
    say: Callable[[str], None]

    def run(self) -> int:
        """Prepare all of it; returns how many pictures cannot be read, which ROOT/left-out.csv lists.

        Raises:
            DatasetError: something cannot be fetched, unpacked or written, or the counts are not those published.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        self._provide([archive for archive in self._lists() if not self._has_lists(archive)])
        names = {folder: self._names(folder) for folder in self._folders()}
        for folder, listed in names.items():
            self._compare(f"the list of {folder}", len(listed), COUNTS[self.year][folder])
        self._provide(
            [
                _Archive(_COCO, f"zips/{folder}.zip", _below(folder))
                for folder, listed in names.items()
                if any(not (self.root / folder / name).is_file() for name in listed)
            ]
        )
        self._count(names)
        return self._read(names)

    def _folders(self) -> list[str]:
        return [folder for folder in COUNTS[self.year] if self.test or not folder.startswith("test")]

    def _lists(self) -> list[_Archive]:
        archives = [_Archive(_COCO, f"annotations/annotations_trainval{self.year}.zip", _is_caption_file)]
        if self.test:
            archives.append(_Archive(_COCO, f"annotations/image_info_test{self.year}.zip", _is_caption_file))
        if self.year == "2014":
            archives.append(_Archive(_KARPATHY, "caption_datasets.zip", lambda name: name == "dataset_coco.json"))
        return archives

    def _list_of(self, folder: str) -> Path:
        kind = "image_info" if folder.startswith("test") else "captions"
        return self.root / "annotations" / f"{kind}_{folder}.json"

    def _has_lists(self, archive: _Archive) -> bool:
        """Whether everything that is wanted of an archive of lists is there already."""
        if archive.host == _KARPATHY:
            return (self.root / "dataset_coco.json").is_file()
        of_test = "test" in archive.name.replace("trainval", "")
        return all(
            self._list_of(folder).is_file() for folder in self._folders() if folder.startswith("test") == of_test
        )

    def _names(self, folder: str) -> list[str]:
        """The names of the pictures that the list of a folder has."""
        file = self._list_of(folder)
        images = list_of(read_json(file), "images")
        if not images:
            raise DatasetError(f"{file} lists no images; delete it to fetch it again")
        return [image.text("file_name") for image in entries(images, f"{file}, 'images'")]

    def _provide(self, archives: Sequence[_Archive]) -> None:
        """Fetch, unpack and delete archives; one that lies in the folder already is not fetched."""
        missing = [archive for archive in archives if not (self.root / archive.name).is_file()]
        sizes = {archive.name: size_of(archive.url(self.mirror)) for archive in missing}
        if sizes:
            self._tell_room(sizes)
        for archive in archives:
            file = self.root / archive.name
            if archive.name in sizes:
                download(archive.url(self.mirror), file)
            else:
                self.say(f"{file} is there: adopted")
                check_sum(file)
            count = unpack(file, self.root, archive.wanted)
            file.unlink()
            self.say(f"{archive.name}: {count:,} files unpacked")

    def _tell_room(self, sizes: dict[str, int]) -> None:
        """The room on the disk, told before anything is fetched: pictures take as much unpacked as packed."""
        total, largest = sum(sizes.values()), max(sizes.values())
        for name, size in sizes.items():
            self.say(f"to fetch: {name}, {size / 1e9:.3f} GB")
        self.say(
            f"room: {total / 1e9:.2f} GB in the end, {(total + largest) / 1e9:.2f} GB while the largest is unpacked"
        )
        check_room(self.root, total + largest, f"COCO {self.year}")

    def _count(self, names: dict[str, list[str]]) -> None:
        """Tell and compare what is there with what is listed and published."""
        for folder, listed in names.items():
            there = sum((self.root / folder / name).is_file() for name in listed)
            if there < len(listed):
                raise DatasetError(
                    f"{self.root / folder} has {there:,} of the {len(listed):,} pictures that are listed; delete it to "
                    "fetch it again"
                )
            self.say(f"{folder}: {there:,} pictures")
        data_set = self._data_set()
        sizes = {split: len(records) for split, records in data_set.splits.items()}
        captions = sum(len(record.captions) for records in data_set.splits.values() for record in records)
        if self.year == "2014":
            for split, published in KARPATHY_COUNTS.items():
                self._compare(f"Karpathy's split {split}", sizes.get(split, 0), published)
        self.say(
            f"{data_set.path}: {', '.join(f'{size:,} {split}' for split, size in sizes.items())}, {captions:,} captions"
        )

    def _data_set(self) -> DataSet:
        if self.year == "2014":
            return load_karpathy(self.root / "dataset_coco.json")
        return load_coco(self._list_of(f"train{self.year}"))

    def _compare(self, what: str, found: int, published: int) -> None:
        if found == published:
            return
        told = f"{what} has {found:,} pictures, and {published:,} are published"
        if not self.subset:
            raise DatasetError(f"{told}; delete it to fetch it again, or say --subset if it is meant to be a part")
        self.say(told)

    def _read(self, names: dict[str, list[str]]) -> int:
        """Read every picture once."""
        images = [self.root / folder / name for folder, listed in names.items() for name in listed]
        findings = check_pictures(images, self.cache)
        broken = [
            LeftOut(image, image.parent.name, reason)
            for image in images
            if (reason := findings[image].reason) is not None
        ]
        file = self.root / "left-out.csv"
        write_left_out(broken, file)
        if broken:
            self.say(f"{told_of(broken)} (all of them: {file})")
        else:
            self.say(f"all {len(images):,} pictures can be read")
        return len(broken)


def _is_caption_file(name: str) -> bool:
    return name.startswith(("annotations/captions_", "annotations/image_info_")) and "dev" not in name


def _below(folder: str) -> Callable[[str], bool]:
    return lambda name: name.startswith(f"{folder}/")
