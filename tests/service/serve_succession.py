"""Serves fake captioners until a signal comes: `python serve_succession.py FILE KEYS`; prints its URL and each end.

FILE names the model that the next start or SIGHUP opens. `broken` cannot be opened. `slow` says that it is being
opened, and is as soon as a file of this name lies beside FILE. KEYS is a file of keys, or `-`.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from captioner.errors import BundleError
from service import logs
from service.batching import Pixels
from service.server import serve
from service.settings import Settings
from tests.service.fake_captioner import FakeCaptioner


class Named(FakeCaptioner):
    """Takes a moment over every batch, and refuses to work once it is closed."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.model = f"{name}@0"
        self.closed = False

    def encode(self, pixels: Pixels) -> Pixels:
        """As the parent, later."""
        time.sleep(0.02)
        if self.closed:
            raise RuntimeError("closed")
        return super().encode(pixels)


def say(line: str) -> None:
    """A line that is not waited for."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def open_captioner() -> Iterator[Named]:
    """The model that the file names at this moment."""
    names = Path(sys.argv[1])
    name = names.read_text().strip()
    if name == "broken":
        raise BundleError("The bundle is broken.")
    if name == "slow":
        say("opening slow")
        while not names.with_name(name).exists():
            time.sleep(0.02)
    captioner = Named(name)
    yield captioner
    captioner.closed = True
    say(f"closed {name}")


if __name__ == "__main__":
    logs.configure()
    keys = None if sys.argv[2] == "-" else Path(sys.argv[2])
    # longer than a test waits for the end, which nothing is to hold up
    settings = Settings(port=0, keys_file=keys, drain_timeout_seconds=1200.0)
    serve(open_captioner, settings, announce=say)
    say("stopped")
