"""`captioner train` as a user runs it: a few steps on the generated shapes, on the CPU, with a bundle at the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from captioner.bundle import load_bundle
from captioner.prediction import Captioner
from captioner.training.precision import automatic_precision
from tests.training.running import SETTINGS, begun, column, recipe, run_process, train


def test_a_run_leaves_log_curves_checkpoints_and_a_bundle(finished: Path) -> None:
    names = {file.name for file in finished.iterdir()}
    assert names == {"bundle", "checkpoints", "config.yaml", "curves.png", "metrics.csv", "tensorboard"}
    assert len(column(finished, "train_loss_step")) == 3
    for name in ("train_loss_epoch", "val_loss", "val_loss_shuffled", "cider", "bleu4", "distinct"):
        assert len(column(finished, name)) == 1, name
    assert (finished / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert {file.name for file in (finished / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_the_bundle_says_where_it_comes_from_and_captions(finished: Path, shapes: Path) -> None:
    bundle = load_bundle(finished / "bundle")
    assert bundle.name == "shapes-squeezenet1_1-lstm"
    assert bundle.decoding.beam_size == 2
    (phase,) = bundle.training["phases"]
    assert phase["data"] == "shapes"
    assert (phase["epochs"], phase["steps"]) == (1, 3)
    assert phase["dev_cider"] == pytest.approx(column(finished, "cider")[0], abs=0.01)
    assert {"torch", "torchvision", "pytorch-lightning"} == set(phase["versions"])
    assert phase["settings"]["train_encoder_from"] == "all"
    assert (phase["settings"]["batch_size"], phase["settings"]["min_count"], phase["seed"]) == (8, 1, 1)
    assert (phase["start"], phase["callbacks"]) == ({"weights": "random"}, [])
    assert phase["precision"] == automatic_precision("cpu")
    card = (finished / "bundle" / "README.md").read_text()
    assert "# shapes-squeezenet1_1-lstm" in card
    assert "1 epochs (3 steps)" in card
    assert "shapes" in (finished / "bundle" / "LICENSE").read_text()
    with Captioner.from_bundle(finished / "bundle", processes=1) as captioner:
        (caption,) = captioner.caption([shapes / "Images" / "dev_00000.png"])
    assert len(caption.words) <= 9


def test_the_checkpoint_and_the_bundle_are_the_same_network(finished: Path) -> None:
    state = torch.load(finished / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    for name, value in load_bundle(finished / "bundle").model.state_dict().items():
        torch.testing.assert_close(value, state[f"model.{name}"], atol=1e-3, rtol=1e-3)


def test_the_same_seed_gives_the_same_model(finished: Path, shapes: Path, tmp_path: Path) -> None:
    assert train("--config", recipe(tmp_path, shapes), "--output", tmp_path / "run") == 0
    weights = "bundle/weights.safetensors"
    assert (tmp_path / "run" / weights).read_bytes() == (finished / weights).read_bytes()


def test_a_run_can_be_resumed_and_keeps_its_log(finished: Path, shapes: Path, tmp_path: Path) -> None:
    output, config = tmp_path / "run", recipe(tmp_path, shapes)
    shutil.copytree(finished, output)
    before = (output / "metrics.csv").read_bytes()
    checkpoint = output / "checkpoints" / "last.ckpt"
    command = ["--config", config, "--output", output, "--ckpt_path", checkpoint, "--trainer.max_epochs=2"]
    assert train(*command) == 0
    assert (output / "metrics.001.csv").read_bytes() == before
    assert [len(column(output, name)) for name in ("train_loss_step", "val_loss")] == [3, 1]  # of the second epoch
    assert column(output, "step")[-1] == 5
    state = torch.load(checkpoint, weights_only=True)
    assert state["global_step"] == 6
    assert len(load_bundle(output / "bundle").training["phases"]) == 1
    # with the settings that it leaves, another run begins anew
    assert train("--config", output / "config.yaml", "--output", tmp_path / "new", "--trainer.max_steps=1") == 0
    assert column(tmp_path / "new", "step")[0] == 0


def test_a_new_run_in_the_same_folder_tells_so_and_leaves_its_own_checkpoints(
    finished: Path, shapes: Path, tmp_path: Path
) -> None:
    command = ["--config", recipe(tmp_path, shapes), "--output", tmp_path / "run"]
    shutil.copytree(finished, tmp_path / "run")
    with pytest.warns(UserWarning, match="Checkpoint directory .* is not empty"):
        assert train(*command, "--trainer.max_epochs=2") == 0
    checkpoints = tmp_path / "run" / "checkpoints"
    assert {file.name for file in checkpoints.iterdir()} == {"best.ckpt", "last.ckpt", "previous.ckpt"}
    assert torch.load(checkpoints / "last.ckpt", weights_only=True)["global_step"] == 6


@pytest.fixture(scope="module")
def short(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run of two steps that is never validated on its way and has no logger."""
    folder = tmp_path_factory.mktemp("short")
    rarely = ["--trainer.max_steps=2", "--trainer.check_val_every_n_epoch=5", "--trainer.logger=false"]
    assert train("--config", recipe(folder, shapes), "--output", folder / "run", *rarely) == 0
    return folder / "run"


def test_a_run_that_ends_before_its_first_validation_is_validated_then(short: Path) -> None:
    (phase,) = load_bundle(short / "bundle").training["phases"]
    assert (phase["epochs"], phase["steps"]) == (1, 2)
    assert phase["dev_cider"] >= 0.0


def test_a_dry_run_changes_no_file_and_says_that_it_leaves_no_bundle(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, output = recipe(tmp_path, shapes), tmp_path / "run"
    (output / "checkpoints").mkdir(parents=True)
    for name in ("checkpoints/last.ckpt", "metrics.001.csv", "metrics.csv"):
        (output / name).write_text("of a run before")
    before = {file: file.read_bytes() for file in output.rglob("*") if file.is_file()}
    dry = ["--trainer.fast_dev_run=true", "--checkpoints.minutes=0"]
    assert train("--config", config, "--output", output, *dry) == 0
    assert "no bundle is written" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in output.rglob("*") if file.is_file()} == before


def test_a_run_can_start_from_a_bundle(
    finished: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    config = recipe(tmp_path, shapes)
    rates = ["--model.learning_rate=1e-9", "--model.encoder_learning_rate=1e-9"]
    assert train("--config", config, "--init-from", finished / "bundle", "--output", output, *rates) == 0
    assert "words of the data keep their vectors" in capsys.readouterr().err
    before, after = load_bundle(finished / "bundle"), load_bundle(output / "bundle")
    for name, value in before.model.state_dict().items():
        torch.testing.assert_close(after.model.state_dict()[name], value, atol=1e-4, rtol=1e-3)
    assert len(after.training["phases"]) == 2


def test_settings_that_nobody_gave_are_those_of_the_bundle(
    finished: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "finetune.yaml"
    settings = {
        "data": {**SETTINGS["data"], "path": str(shapes), "preprocessing": {}},
        "model": {"train_encoder_from": "features.3", "decoder": {"dropout": 0.25}},
        "trainer": SETTINGS["trainer"],
    }
    config.write_text(json.dumps(settings))
    command = ["--config", config, "--init-from", finished / "bundle"]
    assert train(*command, "--output", tmp_path / "run") == 0
    before, after = load_bundle(finished / "bundle"), load_bundle(tmp_path / "run" / "bundle")
    assert after.model.encoder.configuration == before.model.encoder.configuration
    assert after.model.decoder.configuration == replace(before.model.decoder.configuration, dropout=0.25)
    assert after.preprocessing == before.preprocessing
    capsys.readouterr()
    given = ["--output", tmp_path / "other", "--model.decoder.hidden_size=512"]  # the default, but given
    assert train(*command, *given) == 1
    assert "model.decoder.hidden_size is 512, but the bundle to start from has 12" in capsys.readouterr().err


def test_a_logger_of_the_users_own_is_used(short: Path) -> None:
    assert not (short / "metrics.csv").exists()
    assert (short / "bundle" / "model.json").is_file()


@pytest.mark.parametrize("alone", [False, True])
def test_averaged_weights_can_be_asked_for(alone: bool, shapes: Path, tmp_path: Path) -> None:
    average = {"class_path": "pytorch_lightning.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.9}}
    file = recipe(tmp_path, shapes, callbacks=average if alone else [average])
    plugin = ["--trainer.plugins=pytorch_lightning.plugins.io.TorchCheckpointIO"] if alone else []
    assert train("--config", file, "--output", tmp_path / "run", *plugin) == 0
    (phase,) = load_bundle(tmp_path / "run" / "bundle").training["phases"]
    (recorded,) = phase["callbacks"]
    assert recorded["class_path"] == average["class_path"]
    assert recorded["init_args"]["decay"] == 0.9


def test_ctrl_c_ends_with_130_and_leaves_a_checkpoint(shapes: Path, tmp_path: Path) -> None:
    config, stderr = recipe(tmp_path, shapes, max_epochs=10_000), tmp_path / "stderr"
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    endless = ["--config", config, "--early_stopping.patience=10000", "--output", tmp_path / "run"]
    with begun(stderr, *endless) as process:
        deadline = time.monotonic() + 600
        while not checkpoint.is_file():
            assert process.is_alive(), stderr.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert process.pid is not None
        os.killpg(process.pid, signal.SIGINT)
        process.join(600)
    message = stderr.read_text()
    assert process.exitcode == 130, message
    assert message.splitlines()[-1] == "captioner: interrupted"
    assert "Traceback" not in message
    assert checkpoint.is_file()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--trainer.max_epoch", "1"], "there is no option --trainer.max_epoch. Did you mean --trainer.max_epochs?"),
        (["--data.path", "x", "--outptu=run4"], "there is no option --outptu. Did you mean --output?"),
        (["--data.path", "x", "--nonsense"], "there is no option --nonsense."),
        (["--trainer.max_epochs", "abc"], "--trainer.max_epochs cannot be abc."),
        (["--data.path", "x", "--model.decoder.hidden_size=x"], "--model.decoder.hidden_size cannot be x."),
        (["--output", "run4"], "give --data.path."),
    ],
)
def test_a_wrong_option_is_told_in_a_sentence_that_names_it(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*arguments) == 2
    usage, said = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: captioner train ")
    assert said == f"captioner: {told} See captioner train --help."


def test_an_error_stands_alone(tmp_path: Path) -> None:
    ended = run_process("--model.learning_rate=-1", "--trainer.max_epochs=1", "--data.path", tmp_path)
    assert ended.returncode == 1
    assert ended.stderr == "captioner: model.learning_rate is -1.0; it must be a finite number of 0 or more\n"


def test_a_run_says_nothing_that_a_user_cannot_act_on(finished: Path, shapes: Path, tmp_path: Path) -> None:
    config = recipe(tmp_path, shapes, log_every_n_steps=50, enable_model_summary=True, precision="bf16-mixed")
    checkpoint = finished / "checkpoints" / "last.ckpt"
    ended = run_process(
        "--config", config, "--output", tmp_path / "run", "--ckpt_path", checkpoint, "--trainer.max_epochs=2"
    )
    assert ended.returncode == 0, ended.stderr
    assert "Restoring states from the checkpoint" in ended.stderr  # it is heard
    for noise in ("Seed set to", "litlogger", "weights_only", "model summary", "log_every_n_steps"):
        assert noise not in ended.stderr, ended.stderr


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--help") == 0
    printed = capsys.readouterr().out
    for name in (
        "--output",
        "--init-from",
        "--ckpt_path",
        "--data.path",
        "--model.decoder.cell",
        "--trainer.max_epochs",
    ):
        assert name in printed
