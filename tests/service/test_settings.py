"""Settings: from the environment, contradictions, and who may listen where."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from captioner.errors import ConfigurationError
from service.server import listen
from service.settings import PREFIX, Settings, variables


def read(**environment: str) -> Settings:
    """The settings of an environment, named without the prefix."""
    return Settings.from_environment({PREFIX + name: value for name, value in environment.items()})


def test_every_field_has_a_variable() -> None:
    fields = {field.name for field in dataclasses.fields(Settings)} - {"limits"}
    assert {field for field, _ in variables().values()} == fields | {"limits.max_bytes", "limits.max_pixels"}


def test_nothing_given_is_the_default() -> None:
    assert Settings.from_environment({"PATH": "/bin"}) == Settings()


def test_each_kind_of_value_is_read() -> None:
    settings = read(
        HOST="::1",
        PORT="9000",
        DRAIN_TIMEOUT_SECONDS="2.5",
        KEYS_FILE="/run/secrets/keys",
        REQUESTS_PER_MINUTE="60",
        CORS_ORIGINS="https://a.example, http://b.example:8080",
        LIMITS_MAX_PIXELS="1000",
    )
    assert (settings.host, settings.port, settings.drain_timeout_seconds) == ("::1", 9000, 2.5)
    assert (settings.keys_file, settings.requests_per_minute) == (Path("/run/secrets/keys"), 60)
    assert settings.cors_origins == ("https://a.example", "http://b.example:8080")
    assert settings.limits == dataclasses.replace(Settings().limits, max_pixels=1000)
    assert [read(NO_AUTH=text).no_auth for text in ("1", "true", "Yes", "0", "no", "")] == [True] * 3 + [False] * 3


def test_what_is_chosen_wins() -> None:
    environment = {"CAPTIONER_PORT": "9000", "CAPTIONER_HOST": "::1"}
    settings = Settings.from_environment(environment, port=0)
    assert (settings.port, settings.host) == (0, "::1")


def test_a_number_that_is_too_long_is_told_so() -> None:
    assert read(CHANNEL_TIMEOUT_SECONDS="9" * 12).channel_timeout_seconds == 10**12 - 1
    with pytest.raises(ConfigurationError, match="must be a whole number of at most 12 digits"):
        read(CHANNEL_TIMEOUT_SECONDS="9" * 13)
    assert read(DEADLINE_SECONDS="9" * 9).deadline_seconds == 10**9 - 1
    with pytest.raises(ConfigurationError, match="a number of at most 9 digits, and 9 behind the point"):
        read(DEADLINE_SECONDS="9" * 10)


def test_two_thirds_of_the_threads_may_wait() -> None:
    assert read(THREADS="6").max_waiting == 4
    assert read(THREADS="2").max_waiting == 1
    assert read(THREADS=str(Settings.threads)) == Settings()
    assert read(THREADS="6", MAX_WAITING="5").max_waiting == 5


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("PORT", "tcp://10.0.0.1:8000", "a whole number"),  # what an orchestrator gives a service of this name
        ("PORT", "1_000", "a whole number"),
        ("DRAIN_TIMEOUT_SECONDS", "nan", "a number"),
        ("NO_AUTH", "perhaps", "1 or 0"),
        ("HOTS", "x", "did you mean CAPTIONER_HOST"),
        ("QQQQQQQQ", "x", "docs/service.md"),
        ("CORS_ORIGINS", "*", "no origin"),
        ("CORS_ORIGINS", "https://a.example/", "no origin"),
        ("LIMITS_MAX_PIXELS", "0", "max_pixels"),
    ],
)
def test_a_mistake_is_one_sentence(name: str, value: str, word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        read(**{name: value})


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"keys_file": Path("x"), "no_auth": True}, "contradict"),
        ({"requests_per_minute": 5}, "keys_file"),
        ({"requests_per_minute": -1}, "0 or more"),
    ],
)
def test_contradictions_are_refused(given: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        Settings(**given)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", ""])
def test_a_public_address_needs_keys_or_a_word(host: str) -> None:
    with pytest.raises(ConfigurationError, match="--no-auth"):
        listen(Settings(host=host, port=0))


def test_a_word_or_keys_open_a_public_address(tmp_path: Path) -> None:
    for settings in (
        Settings(host="0.0.0.0", port=0, no_auth=True),
        Settings(host="0.0.0.0", port=0, keys_file=tmp_path),
    ):
        listen(settings).close()


def test_settings_refuse_contradictions() -> None:
    with pytest.raises(ConfigurationError, match="max_waiting"):
        Settings(threads=4, max_waiting=4)
    with pytest.raises(ConfigurationError, match="max_body_bytes"):
        Settings(max_body_bytes=1000)
    with pytest.raises(ConfigurationError, match="max_held_bytes"):
        Settings(max_held_bytes=1000)
    with pytest.raises(ConfigurationError, match="port"):
        Settings(port=70000)
    with pytest.raises(ConfigurationError, match="max_files"):
        Settings(max_files=0)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("example.org", False),
    ],
)
def test_which_hosts_are_local(host: str, local: bool) -> None:
    assert Settings(host=host).is_local is local
