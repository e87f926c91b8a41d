"""Captions in COCO's layouts and in ours: references, the results that are scored against them, and captions to judge.

references   {"images": [{"id", "file_name"}, ...], "annotations": [{"image_id", "caption"}, ...]}
results      [{"image_id", "caption"}, ...], or the rows of `captioner caption`: {"image", "caption"} on each line

Image ids are compared as text, so 1 and "1" are one image. The id of one of our rows is the name of its picture,
without folders. A result belongs to the image with its id; if there is none, to the image whose file name, without
folders, it names.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.datasets.flickr import read_token_file
from captioner.datasets.json_file import Entry, described, entries, list_of, read_json
from captioner.datasets.records import Record
from captioner.datasets.table import delimiter_of, read_csv
from captioner.datasets.text_file import read_text
from captioner.errors import DatasetError

NAMED = 3  # how many images an error names


@dataclass(frozen=True)
class References:
    """What people said of one image, and the name of its file where the data set gives it."""

    captions: tuple[str, ...]
    file_name: str | None


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """N captions with the references of each, in the order of the references.

    Attributes:
        image_ids: (N,) the references' ids.
        names: (N,) the images' file names; their ids where there is none.
        captions: (N,) the results; one may be empty.
        references: (N,) at least one for each image.
    """

    image_ids: tuple[str, ...]
    names: tuple[str, ...]
    captions: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]

    def warnings(self) -> list[str]:
        """See `warnings_of`."""
        return warnings_of(self.references)


def warnings_of(references: Sequence[Sequence[str]]) -> list[str]:
    """What a reader of scores must know of the references of N images, a sentence each; mostly nothing."""
    told: list[str] = []
    total, single = len(references), sum(len(group) == 1 for group in references)
    if single:
        # The shipped model on Flickr8k dev, five references and then the first: BLEU-4 20.8 and 8.5, ROUGE-L 46.6 and
        # 33.6, CIDEr-D 53.0 and 57.8.
        which = "every image" if single == total else f"{single} of {total} images"
        told.append(
            f"One reference only for {which}: BLEU and ROUGE-L come out far lower than with five, and CIDEr-D "
            "differs and says little of a single image; compare only with scores on the same references."
        )
    if total == 1:
        told.append("There is one image only: CIDEr-D is 0 for any caption, since it weighs words by other images.")
    return told


def read_references(file: Path) -> dict[str, References]:
    """The references of each image, by its id, from COCO's captions JSON; in the order of its `images`.

    Raises:
        DatasetError: the file cannot be read or has another layout, an image is listed twice or has no caption, or a
            caption is empty or of an image that is not listed.
    """
    return _references(file, read_json(file))


def read_results(file: Path) -> dict[str, str]:
    """The caption of each image, by its id, from COCO's results JSON or the rows of `captioner caption`.

    Raises:
        DatasetError: the file cannot be read or has another layout, an image has two captions, or a row says that its
            picture could not be captioned.
    """
    results: dict[str, str] = {}
    failed: list[str] = []
    for row in _rows(file, read_json(file)):
        identity = row.image_id("image_id") if "image_id" in row else _base_name(row.text("image"))
        if _has_failed(row):
            failed.append(identity)
        elif identity in results:
            raise DatasetError(f"{row.where}: image {identity} has a caption already; keep one caption an image")
        else:
            results[identity] = row.text("caption")
    if failed:
        raise DatasetError(
            f"{file} tells of {len(failed)} pictures that could not be captioned ({_some(failed)}); caption these "
            "again, or remove them from the results and from the references"
        )
    return results


def match(results: Mapping[str, str], references: Mapping[str, References], *, of: str = "The results") -> Pairs:
    """Pair each result with the references of its image; how they are found is said at the top of this module.

    Args:
        of: what an error calls the results, such as the name of their file.

    Raises:
        DatasetError: the two are not of the same images, two results are of one image, or a result names a file that
            two images have.
    """
    of_name: dict[str, list[str]] = defaultdict(list)
    for identity, group in references.items():
        if group.file_name is not None:
            of_name[_base_name(group.file_name)].append(identity)
    found: dict[str, str] = {}  # the results' ids by the references'
    strangers: list[str] = []
    for identity in results:
        candidates = [identity] if identity in references else of_name.get(_base_name(identity), [])
        if len(candidates) > 1:
            raise DatasetError(
                f"The result of {identity} fits the images {_some(candidates)}, whose files have that name: "
                "give the image's id instead."
            )
        if not candidates:
            strangers.append(identity)
        elif candidates[0] in found:
            raise DatasetError(
                f"The results {found[candidates[0]]} and {identity} are of one image, {candidates[0]}: remove one."
            )
        else:
            found[candidates[0]] = identity
    _check_same_images(
        strangers, len(results), [identity for identity in references if identity not in found], references, of
    )
    return Pairs(
        image_ids=tuple(references),
        names=tuple(group.file_name or identity for identity, group in references.items()),
        captions=tuple(results[found[identity]] for identity in references),
        references=tuple(group.captions for group in references.values()),
    )


def read_results_of(records: Sequence[Record], file: Path) -> list[str]:
    """The caption that a results file has for each of the `records`, found by the names of their pictures.

    Raises:
        DatasetError: as `read_results` and `match`.
    """
    references = {record.image.name: References(record.captions, None) for record in records}
    return list(match(read_results(file), references, of=str(file)).captions)


def read_captions(file: Path) -> dict[str, tuple[str, ...]]:
    """The captions of each picture, by the picture's name as the file writes it: captions that are to be judged.

    The file is COCO's captions JSON, a `.token.txt` of Flickr, CSV (UTF-8) with the columns image and caption,
    or the rows of `captioner caption`, of which those that tell of a failure are passed over. Which of these it is, is
    seen from its content.

    Raises:
        DatasetError: the file cannot be read, is none of these, or has an empty caption or none at all.
    """
    text = read_text(file)
    first = next((line for line in text.split("\n") if line.strip()), "")
    pairs: Iterable[tuple[str, str]]
    if first.lstrip().startswith(("{", "[")):
        pairs = _pairs_of_json(file)
    elif re.match(r"[^\t]*#[^\t#]*\t", first):
        pairs = [(name, caption) for name, group in read_token_file(file).items() for caption in group]
    elif delimiter_of(first) is not None:
        pairs = [(row.image, row.caption) for row in read_csv(file)[1]]
    else:
        raise DatasetError(
            f"{file} is no caption file that is known here: expected COCO's captions JSON, Flickr's lines of "
            "'photo.jpg#0<TAB>caption', CSV that begins with 'image,caption', or the rows of captioner caption; "
            + (f"its first line is '{first[:60]}'" if first else "it is empty")
        )
    captions: dict[str, list[str]] = defaultdict(list)
    for name, caption in pairs:
        if not name.strip() or not caption.strip():
            what = f"an empty caption of {name}" if name.strip() else f"a caption without a picture, '{caption[:60]}'"
            raise DatasetError(f"{file} has {what}; complete it or remove it")
        captions[name.strip()].append(caption.strip())
    if not captions:
        raise DatasetError(f"{file} has no captions; give a file with at least one")
    return {name: tuple(group) for name, group in captions.items()}


# --- Layouts ----------------------------------------------------------------------------------------------------------


def _references(file: Path, content: object) -> dict[str, References]:
    images, annotations = list_of(content, "images"), list_of(content, "annotations")
    if images is None or annotations is None:
        raise DatasetError(
            f"{file} is not COCO's captions JSON: expected an object with the lists 'images' and 'annotations', found "
            + described(content)
        )
    if not images:
        raise DatasetError(f"{file} lists no images; give the references of at least one")
    names: dict[str, str | None] = {}
    for image in entries(images, f"{file}, 'images'"):
        identity = image.image_id("id")
        if identity in names:
            raise DatasetError(f"{image.where}: the id {identity} is taken already; list an image once")
        names[identity] = image.text("file_name") if "file_name" in image else None
    captions: dict[str, list[str]] = {identity: [] for identity in names}
    for annotation in entries(annotations, f"{file}, 'annotations'"):
        identity, caption = annotation.image_id("image_id"), annotation.text("caption").strip()
        if identity not in names:
            raise DatasetError(
                f"{annotation.where} is of image {identity}, which 'images' lacks; list it there or remove this entry"
            )
        if not caption:
            label = _label(identity, names[identity])
            raise DatasetError(f"{annotation.where}: image {label} has an empty caption; write one or remove it")
        captions[identity].append(caption)
    for identity, group in captions.items():
        if not group:
            raise DatasetError(
                f"{file}: image {_label(identity, names[identity])} has no caption; add one to 'annotations' or "
                "remove the image"
            )
    return {identity: References(tuple(group), names[identity]) for identity, group in captions.items()}


def _rows(file: Path, content: object) -> Iterator[Entry]:
    """The rows of a results file, at least one."""
    if isinstance(content, dict) and ("image" in content or "image_id" in content):
        content = [content]  # a file of one line
    if not isinstance(content, list):
        raise DatasetError(
            f"{file} holds no results: expected a list of objects with 'image_id' and 'caption', or the rows of "
            f"captioner caption, found {described(content)}"
        )
    if not content:
        raise DatasetError(f"{file} holds no results; give the caption of at least one image")
    for row in entries(content, str(file)):
        if "image_id" not in row and "image" not in row:
            raise DatasetError(
                f"{row.where} names no image: expected 'image_id' or 'image', found {described(row.fields)}"
            )
        yield row


def _has_failed(row: Entry) -> bool:
    return "error" in row and "caption" not in row


def _pairs_of_json(file: Path) -> Iterator[tuple[str, str]]:
    content = read_json(file)
    if list_of(content, "annotations") is None:
        for row in _rows(file, content):
            if not _has_failed(row):
                yield row.text("image" if "image" in row else "image_id"), row.text("caption")
        return
    for identity, group in _references(file, content).items():
        if group.file_name is None:
            raise DatasetError(f"{file}: image {identity} has no 'file_name', so that its picture is not known; add it")
        yield from ((group.file_name, caption) for caption in group.captions)


# --- Wording ----------------------------------------------------------------------------------------------------------


def _check_same_images(
    strangers: Sequence[str], num_results: int, missing: Sequence[str], references: Mapping[str, References], of: str
) -> None:
    """Refuse results without references, and images without a result."""
    told: list[str] = []
    if missing:
        labels = [_label(identity, references[identity].file_name) for identity in missing]
        told.append(f"{len(missing)} of {len(references)} images without a result ({_some(labels)})")
    if strangers:
        told.append(f"{len(strangers)} of {num_results} results without references ({_some(strangers)})")
    if told:
        raise DatasetError(
            f"{of} and the references are not of the same images: {' and '.join(told)}; complete the results, or "
            "keep only what the other file has, since a score over other images is another score."
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def _label(identity: str, file_name: str | None) -> str:
    return identity if file_name is None else f"{identity} ({file_name})"


def _base_name(path: str) -> str:
    """The last part of a path of any system: rows may come from another machine."""
    return re.split(r"[/\\]", path)[-1]
