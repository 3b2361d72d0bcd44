"""A real Kafka broker for tests, started by the script that people use."""

from __future__ import annotations

import pytest
from servers import Server, need


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory):
    """A broker for this worker alone: ``kafka://{kafka_server.address}``."""
    need("kafka")
    server = Server("kafka", tmp_path_factory.mktemp("kafka") / "data")
    yield server
    server.stop()
