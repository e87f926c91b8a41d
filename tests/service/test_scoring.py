"""How well given sentences fit given pictures: POST /v1/score over a captioner that needs no model."""

from __future__ import annotations

import io

import pytest
from flask.testing import FlaskClient

from service.app import create_app
from service.settings import Settings
from tests.service.asking import detail, encoded, post_json
from tests.service.fake_captioner import FakeCaptioner


def test_scores_of_sentences(client: FlaskClient, picture: bytes) -> None:
    files = [(io.BytesIO(picture), "a.png"), (io.BytesIO(b"bad"), "b.png")]
    response = client.post("/v1/score", data={"image": files, "sentence": ["a dog runs", "A cat."]})
    assert response.status_code == 200
    good, bad = response.get_json()["scores"]
    assert [each["sentence"] for each in good["sentences"]] == ["a dog runs", "A cat."]
    assert set(good["sentences"][0]) == {"sentence", "score", "log_probability", "words", "unknown"}
    assert good["sentences"][0]["log_probability"] == -4
    assert good["sentences"][0]["words"][0] == {"word": "a", "probability": 0.3679}
    assert (good["image"], good["model"]) == ("a.png", "fake@0123456789ab")
    assert bad["error"]["type"] == "UnreadableImage"
    same = post_json(client, "/v1/score", images=[encoded(picture)], sentences=["a dog runs", "A cat."])
    assert same.get_json()["scores"][0]["sentences"] == good["sentences"]
    alone = post_json(client, "/v1/score", images=[encoded(b"bad")], sentences=["a"])
    assert (alone.status_code, detail(alone)[:4]) == (422, "The ")


@pytest.mark.parametrize(
    ("sentences", "status", "said"),
    [
        (None, 422, "no sentence"),
        ([], 422, "no sentence"),
        ([3], 422, "no string"),
        (["..."], 422, "no words; write at least one."),
        ([""], 422, "no words"),
        (["a"] * 17, 413, "17 sentences are too many for 1 picture; send at most 16."),
        (["a " * 251], 413, "500 characters"),
        (["a " * 65], 413, "at most 64"),
    ],
)
def test_wrong_sentences(client: FlaskClient, picture: bytes, sentences: object, status: int, said: str) -> None:
    response = post_json(client, "/v1/score", images=[encoded(picture)], sentences=sentences)
    assert response.status_code == status
    assert said in detail(response)


def test_a_score_knows_no_other_fields(client: FlaskClient, picture: bytes) -> None:
    assert "beam_size" in detail(post_json(client, "/v1/score?beam_size=3", images=[encoded(picture)], sentences=["a"]))
    assert "beam_size" in detail(
        post_json(client, "/v1/score", images=[encoded(picture)], sentences=["a"], beam_size=3)
    )
    response = client.post("/v1/score", data={"image": (io.BytesIO(picture), "a"), "sentence": "a", "beam_size": "3"})
    assert "beam_size" in detail(response)


def test_pictures_times_sentences_are_bounded(captioner: FakeCaptioner, picture: bytes) -> None:
    client = create_app(captioner, Settings()).test_client()
    response = post_json(client, "/v1/score", images=[encoded(picture)] * 8, sentences=["a"] * 9)
    assert response.status_code == 413
    assert "too many for 8 pictures; send at most 8." in detail(response)
