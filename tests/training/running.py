"""How the tests of training run `captioner train`."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from captioner.cli.main import run

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


def run_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`captioner train ARGUMENTS...` in a process of its own."""
    command = [sys.executable, "-m", "captioner", "train", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900)


def column(output: Path, name: str, log: str = "metrics.csv") -> list[float]:
    with (output / log).open(newline="") as lines:
        return [float(line[name]) for line in csv.DictReader(lines) if line[name]]
