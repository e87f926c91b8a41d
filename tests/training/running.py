"""How the tests of training run `captioner train`."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner.cli.main import main, run

# A process that trains spends six seconds on its imports. These are forked from one that has done with them.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["captioner.cli.train", "captioner.training.command", "matplotlib.figure", "torch.utils.tensorboard"]
)

SETTINGS: dict[str, Any] = {
    "data": {"min_count": 1, "batch_size": 8, "num_workers": 0, "preprocessing": {"geometry": {"size": 32}}},
    "model": {
        "encoder": {"name": "squeezenet1_1", "cut": "features.3"},
        "train_encoder_from": "all",
        "decoder": {"embedding_size": 8, "hidden_size": 12, "attention_size": 6},
        "decoding": {"beam_size": 2, "max_length": 9},
    },
    "trainer": {
        "max_epochs": 1,
        "accelerator": "cpu",
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    },
}


def recipe(folder: Path, shapes: Path, **trainer: Any) -> Path:
    """A configuration file in `folder`, as the project's recipes have them (JSON is YAML)."""
    data = {**SETTINGS["data"], "path": str(shapes), "cache": str(folder / "cache")}
    file = folder / "train.yaml"
    file.write_text(json.dumps({**SETTINGS, "data": data, "trainer": {**SETTINGS["trainer"], **trainer}}))
    return file


def train(*arguments: object) -> int:
    """The exit code of `captioner train ARGUMENTS...`."""
    try:
        return run(["train", *map(str, arguments)])
    except SystemExit as ended:  # the parser of LightningCLI ends the process by itself
        return int(str(ended.code))


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        returncode: its exit code, or the negative number of the signal that killed it.
        stderr: what it wrote there.
    """

    returncode: int | None
    stderr: str


def run_process(*arguments: object) -> Ended:
    """`captioner train ARGUMENTS...` in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        stderr = Path(folder) / "stderr"
        process = FORKS.Process(target=_train, args=(stderr, [str(argument) for argument in arguments]))
        process.start()
        process.join(900)
        process.kill()  # does nothing to one that has ended
        process.join()
        return Ended(process.exitcode, stderr.read_text() if stderr.exists() else "")


def _train(stderr: Path, arguments: list[str]) -> None:
    # As for any process: else the server of the tests would be the parent of its readers, which end with their parent.
    multiprocessing.set_start_method(None, force=True)
    with stderr.open("wb") as file:
        os.dup2(file.fileno(), 2)
    # the console script: Lightning starts the other processes of a run by what stands here
    sys.argv = [str(Path(sys.executable).with_name("captioner")), "train", *arguments]
    main()


def column(output: Path, name: str, log: str = "metrics.csv") -> list[float]:
    with (output / log).open(newline="") as lines:
        return [float(line[name]) for line in csv.DictReader(lines) if line[name]]
