"""The cache of numbered captions: a data set is tokenised once, and later starts read the numbers from a file.

To tokenise takes most of a start on a large data set. The file lies in the cache folder beside the findings on the
pictures. Its name is a digest of all that the numbers depend on: each caption, the tokenizer, and the Unicode of this
Python, which says what a letter is. So what has changed is looked for under another name. The file begins with a digest
of the rest: one that was cut off or damaged is made anew, as is one that cannot be read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from captioner.datasets.records import Record
from captioner.text import tokenizer
from captioner.training.caption_index import NumberedCaptions, Words

_FORMAT = 1  # of the file
_DIGEST = 32  # bytes
_TOKENIZER = f"{tokenizer.NAME}, {tokenizer.VERSION}"

_Found = tuple[Words, dict[str, NumberedCaptions]]


def numbered_captions(
    splits: Mapping[str, Sequence[Record]], cache: Path, *, tokenizer: str = _TOKENIZER
) -> tuple[Words, dict[str, NumberedCaptions]]:
    """The captions of each split as numbers of words.

    Args:
        splits: the records of each split.
        cache: the folder that may hold them, and that they are written to otherwise. They are returned also if it
            cannot be written: then the next start takes longer.
        tokenizer: its name and version.
    """
    key = _key(splits, tokenizer)
    file = cache / f"captions-{key.hex()}.numbers"
    found = _read(file, key, list(splits))
    if found is None:
        words = Words()
        found = words, {split: NumberedCaptions.of(records, words) for split, records in splits.items()}
        with contextlib.suppress(OSError):
            _write(file, key, found)
    return found


def _key(splits: Mapping[str, Sequence[Record]], tokenizer: str) -> bytes:
    about = [_FORMAT, tokenizer, unicodedata.unidata_version, list(splits)]
    digest = hashlib.blake2b(json.dumps(about).encode(), digest_size=16)
    for records in splits.values():
        captions = [caption for record in records for caption in record.captions]
        # with the lengths, nothing that is moved from one caption to the next leaves the digest as it was
        lengths = np.array([len(captions), *map(len, captions)], dtype="<i8")
        digest.update(lengths.tobytes())
        digest.update("".join(captions).encode("utf-8", "surrogatepass"))
    return digest.digest()


def _read(file: Path, key: bytes, splits: Sequence[str]) -> _Found | None:
    """What the file holds, or None if it is not there, not whole, or of another key."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    rest = content[_DIGEST:]
    if content[:_DIGEST] != _digest(rest, key):
        return None
    arrays = load(rest)
    words = arrays["words"].tobytes().decode("utf-8", "surrogatepass")
    return Words(words.split("\n") if words else ()), {
        split: NumberedCaptions(arrays[f"{split} numbers"], arrays[f"{split} ends"]) for split in splits
    }


def _write(file: Path, key: bytes, found: _Found) -> None:
    words, splits = found
    # no word has a line feed in it
    text = "\n".join(words).encode("utf-8", "surrogatepass")
    arrays: dict[str, npt.NDArray[np.generic]] = {"words": np.frombuffer(text, dtype=np.uint8)}
    for split, captions in splits.items():
        arrays[f"{split} numbers"], arrays[f"{split} ends"] = captions.numbers, captions.ends
    rest = save(arrays)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{secrets.token_hex(4)}.part")  # its own, where two processes write at once
    try:
        part.write_bytes(_digest(rest, key) + rest)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _digest(rest: bytes, key: bytes) -> bytes:
    return hashlib.blake2b(rest, digest_size=_DIGEST, key=key).digest()
