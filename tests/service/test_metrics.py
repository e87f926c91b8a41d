"""GET /metrics: what is counted, and that no sender can add a series."""

from __future__ import annotations

import threading
from collections.abc import Callable

from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from service.app import create_app
from service.metrics import Metrics
from service.settings import Settings
from tests.service.fake_captioner import FakeCaptioner


def samples(client: FlaskClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of /metrics, by its name and labels."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.mimetype == "text/plain"
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def reader(client: FlaskClient) -> Callable[..., float]:
    """A function that reads one sample of this moment, 0 if it is not there."""
    now = samples(client)
    return lambda sample, /, **labels: now.get((sample, frozenset(labels.items())), 0.0)


def test_requests_are_counted_by_route_and_status(client: FlaskClient, picture: bytes) -> None:
    client.post("/v1/captions", data=picture, content_type="image/png")
    client.post("/v1/captions", data=b"broken", content_type="image/png")
    client.get("/nowhere")
    client.open("/healthz", method="BREW")
    value = reader(client)
    route = {"route": "/v1/captions", "method": "POST"}
    assert value("captioner_requests_total", **route, status="200") == 1
    assert value("captioner_requests_total", **route, status="422") == 1
    assert value("captioner_request_seconds_count", **route) == 2
    assert value("captioner_requests_total", route="unmatched", method="-", status="404") == 1
    assert value("captioner_requests_total", route="unmatched", method="-", status="405") == 1


def test_senders_add_no_series(client: FlaskClient) -> None:
    client.get("/nowhere")
    client.open("/", method="BREW")
    client.get("/static/1")
    before = set(samples(client))
    before |= set(samples(client))  # the first look itself is counted in the second
    for number in range(50):
        client.get(f"/{number}?{number}", headers={"X-Request-ID": str(number)})
        client.open("/", method=f"M{number}")
        client.get(f"/static/{number}")
    assert set(samples(client)) == before


def test_batches_and_failures_are_counted(client: FlaskClient, picture: bytes) -> None:
    client.post("/v1/captions", data=picture, content_type="image/png")
    client.post("/v1/captions", data=b"broken", content_type="image/png")
    value = reader(client)
    assert value("captioner_batch_size_count") == 1
    assert value("captioner_batch_size_sum") == 1
    assert value("captioner_batch_seconds_count") == 1
    assert value("captioner_queue_seconds_count") == 1
    assert value("captioner_reading_failures_total", error="UnreadableImage") == 1
    assert value("captioner_model_info", name="fake", digest="0123456789ab") == 1


def test_the_queue_and_what_is_shed(picture: bytes) -> None:
    captioner = FakeCaptioner()
    client = create_app(captioner, Settings(threads=3, max_waiting=1)).test_client()
    captioner.gate.clear()

    def ask() -> None:
        client.post("/v1/captions", data=picture, content_type="image/png")

    asking = threading.Thread(target=ask)
    asking.start()
    assert captioner.arrived.acquire(timeout=120)
    assert client.post("/v1/captions", data=picture, content_type="image/png").status_code == 503
    value = reader(client)
    assert value("captioner_queue_depth") == 1
    assert value("captioner_shed_total", reason="full") == 1
    captioner.gate.set()
    asking.join(120)
    assert reader(client)("captioner_queue_depth") == 0


def test_counts_outlive_an_application(picture: bytes) -> None:
    metrics = Metrics()
    for model in ("old@1", "new@2"):
        captioner = FakeCaptioner()
        captioner.model = model
        client = create_app(captioner, Settings(), metrics=metrics).test_client()
        client.post("/v1/captions", data=picture, content_type="image/png")
    value = reader(client)
    assert value("captioner_requests_total", route="/v1/captions", method="POST", status="200") == 2
    assert value("captioner_model_info", name="new", digest="2") == 1
    assert value("captioner_model_info", name="old", digest="1") == 0
