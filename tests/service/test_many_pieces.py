"""A file of very many pieces costs its sender one sentence and the service next to nothing, at the door.

The captioner behind it reads in this process, so its processor time is what a reading child would take.
"""

from __future__ import annotations

import base64
import time

import pytest
from flask.testing import FlaskClient

from tests.pieces import chunk, jpeg_with, png_with, progressive_jpeg, segment, striped_tiff

HOSTILE = {
    "500 scans over 4 million pixels": lambda: progressive_jpeg(500, side=2000),
    "20 million bytes before a segment": lambda: jpeg_with(b"\xff" * (20 * 10**6) + segment()),
    "5 million segments": lambda: jpeg_with(segment() * (5 * 10**6)),
    "1.6 million chunks": lambda: png_with(chunk(b"abCd") * 1_600_000),
    "5 million strips": lambda: striped_tiff(5 * 10**6),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_one_bad_row_in_a_moment(client: FlaskClient, name: str) -> None:
    data = HOSTILE[name]()
    honest = progressive_jpeg(10)
    started = time.process_time()
    alone = client.post("/v1/captions", data=data, content_type="image/jpeg")
    encoded = [base64.b64encode(each).decode() for each in (data, honest)]
    among_many = client.post("/v1/captions", json={"images": encoded})
    assert time.process_time() - started < 2
    assert alone.status_code == 422
    assert alone.get_json(force=True)["type"] == "urn:captioner:problem:unreadable-image"
    assert "takes too long to read" in alone.get_json(force=True)["detail"]
    bad, good = among_many.get_json()["captions"]
    assert bad["error"]["type"] == "UnreadableImage"
    assert good["caption"]
