"""docker-compose.yml agrees with the service: its command is one, and its bounds hold what the settings allow."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from captioner.cli.main import commands
from service import batching, succession
from service.keys import find, read_keys
from service.page import MAX_SHOWN_BYTES
from service.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


def found(pattern: str) -> str:
    """What the group of `pattern` matches in the file."""
    match = re.search(pattern, COMPOSE, re.MULTILINE)
    assert match is not None, pattern
    return match[1]


def test_the_commands_are_commands() -> None:
    found_commands = re.findall(r"^ +command: (\[\"serve.*\])$", COMPOSE, re.MULTILINE)
    assert len(found_commands) == 2
    for text in found_commands:
        name, *arguments = json.loads(text)
        command = commands.get_command(click.Context(commands), name)
        assert command is not None
        values = command.make_context(name, arguments).params
        assert (values["port"], values["processes"]) == (8000, 2)


@pytest.mark.skipif(shutil.which("sh") is None, reason="no sh on this machine")
def test_the_key_is_made_once(tmp_path: Path) -> None:
    """The command of the service key, with a folder in place of its volume."""
    (command,) = json.loads(found(r'^    command: (\["test .*\])$'))
    command = command.replace("/keys", shlex.quote(str(tmp_path)))
    entrypoint = json.loads(found(r"^    entrypoint: (\[.*\])$"))
    path = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    run = functools.partial(subprocess.run, [*entrypoint, command], capture_output=True, text=True, check=True)
    key = run(env=path).stderr.split()[-1]
    (file,) = tmp_path.iterdir()
    assert file.name == Path(found("CAPTIONER_KEYS_FILE: (.*)")).name
    assert find(read_keys(file), key) is not None
    before = file.read_text()
    assert run(env=path).stderr == ""
    assert file.read_text() == before


@pytest.mark.parametrize("profiles", [[], ["proxy"], ["gpu"], ["proxy", "gpu"]], ids=" ".join)
def test_compose_reads_the_file(profiles: list[str]) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker compose on this machine")
    flags = [flag for profile in profiles for flag in ("--profile", profile)]
    done = subprocess.run(
        [docker, "compose", *flags, "config", "--quiet"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=Path(sys.executable).parent)
    if hadolint is None:
        pytest.skip("no hadolint on this machine")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_image_and_the_file_ask_alike_whether_it_is_healthy() -> None:
    match = re.search(
        r"^HEALTHCHECK .*\n +(CMD) (\[.*\])$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert match is not None
    assert json.loads(found(r"^ +test: (\[.*\])$")) == [match[1], *json.loads(match[2])]


def test_the_script_that_runs_the_containers_understands_the_file() -> None:
    pytest.importorskip("yaml", reason="PyYAML comes with the extra train")
    from tests.integration.compose_file import compose, flags

    for name, service in compose()["services"].items():
        assert "--read-only=True" in flags(service), name


def test_caddy_reads_its_file(tmp_path: Path) -> None:
    caddy = shutil.which("caddy")
    if caddy is None:
        pytest.skip("no caddy on this machine")
    command = [caddy, "validate", "--config", str(ROOT / "Caddyfile"), "--adapter", "caddyfile"]
    environment = {**os.environ, "DOMAIN": "localhost", "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_proxy_lets_through_what_the_service_takes() -> None:
    bound = re.search(r"max_size (\d+)", (ROOT / "Caddyfile").read_text(encoding="utf-8"))
    assert bound is not None
    assert int(bound[1]) == Settings().max_body_bytes


def test_the_folder_for_temporary_files_holds_what_the_service_may_hold() -> None:
    settings = Settings()
    # A page holds its pictures again, in base64; both are there for a moment.
    answers = min(settings.max_waiting * MAX_SHOWN_BYTES, settings.max_held_bytes) * 4 / 3
    assert int(found(r"- /tmp:size=(\d+)m")) * 2**20 >= settings.max_held_bytes + answers


def test_the_engine_waits_for_the_end() -> None:
    """Of the requests, of the server's threads (1 second), of a reload and of a model that hangs."""
    longest = Settings().drain_timeout_seconds + 1 + succession.CLOSE_SECONDS + batching.CLOSE_SECONDS
    graces = [int(seconds) for seconds in re.findall(r"stop_grace_period: (\d+)s", COMPOSE)]
    assert longest < graces[0] < graces[1]  # the proxy is the last to go


def test_the_threads_stay_below_their_bound() -> None:
    assert int(found(r"OMP_NUM_THREADS:-(\d+)")) <= (team := int(found(r"Up to (\d+) fit")))
    # A team for each of the threads that load a model or do its work, before and after a reload. The rest: reading
    # processes and what watches them, Python's own threads, the health check.
    assert Settings().threads + 4 * team + 50 < int(found(r"pids_limit: (\d+)"))
