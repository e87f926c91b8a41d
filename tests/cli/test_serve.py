"""`captioner serve`: one sentence for what goes wrong before it listens, and an end that is no error."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from captioner.cli.main import run


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


def test_a_public_host_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--bundle", str(tmp_path), "--host", "0.0.0.0", "--port", "0"]) == 1
    assert "warning: 0.0.0.0" in capsys.readouterr().err
    assert run(["serve", "--bundle", str(tmp_path), "--port", "0"]) == 1
    assert "warning" not in capsys.readouterr().err


def test_it_serves_a_bundle_until_a_signal_comes(tiny_bundle: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(picture, "PNG")
    command = [sys.executable, "-m", "captioner", "serve", "--bundle", str(tiny_bundle), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with contextlib.closing(process.stdout) as lines:
        try:
            url = lines.readline().split()[2]
            request = urllib.request.Request(
                f"{url}/v1/captions?beam_size=2", picture.getvalue(), {"Content-Type": "image/png"}
            )
            with urllib.request.urlopen(request, timeout=60) as response:
                (row,) = json.load(response)["captions"]
            assert row["caption"] is not None
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            assert process.stderr is not None
            assert process.stderr.read() == ""
        finally:
            process.kill()
            process.wait(10)
            if process.stderr is not None:
                process.stderr.close()
