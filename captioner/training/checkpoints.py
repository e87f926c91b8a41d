"""The checkpoints that a run leaves and that another one resumes: written whole, found, and refused in a sentence."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor

from captioner.errors import ConfigurationError
from captioner.model.weights import DAMAGED, first_sentence
from captioner.text.vocabulary import Vocabulary

_PARTS = ("state_dict", "optimizer_states", "loops", "pytorch-lightning_version")


class KeptCheckpoints(ModelCheckpoint):
    """Several of the best: a class of its own, because Lightning tells the states of callbacks apart by their class."""


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place, to the disk, and renames it then: a half-written one replaces nothing."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to the file `path` (Lightning's hook, in one process only).

        Raises:
            ConfigurationError: the disk is full, or the file cannot be written for another reason.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)
        file = Path(path)
        part = file.with_name(f"{file.name}.part")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as stream:
                stream.write(content.getbuffer())
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(file)
            _sync_folder(file.parent)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise ConfigurationError(
                f"checkpoint {file} cannot be written ({error.strerror}); make room and go on with --resume: the "
                "checkpoint before it, if there is one, is whole"
            ) from error


def _sync_folder(folder: Path) -> None:
    """Bring a renaming to the disk, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def find_checkpoint(given: str, output: Path) -> Path:
    """The file that `--ckpt_path` means: a path, or `best` or `last` of the folder `output`.

    Raises:
        ConfigurationError: there is none, or it is no checkpoint that can be resumed.
    """
    file = output / "checkpoints" / f"{given}.ckpt" if given in ("best", "last") else Path(given)
    if not file.is_file():
        raise ConfigurationError(f"checkpoint {file} does not exist; look in OUTPUT/checkpoints")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, *DAMAGED) as error:
        raise ConfigurationError(
            f"checkpoint {file} cannot be read ({first_sentence(error)}); resume another one"
        ) from error
    if not isinstance(content, dict) or not set(_PARTS) <= set(content):
        raise ConfigurationError(f"{file} is no checkpoint of a training; give OUTPUT/checkpoints/last.ckpt")
    return file


def precision_of(checkpoint: Path) -> str:
    """In which precision the run of a `checkpoint` encodes pictures; `auto` if it does not say so."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    return str(content.get("captioner", {}).get("precision", "auto"))


def moment_of(checkpoint: Path) -> str:
    """After how much work a `checkpoint` was written: no two are of the same moment."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    return f"step {content['global_step']} after {content.get('captioner', {}).get('seconds', 0.0):.3f} seconds"


def follow_moved_folder(callbacks: Mapping[str, Any], folder: Path) -> None:
    """Give the states of Lightning's ModelCheckpoint in `callbacks` the paths of `folder`, where their files are now.

    Lightning forgets the best score of a run whose output folder was moved. States whose best file is not in `folder`
    stay as they are. They are changed in place.
    """
    folder = folder.resolve()
    for state in callbacks.values():
        before = state.get("dirpath") if isinstance(state, dict) else None
        if before is None or before == str(folder) or not (folder / Path(state["best_model_path"]).name).is_file():
            continue

        def moved(file: str) -> str:
            return str(folder / Path(file).name) if file else ""

        state["dirpath"] = str(folder)
        state["best_k_models"] = {moved(file): score for file, score in state["best_k_models"].items()}
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[name] = moved(state[name])


def words_digest(vocabulary: Vocabulary) -> str:
    """The SHA-256 of the words in the order of their ids: a row of the weights belongs to a word by its place alone."""
    return hashlib.sha256(json.dumps(vocabulary.ordinary).encode()).hexdigest()


def refuse_other_words(record: Mapping[str, Any], vocabulary: Vocabulary) -> None:
    """Refuse a checkpoint whose `record` names other words than the `vocabulary`; one without the digest is taken.

    Raises:
        ConfigurationError: a word has come or gone, or two have changed their places.
    """
    digest = words_digest(vocabulary)
    if record.get("vocabulary", digest) != digest:
        raise ConfigurationError(
            "the checkpoint was trained with another vocabulary: the data or data.min_count have changed; resume with "
            "those that it was begun with"
        )


def refuse_other_network(checkpoint: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Refuse a checkpoint whose weights are not those of this run, whose own ones are `state`.

    Raises:
        ConfigurationError: a tensor is missing, unexpected or of another shape.
    """
    found = {name: tuple(value.shape) for name, value in checkpoint["state_dict"].items()}
    wanted = {name: tuple(value.shape) for name, value in state.items()}
    for name in [*wanted, *found]:
        if found.get(name) != wanted.get(name):
            raise ConfigurationError(
                f"the checkpoint does not fit: its '{name}' is {found.get(name, 'missing')}, this run needs "
                f"{wanted.get(name, 'none')}; resume with the settings and the data that it was begun with"
            )
