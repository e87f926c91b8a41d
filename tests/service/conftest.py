"""Fixtures of the service's tests."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from service.app import create_app
from service.settings import Settings
from tests.service.fake_captioner import FakeCaptioner, make_picture


@pytest.fixture
def captioner() -> FakeCaptioner:
    """A fresh fake captioner."""
    return FakeCaptioner()


@pytest.fixture
def client(captioner: FakeCaptioner) -> FlaskClient:
    """A client of an application around `captioner`, with small bounds."""
    return create_app(captioner, Settings(threads=3, max_waiting=2, max_files=3)).test_client()


@pytest.fixture(scope="session")
def picture() -> bytes:
    """A small PNG."""
    return make_picture()
