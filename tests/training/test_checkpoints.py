"""A checkpoint that cannot be resumed is refused in a sentence."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import pytest
import torch

from captioner.errors import ConfigurationError
from captioner.training.checkpoints import WholeFiles, find_checkpoint, refuse_other_network

CONTENT = {"state_dict": {}, "optimizer_states": [], "loops": {}, "pytorch-lightning_version": "2.5"}


def test_best_and_last_are_those_of_the_output_folder(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "checkpoints" / "last.ckpt"
    torch.save(CONTENT, file)
    assert find_checkpoint("last", tmp_path) == find_checkpoint(str(file), Path("elsewhere")) == file
    with pytest.raises(ConfigurationError, match=r"checkpoints/best\.ckpt does not exist"):
        find_checkpoint("best", tmp_path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    file = tmp_path / "x.ckpt"
    torch.save(CONTENT, file)
    whole = file.read_bytes()
    for content in (b"", b"no checkpoint", whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"x\.ckpt cannot be read \([^\n]*\); resume another one$"):
            find_checkpoint(str(file), tmp_path)
    torch.save({"state_dict": {}}, file)
    with pytest.raises(ConfigurationError, match=r"x\.ckpt is no checkpoint of a training"):
        find_checkpoint(str(file), tmp_path)


def test_the_first_tensor_that_does_not_fit_is_named() -> None:
    state = {"a": torch.zeros(2), "b": torch.zeros(3)}
    refuse_other_network({"state_dict": {"a": torch.ones(2), "b": torch.ones(3)}}, state)
    for found, message in (
        ({"a": torch.zeros(2), "b": torch.zeros(4)}, "'b' is (4,), this run needs (3,)"),
        ({"a": torch.zeros(2)}, "'b' is missing, this run needs (3,)"),
        ({**state, "c": torch.zeros(1)}, "'c' is (1,), this run needs none"),
    ):
        with pytest.raises(ConfigurationError, match=re.escape(message)):
            refuse_other_network({"state_dict": found}, state)


def test_a_checkpoint_that_cannot_be_written_whole_replaces_nothing(tmp_path: Path) -> None:
    file = tmp_path / "checkpoints" / "last.ckpt"
    WholeFiles().save_checkpoint({"weights": torch.ones(100)}, file)
    assert [each.name for each in file.parent.iterdir()] == ["last.ckpt"]
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before), hard))  # as a disk that is nearly full
    try:
        with pytest.raises(ConfigurationError, match=r"last\.ckpt cannot be written .* is whole"):
            WholeFiles().save_checkpoint({"weights": torch.zeros(100_000)}, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == before
    assert [each.name for each in file.parent.iterdir()] == ["last.ckpt"]
    WholeFiles().save_checkpoint({"weights": torch.zeros(3)}, str(file))
    assert torch.equal(torch.load(file, weights_only=True)["weights"], torch.zeros(3))
