"""Fixtures of the service's tests."""

import pytest
from http_server import guarded, serve, served  # noqa: F401
from slate_samples import lines_of

from upwell.service import wire
from upwell.state import open_store


@pytest.fixture(scope="module")
def logged() -> list[wire.Logged]:
    return lines_of(1, 70)


@pytest.fixture
def store():
    opened = open_store("memory:")
    yield opened
    opened.close()
