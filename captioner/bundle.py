"""Bundle: the directory that holds everything a caption depends on.

    model.json            the manifest: configuration, provenance, scores, sha256 of the other files
    weights.safetensors   the network (float16 where it is enough), nothing executable
    vocabulary.json       the words in id order
    README.md, LICENSE    the model card and the model's licence

A changed byte is an error that names the file. The digest of a bundle is the sha256 of its manifest.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from captioner.decoding.options import DecodingOptions
from captioner.errors import BundleError, CaptionerError
from captioner.manifest import (
    CARD,
    FORMAT_VERSION,
    LICENCE,
    MANIFEST,
    VOCABULARY,
    WEIGHTS,
    default_bundle,
    digest_of,
    read_manifest,
)
from captioner.model.caption_model import CaptionModel
from captioner.model.configuration import DecoderConfiguration, EncoderConfiguration
from captioner.model.folding import absorb_batch_norms
from captioner.preprocessing import Preprocessing
from captioner.text import tokenizer
from captioner.text.vocabulary import Vocabulary

__all__ = ["Bundle", "default_bundle", "load_bundle", "read_manifest", "save_bundle"]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A model with all that its captions depend on.

    Attributes:
        name: the model's name, such as `flickr8k-mobilenet_v2-lstm`.
        model: the network, float32, in evaluation mode.
        training: where the weights come from (data, settings, phases), as JSON values.
        scores: measured scores with their signature, as JSON values.
        calibration: what words' probabilities are worth (captioner/confidence.py) and how that was measured, as JSON
            values; empty where nobody has measured it.
        licence: the short name of the licence of the weights.
        digest: names the files that it was loaded from.
        manifest: the model.json that it was loaded from, as JSON values.
    """

    name: str
    model: CaptionModel
    vocabulary: Vocabulary
    preprocessing: Preprocessing
    decoding: DecodingOptions = field(default_factory=DecodingOptions)
    training: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    licence: str = "unstated"
    digest: str = "unsaved"
    manifest: Mapping[str, Any] = field(default_factory=dict)


def load_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read and verify a bundle.

    Raises:
        BundleError: the bundle is missing, incomplete, altered, or of a format that is not read here.
    """
    directory = Path(path)
    manifest = read_manifest(directory)
    try:
        words = json.loads((directory / VOCABULARY).read_text(encoding="utf-8"))
        vocabulary = Vocabulary(words)
        model = CaptionModel(
            EncoderConfiguration(**manifest["model"]["encoder"]),
            DecoderConfiguration(**manifest["model"]["decoder"]),
            vocabulary_size=len(vocabulary),
        )
        state = {name: tensor.float() for name, tensor in load_file(directory / WEIGHTS).items()}
        # Counters of training steps are not stored: they change no output.
        missing, unexpected = model.load_state_dict(state, strict=False)
        wrong = [*(key for key in missing if not key.endswith("num_batches_tracked")), *unexpected]
        if wrong:
            raise BundleError(f"{directory / WEIGHTS} does not fit {MANIFEST}: '{wrong[0]}' is missing or unexpected")
        return Bundle(
            name=manifest["name"],
            model=model.eval().requires_grad_(False),
            vocabulary=vocabulary,
            preprocessing=Preprocessing.from_dict(manifest["preprocessing"]),
            decoding=DecodingOptions.from_dict(manifest["decoding"]),
            training=manifest["training"],
            scores=manifest["scores"],
            calibration=manifest.get("calibration", {}),
            licence=manifest["licence"],
            digest=digest_of(directory),
            manifest=manifest,
        )
    except BundleError:
        raise
    except (CaptionerError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError, OSError) as error:
        # torch names the tensor that does not fit on the second line
        reason = " ".join(line.strip() for line in str(error).splitlines()[:2]) or type(error).__name__
        raise BundleError(f"{directory} is no usable bundle: {reason}") from error


def save_bundle(bundle: Bundle, path: str | os.PathLike[str], *, card: str, licence_text: str) -> str:
    """Write `bundle` to the directory `path`, replacing what is there at the very end; returns its digest.

    Args:
        card: the text of the model card, README.md.
        licence_text: the text of the model's LICENSE.

    Raises:
        BundleError: the directory cannot be written, or holds something that is no bundle.
    """
    directory = Path(path).resolve()  # a link to a directory stays a link
    if directory.exists() and not directory.is_dir():
        raise BundleError(f"{directory} is a file; choose a directory")
    if directory.exists() and not (directory / MANIFEST).is_file() and any(directory.iterdir()):
        raise BundleError(f"{directory} is not empty and is no bundle; choose another directory")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    except OSError as error:
        raise BundleError(f"{directory} cannot be written: {error.strerror}") from error
    try:
        new = temporary / "new"
        new.mkdir()  # inside, because the outer one is closed to other users
        digest = _write(bundle, new, {CARD: card, LICENCE: licence_text})
        _put(new, directory, aside=temporary / "old")
    except OSError as error:
        raise BundleError(f"{directory} cannot be written: {error.strerror}") from error
    except SafetensorError as error:  # so it tells of a full disk
        raise BundleError(f"{directory} cannot be written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return digest


def _put(new: Path, directory: Path, *, aside: Path) -> None:
    """Rename `new` to `directory`; what is there stays whole until then, or comes back."""
    try:
        if directory.exists():
            directory.rename(aside)
        new.rename(directory)
    except BaseException:  # Ctrl-C as well: the old bundle must not go
        if aside.exists() and not directory.exists():
            aside.rename(directory)
        raise


def _small(tensor: Tensor) -> Tensor:
    """As float16, unless a value is too large for it, as variances may be."""
    half = tensor.to(torch.float16)
    return half if bool(half.isfinite().all()) else tensor


def _state(model: CaptionModel) -> dict[str, Tensor]:
    """What weights.safetensors holds: float16, with what float16 and float32 engines then compute with alike."""
    network = copy.deepcopy(model.encoder.network)
    absorb_batch_norms(network)
    encoder = {f"encoder.network.{name}": tensor for name, tensor in network.state_dict().items()}
    return {
        # a variance that stands for no scaling (see absorb_batch_norms) must stay exact
        name: (tensor if name.endswith("running_var") else _small(tensor)).contiguous()
        for name, tensor in ((name, tensor.detach().cpu()) for name, tensor in (model.state_dict() | encoder).items())
        if not name.endswith("num_batches_tracked")
    }


def _write(bundle: Bundle, directory: Path, texts: Mapping[str, str]) -> str:
    state = _state(bundle.model)
    save_file(state, directory / WEIGHTS)
    (directory / WEIGHTS).chmod(0o644)  # safetensors closes it to other users, such as that of a container
    words = json.dumps(list(bundle.vocabulary.ordinary), ensure_ascii=False, indent=0)
    (directory / VOCABULARY).write_text(words + "\n", encoding="utf-8")
    for name, text in texts.items():
        (directory / name).write_text(text, encoding="utf-8")
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(directory.iterdir())}
    manifest = {
        "format_version": FORMAT_VERSION,
        "name": bundle.name,
        "licence": bundle.licence,
        "model": {
            "encoder": asdict(bundle.model.encoder.configuration),
            "decoder": asdict(bundle.model.decoder.configuration),
        },
        "preprocessing": bundle.preprocessing.to_dict(),
        "decoding": bundle.decoding.to_dict(),
        "tokenizer": {"name": tokenizer.NAME, "version": tokenizer.VERSION},
        "training": dict(bundle.training),
        "scores": dict(bundle.scores),
        "calibration": dict(bundle.calibration),
        "files": files,
    }
    text = json.dumps(manifest, ensure_ascii=False, indent=2) + "\n"
    (directory / MANIFEST).write_text(text, encoding="utf-8")
    return digest_of(directory)
