"""The service over boards that are held in memory."""

from __future__ import annotations

import pytest

from api.app import create_app
from tests.api.client import Client
from tests.api.fake import FakeSource


@pytest.fixture
def source() -> FakeSource:
    """Two boards: digits with six models, cifar10 with none."""
    return FakeSource()


@pytest.fixture
def client(source: FakeSource) -> Client:
    """A client of the service."""
    return Client(create_app(source=source))
