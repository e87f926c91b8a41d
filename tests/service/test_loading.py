"""Loading in a thread that ends."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

import pytest

from captioner.errors import BundleError
from service.loading import in_a_thread_that_ends
from service.server import serve
from service.settings import Settings
from tests.service.fake_captioner import FakeCaptioner


def test_what_is_loaded_comes_back_and_its_thread_is_gone() -> None:
    thread = in_a_thread_that_ends(threading.current_thread)
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


def test_what_loading_raises_comes_through() -> None:
    def load() -> None:
        raise BundleError("no model here")

    with pytest.raises(BundleError, match="no model here"):
        in_a_thread_that_ends(load)


def test_the_service_loads_its_model_in_such_a_thread() -> None:
    loaders: list[threading.Thread] = []

    @contextlib.contextmanager
    def open_captioner() -> Iterator[FakeCaptioner]:
        yield FakeCaptioner()

    def load() -> contextlib.AbstractContextManager[FakeCaptioner]:
        loaders.append(threading.current_thread())
        return open_captioner()

    serve(load, Settings(port=0), announce=lambda _url: signal.raise_signal(signal.SIGTERM))
    assert [thread.is_alive() for thread in loaders] == [False]
