"""What `captioner train` refuses, in a sentence and without a traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from captioner.datasets.checks import check_pictures
from captioner.datasets.shapes import ShapesOptions, write
from tests.training.running import recipe, train


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--model.colour=red"], "model.colour"),
        (["--data.batch_size=two"], "batch_size"),
        (["--config=nowhere.yaml"], "nowhere.yaml"),
        (["--loud"], "--loud"),
    ],
)
def test_unknown_settings_end_with_2_and_a_sentence(
    arguments: list[str], word: str, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--config", recipe(tmp_path, shapes), "--output", tmp_path / "run", *arguments) == 2
    message = capsys.readouterr().err
    assert word in message
    assert "Traceback" not in message
    assert "fit" not in message.split()  # Lightning's subcommand is nobody's business
    assert len(message.splitlines()) <= 4
    assert not (tmp_path / "run").exists()


def test_an_unknown_key_in_the_file_ends_with_2(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("model: {learning_rat: 0.1}\n")
    assert train("--config", file, "--data.path", shapes) == 2
    assert "model.learning_rat" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--model.decoder.cell=transformer"], "transformer"),
        (["--model.encoder.name=resnet5"], "resnet5"),
        (["--model.encoder.cut=layer9"], "layer9"),
        (["--model.weights=nowhere.pt"], "nowhere.pt"),
        (["--init-from=nowhere"], "nowhere"),
        (["--ckpt_path=nowhere.ckpt"], "nowhere.ckpt"),
        (["--data.augmentation.min_scale=2"], "min_scale"),
        (["--model.decoding.beam_size=0"], "beam_size"),
        (["--trainer.max_epochs=-1"], "max_epochs"),
        (["--trainer.limit_val_batches=0"], "limit_val_batches"),
        (["--trainer.enable_checkpointing=false"], "enable_checkpointing"),
        (["--trainer.accelerator=abacus"], "abacus"),
        pytest.param(
            ["--trainer.accelerator=gpu"],
            "gpu",
            marks=pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a GPU here"),
        ),
    ],
)
def test_settings_that_cannot_work_end_with_1_and_one_line(
    arguments: list[str], word: str, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--config", recipe(tmp_path, shapes), "--output", tmp_path / "run", *arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("captioner: ")
    assert word in line
    assert not (tmp_path / "run" / "bundle").exists()


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("--trainer.max_epochs=null", "nothing says when the run ends: give --trainer.max_epochs, such as 20"),
        ("--trainer.max_epochs=-1", "nothing says when the run ends"),
        ('--trainer={"max_epochs": null, "max_time": "00:01:00:00"}', "trainer.max_time alone does not say which step"),
        ("--trainer.limit_val_batches=0.5", "trainer.limit_val_batches is 0.5, but validation chooses the weights"),
        ("--trainer.limit_val_batches=1", "trainer.limit_val_batches is 1, but validation chooses the weights"),
    ],
)
def test_half_a_run_is_refused_before_it_begins(
    setting: str, sentence: str, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--config", recipe(tmp_path, shapes), "--output", tmp_path / "run", setting) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_cannot_be_resumed_is_one_line(
    finished: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, half = finished / "checkpoints" / "last.ckpt", tmp_path / "half.ckpt"
    half.write_bytes(whole.read_bytes()[:5000])
    for checkpoint, setting, word in (
        (half, "--trainer.max_epochs=2", "half.ckpt cannot be read"),
        (whole, "--model.decoder.hidden_size=13", "the checkpoint does not fit: its 'model.decoder."),
        ("last", "--trainer.max_epochs=2", "run/checkpoints/last.ckpt does not exist"),
    ):
        command = ["--config", recipe(tmp_path, shapes), "--output", tmp_path / "run", "--ckpt_path", checkpoint]
        assert train(*command, setting) == 1
        message = capsys.readouterr().err
        assert word in message
        assert "Traceback" not in message


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_picture_that_a_worker_cannot_read_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "shapes", ShapesOptions(train=8, dev=2, test=2))
    picture = tmp_path / "shapes" / "Images" / "train_00003.png"
    config = recipe(tmp_path, tmp_path / "shapes")
    check_pictures(sorted((tmp_path / "shapes" / "Images").iterdir()), tmp_path / "cache")
    status = picture.stat()
    picture.write_bytes(bytes(status.st_size))  # it broke without a trace after it was looked at
    os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert train("--config", config, "--output", tmp_path / "run", "--data.num_workers=1") == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"captioner: picture {picture} of the data set cannot be used: ")
    assert "Traceback" not in line


def test_a_missing_caption_file_is_one_line(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert train("--config", recipe(tmp_path, shapes), "--data.path", tmp_path / "empty") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"captioner: {tmp_path / 'empty'} does not hold a data set: expected COCO's ")
