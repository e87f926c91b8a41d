"""A listening socket that is about to close completes what has begun, and lets nothing else begin."""

from __future__ import annotations

import socket
import sys

import pytest

from service.handshakes import begin_no_more

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the filter is Linux's")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_what_has_begun_is_completed_and_nothing_new_begins(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        try:
            listener.bind((host, 0))
        except OSError:
            pytest.skip(f"no {host} on this machine")
        listener.listen()
        address = listener.getsockname()[:2]
        with socket.create_connection(address, timeout=60) as before:
            assert begin_no_more(listener)
            with pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.5)
            before.sendall(b"a request")
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.recv(9) == b"a request"
                accepted.sendall(b"an answer")
                assert before.recv(9) == b"an answer"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=60)
