"""Who may use the service: keys, their rate, and other origins."""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64encode
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from captioner.errors import ConfigurationError
from service.app import create_app
from service.keys import OPEN_PAGE, OPEN_ROUTES, Buckets, find, new_key, read_keys
from service.settings import Settings
from tests.service.fake_captioner import FakeCaptioner

ORIGIN = "https://photos.example"
OURS = {"/", "/static/<path:filename>", "/v1/captions", "/v1/score", "/v1/model", "/metrics"}


@pytest.fixture
def key() -> str:
    return new_key()[0]


@pytest.fixture
def keys_file(tmp_path: Path, key: str) -> Path:
    """A file with a comment, a nameless line of another key, and the line of `key` with a name."""
    path = tmp_path / "captioner.keys"
    path.write_text(f"# ours\n\n{new_key()[1]}\n{hashlib.sha256(key.encode()).hexdigest()}  album\n")
    return path


def client_of(settings: Settings) -> FlaskClient:
    """A client of an application with these settings."""
    return create_app(FakeCaptioner(), settings).test_client()


def test_a_new_key_opens_with_its_line(tmp_path: Path) -> None:
    key, line = new_key()
    assert len(key) > 40
    assert key not in line
    assert new_key()[0] != key
    (tmp_path / "keys").write_text(f"{line}\n")
    keys = read_keys(tmp_path / "keys")
    assert find(keys, key) == keys[0]
    assert find(keys, key[:-1]) is None
    assert find(keys, "") is None
    assert find(keys, "ß\udc80") is None


def test_names_come_from_the_file(keys_file: Path, key: str) -> None:
    assert [each.name for each in read_keys(keys_file)] == ["key-3", "album"]


def test_every_key_is_compared_in_constant_time(keys_file: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    compare = hmac.compare_digest

    def remember(first: bytes, second: bytes) -> bool:
        compared.append(first)
        return compare(first, second)

    monkeypatch.setattr(hmac, "compare_digest", remember)
    keys = read_keys(keys_file)
    for given in (key, "wrong"):
        compared.clear()
        find(keys, given)
        assert compared == [each.digest for each in keys]  # the first that fits ends nothing early


@pytest.mark.parametrize("text", ["", "# nothing\n", "cap_secret\n", f"{'0' * 64} two words\n", f"{'0' * 63}\n"])
def test_a_bad_file_is_one_sentence_that_quotes_no_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="--new-key") as caught:
        read_keys(path)
    assert "cap_secret" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_keys(tmp_path / "nowhere")


def test_every_route_but_the_health_checks_and_the_empty_page_needs_a_key(keys_file: Path, key: str) -> None:
    app = create_app(FakeCaptioner(), Settings(keys_file=keys_file))
    client = app.test_client()
    asked = set()
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<[^>]*>", "x", rule.rule)
        for method in sorted((rule.methods or set()) | {"DELETE"}):
            response = client.open(path, method=method)
            response.close()
            if rule.rule in OPEN_ROUTES and method in (rule.methods or ()):
                assert response.status_code == 200, (method, path)
            elif rule.rule in OPEN_PAGE and method in ("GET", "HEAD", "OPTIONS"):
                assert response.status_code == (404 if path.endswith("/x") and method != "OPTIONS" else 200), path
            elif rule.rule not in OPEN_ROUTES:
                assert response.status_code == 401, (method, path)
                # The adapters tell the programs that they are for in those programs' own form.
                kinds = {"application/problem+json"} | (set() if rule.rule in OURS else {"application/json"})
                assert response.content_type in kinds, path
                assert response.headers["WWW-Authenticate"] == 'Bearer realm="captioner"'
                asked.add(rule.rule)
    assert asked >= OURS
    assert client.get("/nowhere").status_code == 401
    assert client.get("/nowhere", headers={"X-API-Key": key}).status_code == 404


@pytest.mark.parametrize("form", ["bearer {}", "Bearer {}", "Basic {}"])
def test_a_key_comes_in_several_ways(keys_file: Path, key: str, form: str) -> None:
    client = client_of(Settings(keys_file=keys_file))
    for given, status in ((key, 200), (f"{key}x", 401)):
        word = b64encode(f":{given}".encode()).decode() if form.startswith("Basic") else given
        assert client.get("/v1/model", headers={"Authorization": form.format(word)}).status_code == status
        assert client.get("/v1/model", headers={"X-API-Key": given}).status_code == status
    detail = client.get("/v1/model").get_json(force=True)["detail"]
    assert "Authorization: Bearer KEY or X-API-Key: KEY" in detail


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic !", "Digest x", "x" * 5000, "Bearer \xff"])
def test_other_words_are_no_key(keys_file: Path, value: str) -> None:
    client = client_of(Settings(keys_file=keys_file))
    assert client.get("/v1/model", headers={"Authorization": value}).status_code == 401


def test_a_browser_asks_its_person(keys_file: Path, key: str) -> None:
    client = client_of(Settings(keys_file=keys_file))
    accept = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    assert client.get("/v1/model", headers=accept).headers["WWW-Authenticate"] == 'Basic realm="captioner"'
    assert client.get("/v1/model", headers=accept, auth=("anyone", key)).status_code == 200


def test_without_a_file_nobody_is_asked(client: FlaskClient) -> None:
    assert client.get("/v1/model").status_code == 200


def test_a_bucket_fills_evenly() -> None:
    now = [0.0]
    buckets = Buckets(2, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(3)] == [0, 0, pytest.approx(30)]
    assert buckets.take("b") == 0
    now[0] = 29.0
    assert buckets.take("a") == pytest.approx(1)  # a refusal costs nothing
    now[0] = 30.5
    assert buckets.take("a") == 0
    now[0] = 10_000.0
    assert [buckets.take("a") > 0 for _ in range(3)] == [False, False, True]


def test_who_asks_too_often_hears_when_to_come_back(keys_file: Path, key: str, picture: bytes) -> None:
    client = client_of(Settings(keys_file=keys_file, requests_per_minute=2))
    headers = {"X-API-Key": key}
    answers = [client.post("/v1/captions", data=picture, content_type="image/png", headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].content_type == "application/problem+json"
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 30
    assert client.get("/v1/model", headers=headers).status_code == 200
    assert client.get("/healthz").status_code == 200
    assert 'captioner_shed_total{reason="rate"} 1.0' in client.get("/metrics", headers=headers).text


def test_no_other_origin_by_default(client: FlaskClient) -> None:
    response = client.get("/v1/model", headers={"Origin": ORIGIN})
    assert not [name for name, _ in response.headers if name.startswith("Access-Control")]


def test_named_origins_may_call(keys_file: Path, key: str) -> None:
    client = client_of(Settings(keys_file=keys_file, cors_origins=(ORIGIN,)))
    ask = {"Access-Control-Request-Method": "POST"}
    preflight = client.options("/v1/captions", headers={"Origin": ORIGIN, **ask})
    assert preflight.status_code == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "X-API-Key" in preflight.headers["Access-Control-Allow-Headers"]
    response = client.get("/v1/model", headers={"Origin": ORIGIN, "X-API-Key": key})
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "Origin" in response.headers["Vary"]
    # A page may also read why it was refused.
    assert client.get("/v1/model", headers={"Origin": ORIGIN}).headers["Access-Control-Allow-Origin"] == ORIGIN
    for other in (f"{ORIGIN}.evil.example", "https://photos.example:444", "null", "http://photos.example"):
        assert "Access-Control-Allow-Origin" not in client.get("/v1/model", headers={"Origin": other}).headers
        assert client.options("/v1/captions", headers={"Origin": other, **ask}).status_code == 401
