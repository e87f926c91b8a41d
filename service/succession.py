"""One application after another, without a request lost in between: how the model is replaced while it serves.

A request stays with the application that it began with, whose model is closed when its last request has been answered.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any

from flask import Flask
from werkzeug.wsgi import ClosingIterator

from captioner.errors import CaptionerError
from service.memory import give_back
from service.metrics import Metrics
from service.problems import report

CLOSE_SECONDS = 5.0

logger = logging.getLogger(__name__)


class _Generation:
    """An application, how many requests are inside, and what to do after the last one."""

    def __init__(self, app: Flask, close: Callable[[], None]) -> None:
        self.app = app
        self.inside = 0
        self.retired = False
        self.closed = threading.Event()
        self._close = close

    def close(self) -> None:
        """After the last request."""
        try:
            self._close()
        finally:
            self.closed.set()


class Succession:
    """A WSGI application that hands every request to the newest of its applications."""

    def __init__(self, app: Flask, close: Callable[[], None]) -> None:
        """Begin with `app`; `close` is called once, when it has been replaced and has answered its last request."""
        self._lock = threading.Lock()
        self._newest = _Generation(app, close)

    # The types of WSGI's own calls are the server's business.
    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self._lock:
            generation = self._newest
            generation.inside += 1
        leave = _Once(lambda: self._leave(generation))
        try:
            body = generation.app(environ, start_response)
        except BaseException:
            leave()
            raise
        return ClosingIterator(body, leave)  # the server closes it when the answer is complete, or never will be

    @property
    def inside(self) -> int:
        """How many requests the newest application has not answered yet."""
        return self._newest.inside

    def replace(self, app: Flask, close: Callable[[], None]) -> threading.Event:
        """Hand the requests from now on to `app`; the event is set when the model before it has been closed."""
        with self._lock:
            before, self._newest = self._newest, _Generation(app, close)
            before.retired = True
            over = before.inside == 0
        if over:
            before.close()
        return before.closed

    def close(self) -> None:
        """Close the newest application's model; nobody asks any more."""
        self._newest.close()

    def _leave(self, generation: _Generation) -> None:
        with self._lock:
            generation.inside -= 1
            over = generation.retired and generation.inside == 0
        if over:
            generation.close()


class _Once:
    """Calls a function at the first call only."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function: Callable[[], None] | None = function

    def __call__(self) -> None:
        function, self._function = self._function, None
        if function is not None:
            function()


class Reloader:
    """A thread that replaces the application of a `Succession` whenever it is asked to."""

    def __init__(
        self, succession: Succession, start: Callable[[], tuple[Flask, Callable[[], None]]], metrics: Metrics
    ) -> None:
        """`start` makes an application and what closes its model; it may take long and it may fail."""
        self._succession = succession
        self._start = start
        self._metrics = metrics
        # Its put may interrupt itself: a signal handler may call `ask`, which rules out locks and events.
        self._asked: SimpleQueue[bool] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Replace the application soon; several times in a row are one."""
        self._asked.put(True)

    def close(self) -> None:
        """End the thread; a model that is being loaded is waited for, but not for long."""
        self._asked.put(False)
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while self._asked.get():
            while not self._asked.empty():
                if not self._asked.get():
                    return
            self._reload()

    def _reload(self) -> None:
        try:
            successor = self._start()
        except CaptionerError as error:  # of the bundle or the keys, not of a picture: its sentence is for the operator
            logger.error("reload failed, the model before it serves on: %s", error)
            self._metrics.reloaded("failed")
        except Exception as error:  # noqa: BLE001  # whatever is wrong with the new model, the old one serves on
            report(error)
            self._metrics.reloaded("failed")
        else:
            closed = self._succession.replace(*successor)
            del successor
            logger.info("reload done")
            self._metrics.reloaded("done")
            closed.wait(CLOSE_SECONDS)
        give_back()
