"""How the tests of training run `captioner train`."""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
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
    return _run([({}, arguments)], seconds=900)[0]


@contextlib.contextmanager
def begun(stderr: Path, *arguments: object) -> Iterator[BaseProcess]:
    """The same while it runs; what it writes goes to `stderr`. It is killed at the end of the block, should it live."""
    process = _begin(stderr, {}, arguments)
    try:
        yield process
    finally:
        process.kill()  # does nothing to one that has ended
        process.join()


def run_machines(*machines: Sequence[object]) -> list[Ended]:
    """`captioner train` on so many machines, one process on each, with the arguments of each, as torchrun starts them.

    What has not ended after five minutes hangs, and is killed.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    common = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test", "LOCAL_RANK": "0",
        "WORLD_SIZE": str(len(machines)),
    }  # fmt: skip
    several = [f"--trainer.num_nodes={len(machines)}", "--trainer.devices=1", "--trainer.strategy=ddp"]
    runs = [
        ({**common, "RANK": str(rank), "GROUP_RANK": str(rank)}, [*arguments, *several])
        for rank, arguments in enumerate(machines)
    ]
    return _run(runs, seconds=300)


def _run(runs: Sequence[tuple[Mapping[str, str], Sequence[object]]], *, seconds: float) -> list[Ended]:
    with tempfile.TemporaryDirectory() as folder:
        processes = []
        for number, (environment, arguments) in enumerate(runs):
            stderr = Path(folder) / str(number)
            processes.append((_begin(stderr, environment, arguments), stderr))
        end = time.monotonic() + seconds
        for process, _ in processes:
            process.join(max(0.0, end - time.monotonic()))
        for process, _ in processes:
            process.kill()  # does nothing to one that has ended
            process.join()
        return [Ended(process.exitcode, stderr.read_text() if stderr.exists() else "") for process, stderr in processes]


def _begin(stderr: Path, environment: Mapping[str, str], arguments: Sequence[object]) -> BaseProcess:
    process = FORKS.Process(target=_train, args=(stderr, environment, [str(argument) for argument in arguments]))
    process.start()
    return process


def _train(stderr: Path, environment: Mapping[str, str], arguments: list[str]) -> None:
    os.setsid()  # a group of its own, as at a terminal
    # As for any process: else the server of the tests would be the parent of its readers, which end with their parent.
    multiprocessing.set_start_method(None, force=True)
    os.environ.update(environment)
    if "RANK" in environment:  # Lightning has read it when it was imported, before the fork
        from pytorch_lightning.utilities import rank_zero_only

        rank_zero_only.rank = int(environment["RANK"])  # type: ignore[attr-defined]
    with stderr.open("wb") as file:
        os.dup2(file.fileno(), 2)
    # the console script: Lightning starts the other processes of a run by what stands here
    sys.argv = [str(Path(sys.executable).with_name("captioner")), "train", *arguments]
    main()


def column(output: Path, name: str, log: str = "metrics.csv") -> list[float]:
    with (output / log).open(newline="") as lines:
        return [float(line[name]) for line in csv.DictReader(lines) if line[name]]
