"""docker-compose.yml agrees with the service: its command is one, and its bounds hold what the settings allow."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from captioner.cli.main import commands
from service.page import MAX_SHOWN_BYTES
from service.settings import Settings

COMPOSE = (Path(__file__).parents[2] / "docker-compose.yml").read_text(encoding="utf-8")


def found(pattern: str) -> str:
    """What the group of `pattern` matches in the file."""
    match = re.search(pattern, COMPOSE, re.MULTILINE)
    assert match is not None, pattern
    return match[1]


def test_the_command_is_one() -> None:
    name, *arguments = json.loads(found(r"^    command: (\[.*\])$"))
    command = commands.get_command(click.Context(commands), name)
    assert command is not None
    values = command.make_context(name, arguments).params
    assert (values["port"], values["processes"]) == (8000, 2)


def test_the_folder_for_temporary_files_holds_what_the_service_may_hold() -> None:
    settings = Settings()
    answers = settings.max_waiting * MAX_SHOWN_BYTES * 4 / 3  # base64
    assert int(found(r"- /tmp:size=(\d+)m")) * 2**20 >= settings.max_held_bytes + answers


def test_the_threads_stay_below_their_bound() -> None:
    assert int(found(r"OMP_NUM_THREADS:-(\d+)")) <= (team := int(found(r"Up to (\d+) fit")))
    # The rest: reading processes and what watches them, Python's own threads, the health check.
    assert Settings().threads * team + 50 < int(found(r"pids_limit: (\d+)"))
