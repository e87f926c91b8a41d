"""The model is replaced while the service answers, and no request is lost."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask import Flask
from werkzeug.test import Client

from captioner.errors import BundleError
from service.keys import new_key
from service.metrics import Metrics
from service.succession import Reloader, Succession

ROOT = Path(__file__).parents[2]
HANGING_SECONDS = 600.0  # many times what anything takes, on a machine that has much else to do as well

posix = pytest.mark.skipif(sys.platform == "win32", reason="no SIGHUP there")


def app_that_says(text: str, gate: threading.Event | None = None) -> Flask:
    """An application with one answer, which waits for the gate."""
    app = Flask(text)

    @app.get("/")
    def show() -> str:
        assert gate is None or gate.wait(120)
        return text

    return app


def answer_of(succession: Succession) -> str:
    """What it says to one request, taken to its end as a server does."""
    with Client(succession).get("/") as response:
        return response.get_data(as_text=True)


def test_an_application_is_closed_after_its_last_request() -> None:
    gate = threading.Event()
    closed: list[str] = []
    answers: list[str] = []
    succession = Succession(app_that_says("old", gate), lambda: closed.append("old"))

    def ask() -> None:
        answers.append(answer_of(succession))

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    deadline = time.monotonic() + 120
    while succession.inside < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    over = succession.replace(app_that_says("new"), lambda: closed.append("new"))
    assert answer_of(succession) == "new"
    assert closed == []
    assert not over.is_set()
    gate.set()
    for thread in asking:
        thread.join(120)
    assert answers == ["old"] * 3
    assert closed == ["old"]
    assert over.is_set()
    succession.close()
    assert closed == ["old", "new"]


def test_an_idle_application_is_closed_at_once() -> None:
    closed: list[str] = []
    succession = Succession(app_that_says("old"), lambda: closed.append("old"))
    assert answer_of(succession) == "old"
    assert succession.replace(app_that_says("new"), lambda: None).is_set()
    assert closed == ["old"]


@pytest.mark.parametrize("error", [BundleError("The bundle is broken."), RuntimeError("a red hat"), MemoryError()])
def test_a_failure_leaves_the_old_one(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    failed = threading.Event()

    def start() -> tuple[Flask, Callable[[], None]]:
        failed.set()
        raise error

    metrics = Metrics()
    succession = Succession(app_that_says("old"), lambda: None)
    with contextlib.closing(Reloader(succession, start, metrics)) as reloader:
        reloader.ask()
        assert failed.wait(HANGING_SECONDS)
    assert answer_of(succession) == "old"
    assert metrics.registry.get_sample_value("captioner_reloads_total", {"result": "failed"}) == 1
    assert len(caplog.records) == 1
    assert "red hat" not in caplog.text


class Running:
    """The server in a process of its own."""

    def __init__(self, folder: Path, *, keys: str = "-") -> None:
        self.names = folder / "model"
        self.names.write_text("m0")
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.service.serve_succession", str(self.names), keys],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        self.lines = self.process.stdout
        self.address = urlsplit(self.lines.readline().strip())

    def ask(self, picture: bytes, key: str = "") -> tuple[int, str]:
        """The status, and the model that captioned."""
        with contextlib.closing(
            http.client.HTTPConnection(self.address.hostname or "", self.address.port, timeout=120)
        ) as connection:
            connection.request("POST", "/v1/captions", picture, {"Content-Type": "image/png", "X-API-Key": key})
            response = connection.getresponse()
            answer = json.loads(response.read())
            return response.status, answer["captions"][0]["model"] if response.status == 200 else ""

    def reload(self, name: str) -> None:
        """Name the next model and ask for it."""
        self.names.write_text(name)
        self.process.send_signal(signal.SIGHUP)

    def logged(self, event: str) -> list[str]:
        """The lines of the log whose event begins so."""
        whole = self.log.read_text().rpartition("\n")[0].splitlines()  # the last line may be half written
        return [line for line in whole if json.loads(line)["event"].startswith(event)]


@contextlib.contextmanager
def running(folder: Path, *, keys: str = "-") -> Iterator[Running]:
    """A `Running` that is ended."""
    server = Running(folder, keys=keys)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait(10)
        server.lines.close()


def until(true: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + HANGING_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@posix
def test_no_request_is_lost_over_many_reloads(tmp_path: Path, picture: bytes) -> None:
    answers: list[tuple[int, str]] = []
    over = threading.Event()
    with running(tmp_path) as server:

        def keep_asking() -> None:
            while not over.is_set():
                answers.append(server.ask(picture))

        asking = [threading.Thread(target=keep_asking) for _ in range(4)]
        for thread in asking:
            thread.start()
        for number in range(1, 9):
            server.reload(f"m{number}")
            until(lambda number=number: len(server.logged("reload done")) >= number)  # type: ignore[misc]
        seen = len(answers)
        until(lambda: len(answers) > seen + 8)
        over.set()
        for thread in asking:
            thread.join(120)
        assert {status for status, _ in answers} == {200}
        assert answers[-1] == (200, "m8@0")
        server.process.terminate()
        assert server.process.wait(HANGING_SECONDS) == 0
        said = server.lines.read().splitlines()
        assert sorted(said[:-1]) == [f"closed m{number}" for number in range(9)]
        assert said[-1] == "stopped"
        assert server.logged("urn:") == []


@posix
def test_the_old_model_works_while_the_new_one_loads(tmp_path: Path, picture: bytes) -> None:
    with running(tmp_path) as server:
        server.reload("slow")
        assert server.lines.readline() == "opening slow\n"
        assert [server.ask(picture) for _ in range(4)] == [(200, "m0@0")] * 4
        (tmp_path / "slow").touch()
        answers = [server.ask(picture)]
        deadline = time.monotonic() + HANGING_SECONDS
        while answers[-1][1] != "slow@0":
            assert time.monotonic() < deadline
            answers.append(server.ask(picture))
        assert {status for status, _ in answers} == {200}


@posix
def test_a_broken_bundle_leaves_the_old_one_running(tmp_path: Path, picture: bytes) -> None:
    with running(tmp_path) as server:
        server.reload("broken")
        until(lambda: len(server.logged("reload failed")) == 1)
        assert server.ask(picture) == (200, "m0@0")
        assert "The bundle is broken." in server.logged("reload failed")[0]
        server.reload("m1")
        until(lambda: len(server.logged("reload done")) == 1)
        assert server.ask(picture) == (200, "m1@0")


@posix
def test_keys_are_read_again(tmp_path: Path, picture: bytes) -> None:
    (first, first_line), (second, second_line) = new_key(), new_key()
    keys = tmp_path / "keys"
    keys.write_text(first_line)
    with running(tmp_path, keys=str(keys)) as server:
        assert server.ask(picture, first)[0] == 200
        assert server.ask(picture, second)[0] == 401
        keys.write_text("nonsense")
        server.reload("m1")
        until(lambda: len(server.logged("reload failed")) == 1)
        assert server.ask(picture, first) == (200, "m0@0")
        keys.write_text(second_line)
        server.reload("m1")
        until(lambda: len(server.logged("reload done")) == 1)
        assert server.ask(picture, first)[0] == 401
        assert server.ask(picture, second) == (200, "m1@0")
