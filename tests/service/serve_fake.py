"""Serves the fake captioner until a signal comes: `python -m tests.service.serve_fake SECONDS`; prints its URL.

A line "arrived" tells of every picture that the service takes on. The pictures that warm it up say nothing, but for the
first.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path

from captioner.images import ImageSource
from service.batching import Pixels
from service.server import serve
from service.settings import Settings
from tests.service.fake_captioner import FakeCaptioner


class SlowCaptioner(FakeCaptioner):
    """Takes its time over every batch once it has been announced, and says when a picture has come.

    Args:
        seconds: that a batch takes.
        seconds_a_picture: that it takes longer for each of its pictures.
        until: a file before which no batch is done, if it is given.
        quiet: says nothing but its URL.
    """

    def __init__(
        self, seconds: float, *, seconds_a_picture: float = 0.0, until: Path | None = None, quiet: bool = False
    ) -> None:
        super().__init__()
        self._seconds = seconds
        self._seconds_a_picture = seconds_a_picture
        self._until = until
        self._quiet = quiet
        self._lock = threading.Lock()
        self._read = 0
        self._announced = False

    def announce(self, url: str) -> None:
        """The URL on a line of its own."""
        self._announced = True
        self._say(url)

    def read(self, source: ImageSource) -> Future[Pixels]:
        """As the parent, and says so."""
        with self._lock:
            self._read += 1
            if not self._quiet and (self._read == 1 or self._announced):
                self._say("arrived")
        return super().read(source)

    def encode(self, pixels: Pixels) -> Pixels:
        """As the parent, later."""
        if self._announced:
            time.sleep(self._seconds + self._seconds_a_picture * len(pixels))
            while self._until is not None and not self._until.exists():
                time.sleep(0.01)
        return super().encode(pixels)

    @staticmethod
    def _say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--seconds-a-picture", type=float, default=0.0)
    parser.add_argument("--until", type=Path)
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--max-waiting", type=int, default=Settings.max_waiting)
    parser.add_argument("--drain-timeout-seconds", type=float, default=Settings.drain_timeout_seconds)
    arguments = parser.parse_args()
    slow = SlowCaptioner(
        arguments.seconds,
        seconds_a_picture=arguments.seconds_a_picture,
        until=arguments.until,
        quiet=arguments.quiet,
    )
    settings = Settings(
        port=0, max_waiting=arguments.max_waiting, drain_timeout_seconds=arguments.drain_timeout_seconds
    )
    serve(lambda: contextlib.nullcontext(slow), settings, announce=slow.announce)
    sys.stdout.write("stopped\n")
