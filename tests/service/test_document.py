"""docs/service.md is complete: every setting, route, error type, metric and log field has its heading, and no other."""

from __future__ import annotations

import io
import json
import logging
import re
from pathlib import Path

import pytest

from service.app import create_app
from service.logs import JsonFormatter
from service.metrics import Metrics
from service.problems import TYPES
from service.settings import OTHER_VARIABLES, Settings, variables
from tests.service.fake_captioner import FakeCaptioner, make_picture

TEXT = (Path(__file__).parents[2] / "docs" / "service.md").read_text(encoding="utf-8")


def sections(chapter: str) -> dict[str, str]:
    """The text under each heading of a chapter."""
    found = re.search(rf"^## {chapter}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None
    parts = re.split(r"^### `(.*)`\n", found[1], flags=re.MULTILINE)[1:]
    assert len(set(parts[::2])) == len(parts[::2])
    return {name: " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)}


def test_every_setting() -> None:
    found = sections("Settings")
    assert list(found) == [*OTHER_VARIABLES, *variables()]
    for name, (field, _) in variables().items():
        value: object = Settings()
        for part in field.split("."):
            value = getattr(value, part)
        default = "none" if value in (None, ()) else f"`{int(value) if isinstance(value, bool) else value}`"
        assert found[name].endswith(f"Default: {default}."), name


def test_every_route() -> None:
    rules = create_app(FakeCaptioner(), Settings()).url_map.iter_rules()
    routes = {f"{method} {rule.rule}" for rule in rules for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    assert set(sections("Routes")) == routes


def test_every_error_type() -> None:
    found = sections("Errors")
    assert set(found) == set(TYPES)
    for name, kind in TYPES.items():
        assert found[name].startswith(f"{kind.status}. "), name


def test_every_metric() -> None:
    families = list(Metrics().registry.collect())
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    found = set(sections("Metrics"))
    ours = {name for name in found if name.startswith("captioner_")}
    assert ours == {name for name in names if name.startswith("captioner_")}
    assert names <= found  # those of the process are Linux's
    counts = [family for family in families if family.name.startswith("captioner_") and family.type != "gauge"]
    created = {family.name for family in counts for sample in family.samples if sample.name.endswith("_created")}
    assert created == {family.name for family in counts if family.samples}
    assert created


def test_every_log_field(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = tmp_path / "keys"
    keys.write_text("5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8 album\n")  # "password"
    client = create_app(FakeCaptioner(), Settings(keys_file=keys)).test_client()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with caplog.at_level(logging.INFO):
            client.post(
                "/v1/captions",
                data=make_picture(),
                content_type="image/png",
                headers={"X-API-Key": "password", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"},
            )
            try:
                raise ValueError
            except ValueError:
                logging.getLogger("some.library").exception("x")
    finally:
        root.removeHandler(handler)
    fields = {field for line in stream.getvalue().splitlines() for field in json.loads(line)}
    assert fields == set(sections("Log fields"))
