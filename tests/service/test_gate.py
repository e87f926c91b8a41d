"""The gate: no model works while another is loaded, and loading gets its turn."""

from __future__ import annotations

import threading
import time

from captioner.decoding.options import DecodingOptions
from service.gate import Gate, Gated
from tests.service.fake_captioner import FakeCaptioner


def test_a_closed_gate_keeps_work_waiting_but_not_reading(picture: bytes) -> None:
    gate = Gate()
    engine = Gated(FakeCaptioner(), gate)
    done = threading.Event()

    def work() -> None:
        features = engine.encode(engine.read(picture).result()[None])
        assert engine.caption_features(features, DecodingOptions())
        assert engine.score_features(features, [["a dog"]])
        assert [outcome.error for outcome in engine.stream([picture] * 2)] == [None, None]
        done.set()

    thread = threading.Thread(target=work)
    with gate.closed():
        thread.start()
        assert engine.read(picture).result().shape == (4, 4, 3)
        assert not done.wait(0.2)
    assert done.wait(10)
    thread.join()


def test_a_busy_model_does_not_keep_the_gate_open() -> None:
    gate = Gate()
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            with gate.passed():
                time.sleep(0.01)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(20):
            began = time.monotonic()
            with gate.closed():
                assert time.monotonic() - began < 5
    finally:
        over.set()
        thread.join()
