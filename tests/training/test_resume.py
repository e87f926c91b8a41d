"""A run that is killed at a random step and resumed ends with the same bits as one that nothing happened to."""

from __future__ import annotations

import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.running import column, recipe, run_process, train

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")

EMA = {
    "class_path": "pytorch_lightning.callbacks.EMAWeightAveraging",
    "init_args": {"decay": 0.9, "update_every_n_steps": 2},
}
STEPS = 9  # of a run: three epochs of three steps


def killed_at(step: int, number: int, *callbacks: dict[str, Any]) -> dict[str, Any]:
    killer = {"class_path": "tests.training.killing.SignalAt", "init_args": {"step": step, "number": int(number)}}
    return {"callbacks": [*callbacks, killer]}


def state(output: Path) -> dict[str, Any]:
    """What the last checkpoint of a run holds, without what the clock says and without paths."""
    content: dict[str, Any] = torch.load(output / "checkpoints" / "last.ckpt", weights_only=True)
    del content["captioner"]["seconds"]
    callbacks = {name.split("{")[0]: value for name, value in content.pop("callbacks").items()}
    best = callbacks.pop("ModelCheckpoint")
    return {**content, "callbacks": callbacks, "best": best["best_model_score"]}


def differences(one: Any, other: Any, name: str = "") -> list[str]:
    """Where two nests of values differ in a bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if torch.equal(one, other) else [name]
    if isinstance(one, dict) and isinstance(other, dict) and set(one) == set(other):
        return [found for key in one for found in differences(one[key], other[key], f"{name}/{key}")]
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        return [
            found for i, (a, b) in enumerate(zip(one, other, strict=True)) for found in differences(a, b, f"{name}/{i}")
        ]
    return [] if type(one) is type(other) and one == other else [f"{name}: {one} is not {other}"]


CROSS_ENTROPY = [
    "--data.num_workers=1",
    '--data.augmentation={"min_scale": 0.5, "flip": true, "colour": 0.3}',
    "--trainer.accumulate_grad_batches=2",
    "--data.batch_size=4",
]
CACHED = ["--model.train_encoder_from=null", "--data.bucketing=true", f"--trainer.max_steps={STEPS}"]
SELF_CRITICAL = ['--model.self_critical={"samples": 3, "max_length": 6}', "--model.train_encoder_from=null"]


@pytest.mark.parametrize("way", ["cross-entropy", "cached features", "self-critical"])
def test_a_killed_run_goes_on_bit_for_bit(way: str, finished: Path, shapes: Path, tmp_path: Path) -> None:
    bundle = ["--init-from", finished / "bundle"]
    ways: dict[str, list[object]] = {
        "cross-entropy": [*CROSS_ENTROPY],
        "cached features": [*bundle, *CACHED],
        "self-critical": [*bundle, *SELF_CRITICAL],
    }
    step = random.randrange(1, STEPS)  # any
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    always = ["--checkpoints.minutes=0", "--trainer.max_epochs=3", *ways[way]]
    plain = recipe(tmp_path, shapes, callbacks=[EMA])
    assert train("--config", plain, "--output", whole, *always) == 0
    killer = recipe(tmp_path, shapes, **killed_at(step, signal.SIGKILL, EMA))
    ended = run_process("--config", killer, "--output", broken, *always)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    content = torch.load(broken / "checkpoints" / "last.ckpt", weights_only=True)
    # an epoch's last step is in no checkpoint before its validation is
    assert content["global_step"] == step
    plain = recipe(tmp_path, shapes, callbacks=[EMA])
    assert train("--config", plain, "--output", broken, *always, "--resume") == 0
    assert differences(state(whole), state(broken)) == [], f"killed at step {step}"
    assert state(whole)["global_step"] == STEPS
    assert column(whole, "cider")[-1] == column(broken, "cider")[-1]
    weights = "bundle/weights.safetensors"
    assert (whole / weights).read_bytes() == (broken / weights).read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])  # both are in use on clusters
def test_a_signal_saves_and_says_how_to_go_on(number: int, shapes: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    config = recipe(tmp_path, shapes, **killed_at(1, number))
    ended = run_process("--config", config, "--output", output, "--trainer.log_every_n_steps=1")
    assert ended.returncode == 143, ended.stderr
    last = output / "checkpoints" / "last.ckpt"
    assert ended.stderr.splitlines()[-1] == f"stopped: {last} has step 2; go on by the same command with --resume"
    assert "Traceback" not in ended.stderr
    assert torch.load(last, weights_only=True)["global_step"] == 2
    assert not (output / "bundle").exists()
    assert column(output, "train_loss_step") != []  # the log of the steps that the checkpoint has


def test_sigterm_before_the_training_ends_at_once(shapes: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    config = recipe(tmp_path, shapes, callbacks={"class_path": "tests.training.killing.SignalInSanityCheck"})
    ended = run_process("--config", config, "--output", output)
    assert ended.returncode == -signal.SIGTERM, ended.stderr  # nothing is to be saved: as any other program
    assert not (output / "checkpoints").exists()


def test_a_moved_folder_keeps_its_best_checkpoints(shapes: Path, tmp_path: Path) -> None:
    config, begun, moved = recipe(tmp_path, shapes), tmp_path / "begun", tmp_path / "moved"
    command = ["--config", config, "--checkpoints.keep=2", "--model.learning_rate=0"]  # no later epoch is better
    command += ["--model.encoder_learning_rate=0"]
    assert train(*command, "--output", begun) == 0
    begun.rename(moved)
    assert train(*command, "--output", moved, "--resume", "--trainer.max_epochs=2") == 0
    callbacks = torch.load(moved / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]
    states = [state for name, state in callbacks.items() if "ModelCheckpoint" in name or "KeptCheckpoints" in name]
    assert len(states) == 2
    folder = moved / "checkpoints"
    for state in states:
        assert Path(state["dirpath"]) == folder
        assert {Path(file).parent for file in [state["best_model_path"], *state["best_k_models"]]} == {folder}
        assert all(Path(file).is_file() for file in state["best_k_models"])
        assert float(state["best_model_score"]) == column(moved, "cider", "metrics.001.csv")[0]
    assert sorted(len(state["best_k_models"]) for state in states) == [1, 2]  # one of both epochs


def test_what_is_resumed_keeps_the_precision_of_the_encoder(finished: Path, shapes: Path, tmp_path: Path) -> None:
    output = shutil.copytree(finished, tmp_path / "run")
    last = output / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    torch.save({**content, "captioner": {**content["captioner"], "precision": "bfloat16"}}, last)  # chosen nowhere
    config = recipe(tmp_path, shapes)
    assert train("--config", config, "--output", output, "--resume", "--trainer.max_epochs=2") == 0
    content = torch.load(last, weights_only=True)
    assert content["global_step"] == 6
    assert content["captioner"]["precision"] == "bfloat16"


def test_resume_begins_where_there_is_no_checkpoint(shapes: Path, tmp_path: Path) -> None:
    assert train("--config", recipe(tmp_path, shapes), "--output", tmp_path / "run", "--resume") == 0
    assert (tmp_path / "run" / "bundle" / "model.json").is_file()


def test_numbers_that_make_no_sense_are_refused(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = recipe(tmp_path, shapes)
    for setting in ("--checkpoints.minutes=-1", "--checkpoints.keep=0"):
        assert train("--config", config, "--output", tmp_path / "run", setting) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "checkpoints.minutes" in line
