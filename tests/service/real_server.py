"""The real server around the fake captioner in a thread of this process, for clients that need an address."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from service.app import create_app
from service.server import Server, listen
from service.settings import Settings
from tests.service.fake_captioner import FakeCaptioner


@contextlib.contextmanager
def serving(captioner: FakeCaptioner, keys_file: Path | None = None) -> Iterator[str]:
    """The URL of a server that runs as long as the context."""
    settings = Settings(port=0, keys_file=keys_file)
    server = Server(create_app(captioner, settings), settings, listen(settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server.url
    finally:
        server.stop()
        thread.join(120)
