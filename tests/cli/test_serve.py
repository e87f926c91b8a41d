"""`captioner serve`: one sentence for what goes wrong before it listens, and an end that is no error."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from captioner.cli.main import run
from service.keys import find, read_keys


def test_a_missing_bundle_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--bundle", str(tmp_path / "nowhere"), "--port", "0"]) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "nowhere" in said.err
    assert said.out == ""


def test_a_busy_port_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(["serve", "--bundle", str(tmp_path), "--port", str(port)]) == 1  # claimed before the model loads
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"port {port}" in said


@pytest.fixture(autouse=True)
def undisturbed_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a command does to this process's logging is undone, and no setting comes from the machine's environment."""
    for name in [name for name in os.environ if name.startswith("CAPTIONER_")]:
        monkeypatch.delenv(name)
    root = logging.getLogger()
    before = root.handlers[:], root.level, threading.excepthook
    yield
    logging.captureWarnings(False)
    root.handlers[:], threading.excepthook = before[0], before[2]
    root.setLevel(before[1])


def test_a_public_host_needs_keys_or_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    public = ["serve", "--bundle", str(tmp_path), "--host", "0.0.0.0", "--port", "0"]
    assert run(public) == 1
    assert "--keys-file" in (said := capsys.readouterr().err)
    assert said.count("\n") == 1
    assert run([*public, "--no-auth"]) == 1
    assert "warning: 0.0.0.0" in (said := capsys.readouterr().err)
    assert str(tmp_path) in said  # it went on to the bundle, which is none
    assert run([*public, "--keys-file", str(tmp_path / "keys")]) == 1
    assert f"{tmp_path / 'keys'} cannot be read: No such file or directory; check --keys-file" in (
        said := capsys.readouterr().err
    )
    assert "warning" not in said
    assert run(["serve", "--bundle", str(tmp_path), "--port", "0"]) == 1
    assert "warning" not in capsys.readouterr().err


def test_a_person_at_a_terminal_hears_that_the_model_loads(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "captioner", "serve", "--bundle", str(tmp_path / "nowhere"), "--port", "0"]
    try:
        assert subprocess.run(command, stderr=theirs, timeout=600, check=False).returncode == 1
        said = os.read(ours, 4096).decode().splitlines()
    finally:
        os.close(theirs)
        os.close(ours)
    assert said[0] == "Loading the model …"
    assert "nowhere" in said[1]


def test_a_new_key_is_shown_and_its_line_can_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--new-key"]) == 0
    said = capsys.readouterr()
    assert said.out.count("\n") == said.err.count("\n") == 1
    (tmp_path / "keys").write_text(said.out)
    assert find(read_keys(tmp_path / "keys"), said.err.split()[-1]) is not None


def test_the_environment_gives_settings_and_options_win(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTIONER_HOST", "no such host")
    monkeypatch.setenv("CAPTIONER_NO_AUTH", "1")
    monkeypatch.setenv("CAPTIONER_BUNDLE", str(tmp_path / "elsewhere"))
    assert run(["serve"]) == 1
    assert "'no such host'" in capsys.readouterr().err
    assert run(["serve", "--host", "127.0.0.1", "--port", "0"]) == 1
    assert "elsewhere" in capsys.readouterr().err
    monkeypatch.setenv("CAPTIONER_PROT", "8000")
    assert run(["serve"]) == 1
    assert "CAPTIONER_PORT" in capsys.readouterr().err


def test_it_serves_a_bundle_until_a_signal_comes(tiny_bundle: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(picture, "PNG")
    # Python's own end of a process with torch takes too long on a busy machine: it must not come to that.
    program = "import atexit; from captioner.cli.main import main; atexit.register(print, 'a long end'); main()"
    command = [sys.executable, "-c", program, "serve", "--bundle", str(tiny_bundle), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with contextlib.closing(process.stdout) as said:
        try:
            url = said.readline().split()[2]
            request = urllib.request.Request(
                f"{url}/v1/captions?beam_size=2", picture.getvalue(), {"Content-Type": "image/png"}
            )
            with urllib.request.urlopen(request, timeout=600) as response:
                (row,) = json.load(response)["captions"]
            assert row["caption"] is not None
            process.send_signal(signal.SIGTERM)
            assert process.wait(600) == 0
            assert said.read() == ""
            assert process.stderr is not None
            lines = [json.loads(line) for line in process.stderr]
            assert [(line["event"], line.get("route"), line.get("status")) for line in lines] == [
                ("request", "/v1/captions", 200),
                ("Stopping; 0 requests are being answered.", None, None),
            ]
        finally:
            process.kill()
            process.wait(10)
            if process.stderr is not None:
                process.stderr.close()
