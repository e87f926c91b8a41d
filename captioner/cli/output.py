"""What the commands that write files have in common."""

from __future__ import annotations

import json
from pathlib import Path

import click

from captioner.batch.whole_file import WholeTextFile


def check_folder(file: Path | None) -> None:
    """Refuse, before any work is done, a file to write whose folder does not exist."""
    if file is not None and not file.parent.is_dir():
        context = click.get_current_context(silent=True)
        raise click.UsageError(f"The folder of {file} does not exist: create it first.", context)


def write_json(path: Path, content: object) -> None:
    """Write JSON, whole or not at all."""
    with WholeTextFile(path) as file:
        file.write(json.dumps(content, ensure_ascii=False, indent=2) + "\n")
