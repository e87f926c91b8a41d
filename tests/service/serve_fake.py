"""Serves the fake captioner until a signal comes: `python serve_fake.py SECONDS_A_REQUEST`; prints its URL.

A line "arrived" tells of every call of the captioner: the first one, before the URL, is the server's own.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator

from captioner.captions import Outcome
from captioner.decoding.options import DecodingOptions
from captioner.images import ImageSource
from service.server import serve
from service.settings import Settings
from tests.service.fake_captioner import FakeCaptioner


class SlowCaptioner(FakeCaptioner):
    """Takes its time over every call but the first, and says when one has reached it."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def stream(
        self, sources: Iterable[ImageSource], options: DecodingOptions | None = None, *, batch_size: int = 32
    ) -> Iterator[Outcome]:
        """As the parent, later."""
        sys.stdout.write("arrived\n")
        sys.stdout.flush()
        if self.asked:
            time.sleep(self._seconds)
        return super().stream(sources, options, batch_size=batch_size)


def announce(url: str) -> None:
    """The URL on a line of its own."""
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    slow = SlowCaptioner(float(sys.argv[1]))
    serve(lambda: contextlib.nullcontext(slow), Settings(port=0), announce=announce)
    sys.stdout.write("stopped\n")
