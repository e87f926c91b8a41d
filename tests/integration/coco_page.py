"""Run the commands of data/coco/README.md, in order, on a replica of what COCO publishes.

    python tests/integration/coco_page.py FOLDER     # in a new environment, with what `pip install` brings

FOLDER gets a copy of the project without its environment; each command runs there, in one shell, as it stands on the
page. Only what no replica can have is added: another server, and a network and a number of steps for a small machine.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "data" / "coco" / "README.md"
COPIED = ("captioner", "service", "data", "pyproject.toml", "README.md", "LICENSE")
SMALL = (
    "--data.min_count=1 --data.batch_size=4 --data.num_workers=1 --trainer.max_epochs=null --trainer.max_steps=3 "
    "--trainer.accelerator=cpu --trainer.precision=32-true --trainer.log_every_n_steps=1 "
    "--trainer.enable_progress_bar=false --trainer.enable_model_summary=false"
)
SMALL_NETWORK = (
    "--model.weights=null --model.train_encoder_from=all --model.encoder.name=squeezenet1_1 "
    "--model.encoder.cut=features.3 --model.decoder.embedding_size=8 --model.decoder.hidden_size=12 "
    "--model.decoder.attention_size=6 --data.preprocessing.geometry.size=32"
)


def commands() -> list[str]:
    """The commands of the page, one a line, in order."""
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def installs(command: str) -> bool:
    """Whether a command of the page makes the environment."""
    return command.startswith(("python3 -m venv", ". ", "pip install"))


def adapted(command: str, mirror: str) -> str:
    """A command of the page for the replica."""
    if "prepare.py" in command:
        return f"{command} --from {mirror} --subset"
    if command.startswith("captioner train"):
        return f"{command} {SMALL}{'' if '--init-from' in command else f' {SMALL_NETWORK}'}"
    return command


def copy_project(folder: Path) -> None:
    """A copy of what the page needs of the project, without what was downloaded or built."""
    unwanted = shutil.ignore_patterns("raw", "__pycache__", "*.egg-info", "runs")
    for name in COPIED:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, folder / name, ignore=unwanted)
        else:
            shutil.copy(PROJECT / name, folder / name)


def run(lines: Sequence[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the lines in one shell; it stops at the first that fails, and tells each before it runs."""
    script = "set -e\n" + "".join(f"echo {shlex.quote(f'$ {line}')} >&2\n{line}\n" for line in lines)
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False, env=environment
    )


@contextmanager
def replica_server(folder: Path) -> Iterator[str]:
    """The address of a server of a replica of 2014, which is made in `folder`."""
    from tests.datasets.faulty_server import Faults, serve
    from tests.datasets.replica import publish

    publish(folder, "2014")
    with serve(folder, Faults()) as address:
        yield address


def main() -> int:
    """The exit code of the first command that fails, or 0."""
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True)
    copy_project(folder)
    with replica_server(folder / "published") as mirror:
        began = time.monotonic()
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        done = run([adapted(command, mirror) for command in commands()], folder, kept)
    sys.stdout.write(f"{done.stdout[-2000:]}\n{done.stderr[-6000:]}\n")
    sys.stdout.write(f"code {done.returncode} after {time.monotonic() - began:.0f} s\n")
    return done.returncode


if __name__ == "__main__":
    sys.path.insert(0, str(PROJECT))
    sys.exit(main())
