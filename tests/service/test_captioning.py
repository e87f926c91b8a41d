"""Captioning: rows of a request's own pictures, honest refusals, and a thread that goes when it does."""

from __future__ import annotations

import gc
import http.client
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient

from captioner.decoding.options import DecodingOptions
from captioner.errors import ConfigurationError, UnreadableImage
from captioner.images import ImageSource
from captioner.prediction import Captioner
from service.app import create_app
from service.batching import BatchReport, Bounds, Pixels
from service.captioning import Captioning, Picture
from service.problems import Problem
from service.server import Server, listen
from service.settings import Settings
from tests.conftest import Draw, Encode
from tests.service.fake_captioner import FakeCaptioner, make_picture


def a_picture(data: bytes | None = None) -> Picture:
    """A picture of a request."""
    return Picture(name="a.png", data=make_picture() if data is None else data, media_type="image/png")


@pytest.fixture
def captioning(captioner: FakeCaptioner) -> Iterator[Captioning]:
    """Around the fake captioner, closed in the end."""
    made = Captioning(captioner, Settings(threads=4, max_waiting=3))
    yield made
    captioner.gate.set()
    made.close()


def test_requests_at_once_get_the_captions_of_the_captioner(tiny_bundle: Path, draw: Draw, encode: Encode) -> None:
    """The real one, on a small model: pictures of many requests together, captioned as each would be alone."""
    data = [encode(draw(seed=seed), "PNG") for seed in range(12)]
    narrow, wide = DecodingOptions(beam_size=1, max_length=6), DecodingOptions(beam_size=3, max_length=6)
    asked = [([a_picture(each) for each in data[seed : seed + 3]], narrow if seed % 2 else wide) for seed in range(10)]
    sizes: list[int] = []
    with Captioner.from_bundle(tiny_bundle, precision="float32", processes=2) as captioner:
        captioning = Captioning(captioner, Settings(), on_batch=lambda report: sizes.append(len(report.waited_seconds)))
        with ThreadPoolExecutor(len(asked)) as pool:
            answers = list(pool.map(lambda each: captioning.outcomes(*each), asked))
        scores = captioning.judged([a_picture(data[0])], ["a dog runs"])[0].scores
        captioning.close()
        for (pictures, options), outcomes in zip(asked, answers, strict=True):
            alone = captioner.caption([picture.data for picture in pictures], options)
            for outcome, expected in zip(outcomes, alone, strict=True):
                assert outcome.caption is not None
                assert outcome.caption.score == pytest.approx(expected.score, abs=1e-4)
        (judged,) = captioner.score([(data[0], ["a dog runs"])])
        assert scores[0].score == pytest.approx(judged.scores[0].score, abs=1e-4)
        assert scores[0].margin is None
    assert sum(sizes) == 31


def test_outcomes_and_rows(captioning: Captioning) -> None:
    pictures = [a_picture(), a_picture(b"nothing"), a_picture()]
    outcomes = captioning.outcomes(pictures, DecodingOptions(beam_size=3, num_captions=2))
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert [outcome.source for outcome in outcomes] == [picture.data for picture in pictures]
    good, bad, _ = captioning.rows(pictures, outcomes)
    assert len(good["alternatives"]) == 1
    assert bad["error"]["type"] == "UnreadableImage"


def test_judged(captioning: Captioning) -> None:
    judged = captioning.judged([a_picture(), a_picture(b"nothing")], ["a dog", "a dog runs"])
    assert [score.sentence for score in judged[0].scores] == ["a dog", "a dog runs"]
    assert isinstance(judged[1].error, UnreadableImage)
    assert judged[1].scores == ()


def test_requests_with_equal_options_share_a_search(captioner: FakeCaptioner, captioning: Captioning) -> None:
    captioner.gate.clear()
    plain, wide = DecodingOptions(beam_size=2), DecodingOptions(beam_size=5)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(captioning.outcomes, [a_picture()], plain)
        assert captioner.arrived.acquire(timeout=120)
        assert captioner.inside.acquire(timeout=120)
        rest = [pool.submit(captioning.outcomes, [a_picture()], options) for options in (plain, wide, plain, wide)]
        for _ in rest:
            assert captioner.arrived.acquire(timeout=120)
        while len(captioning._batching._ready) < 4:
            time.sleep(0.001)
        captioner.gate.set()
        assert all(each.result(120)[0].error is None for each in (first, *rest))
    assert captioner.asked[0] == plain
    assert sorted(captioner.asked[1:], key=lambda options: options.beam_size if options else 0) == [plain, wide]


@pytest.mark.parametrize("taken", [3, 1])
def test_refusals_are_counted_and_tell_when_to_return(captioner: FakeCaptioner, taken: int) -> None:
    shed: list[str] = []
    batches: list[BatchReport] = []
    captioning = Captioning(
        captioner,
        Settings(threads=4, max_waiting=taken),
        bounds=Bounds(deadline_seconds=0.1),
        on_batch=batches.append,
        on_shed=shed.append,
    )
    try:
        with captioning.place():
            if taken == 1:
                with pytest.raises(Problem) as caught, captioning.place():
                    pass
            else:
                captioner.gate.clear()
                with ThreadPoolExecutor(1) as pool:
                    first = pool.submit(captioning.outcomes, [a_picture()], captioner.options)
                    assert captioner.arrived.acquire(timeout=120)
                    time.sleep(0.05)
                    with pytest.raises(Problem) as caught:
                        captioning.outcomes([a_picture()], captioner.options)
                    captioner.gate.set()
                    assert first.result(120)
        assert caught.value.status == 503
        assert caught.value.headers == {"Retry-After": "1"}
        assert shed == ["full" if taken == 1 else "expired"]
    finally:
        captioner.gate.set()
        captioning.close()
    assert len(batches) == (taken == 3)


def test_a_closed_captioning_refuses(captioning: Captioning) -> None:
    captioning.close()
    with pytest.raises(Problem, match="stopping"):
        captioning.outcomes([a_picture()], DecodingOptions())


def test_a_model_that_hangs_does_not_hold_up_the_end(captioner: FakeCaptioner, captioning: Captioning) -> None:
    captioner.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(captioning.outcomes, [a_picture()], captioner.options)
        assert captioner.arrived.acquire(timeout=120)
        began = time.monotonic()
        captioning.close()
        assert time.monotonic() - began < 10  # and not as long as the model hangs, which is for ever
        assert not asked.done()
        captioner.gate.set()
        assert asked.result(120)[0].error is None


def test_the_client_of_a_request_that_has_gone(captioner: FakeCaptioner, picture: bytes) -> None:
    """As waitress tells it: a function in the environment of the request."""
    app = create_app(captioner, Settings())
    gone = threading.Event()

    def post() -> int:
        return (
            app.test_client()
            .post(
                "/v1/captions",
                data=picture,
                content_type="image/png",
                environ_overrides={"waitress.client_disconnected": gone.is_set},
            )
            .status_code
        )

    assert post() == 200
    gone.set()
    assert post() == 503
    assert len(captioner.asked) == 1


def test_a_client_that_hangs_up_costs_the_model_nothing(captioner: FakeCaptioner, picture: bytes) -> None:
    """Over real connections: waitress must notice the end of one whose request is inside."""
    settings = Settings(port=0)
    app = create_app(captioner, settings)
    server = Server(app, settings, listen(settings))
    address = urlsplit(server.url)
    thread = threading.Thread(target=server.run)
    thread.start()
    connections: list[http.client.HTTPConnection] = []
    try:
        captioner.gate.clear()
        for _ in range(3):
            connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=120)
            connection.request("POST", "/v1/captions", picture, {"Content-Type": "image/png"})
            assert captioner.arrived.acquire(timeout=120)
            connections.append(connection)
            if len(connections) == 1:  # it is in the model when the next one comes
                assert captioner.inside.acquire(timeout=120)
        connections[1].close()
        time.sleep(0.3)
        captioner.gate.set()
        assert [connections[each].getresponse().status for each in (0, 2)] == [200, 200]
        assert captioner.captioned == 2
    finally:
        captioner.gate.set()
        server.stop()
        thread.join(120)
        for connection in connections:
            connection.close()


def test_warming_up(captioning: Captioning, captioner: FakeCaptioner) -> None:
    captioning.warm_up()
    assert set(captioner.asked) == {captioner.options}


def test_warming_up_takes_longer_than_a_request_may(captioner: FakeCaptioner) -> None:
    captioning = Captioning(captioner, Settings(deadline_seconds=1e-9))
    captioning.warm_up()
    captioning.close()
    assert captioner.captioned > 0


def test_a_model_that_captions_nothing_is_one_sentence() -> None:
    class Blind(FakeCaptioner):
        def read(self, source: ImageSource) -> Future[Pixels]:
            return super().read(b"no picture")

    captioning = Captioning(Blind(), Settings())
    with pytest.raises(ConfigurationError, match="own small picture: The file holds no picture"):
        captioning.warm_up()
    captioning.close()


def test_no_thread_outlives_its_captioning() -> None:
    before = set(threading.enumerate())
    app: Flask | None = create_app(FakeCaptioner(), Settings())
    assert app is not None
    client: FlaskClient | None = app.test_client()
    assert client is not None
    assert client.post("/v1/captions", data=make_picture(), content_type="image/png").status_code == 200
    (thread,) = set(threading.enumerate()) - before
    del app, client
    deadline = time.monotonic() + 120
    while thread.is_alive():
        assert time.monotonic() < deadline
        gc.collect()
        time.sleep(0.01)
