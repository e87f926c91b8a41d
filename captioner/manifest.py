"""The manifest of a bundle, `model.json`: reading and verifying it needs no torch."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from captioner.errors import BundleError

FORMAT_VERSION = 1
MANIFEST = "model.json"
WEIGHTS = "weights.safetensors"
VOCABULARY = "vocabulary.json"
CARD = "README.md"
LICENCE = "LICENSE"


def default_bundle() -> Path:
    """The directory of the model that is shipped with the package."""
    return Path(__file__).parent / "bundles" / "default"


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The manifest of the bundle in the directory `path`, after comparing the sha256 of every file.

    Raises:
        BundleError: the bundle is missing, incomplete, altered, or of a format that is not read here.
    """
    directory = Path(path)
    file = directory / MANIFEST
    if not file.is_file():
        if not directory.is_dir():
            raise BundleError(f"there is no folder {directory}: a model bundle is a folder with a {MANIFEST}")
        raise BundleError(
            f"{directory} is no model bundle: it has no {MANIFEST}; name the folder that captioner train wrote, "
            "OUTPUT/bundle"
        )
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        version, files = manifest["format_version"], dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{file} is no manifest of a bundle: {error}") from error
    if version != FORMAT_VERSION:
        raise BundleError(f"{file} has format version {version}, this program reads {FORMAT_VERSION}")
    for name in (WEIGHTS, VOCABULARY, CARD, LICENCE):
        if name not in files:
            raise BundleError(f"{file} does not list {name}, without which a bundle is not complete")
    _verify(directory, files)
    return dict(manifest)


def _verify(directory: Path, files: dict[str, str]) -> None:
    """Compare the sha256 of each of `files` in `directory` with the one that the manifest tells."""
    for name, digest in files.items():
        if os.sep in name or not (directory / name).is_file():
            raise BundleError(f"{directory / name} is missing; copy the whole bundle again")
        try:
            content = (directory / name).read_bytes()
        except OSError as error:
            raise BundleError(f"{directory / name} cannot be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise BundleError(
                f"{directory / name} was altered: its sha256 is not the one in {MANIFEST}; copy the whole bundle again"
            )


def digest_of(path: str | os.PathLike[str]) -> str:
    """The first 12 hexadecimal digits of the manifest's sha256: they name the model in every row."""
    return hashlib.sha256((Path(path) / MANIFEST).read_bytes()).hexdigest()[:12]
