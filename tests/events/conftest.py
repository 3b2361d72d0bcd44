"""Every test that takes ``logs`` runs against the embedded log and against a real broker."""

import pytest
from event_logs import Logs, forget_topics


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.slow)])
def logs(request, tmp_path):
    """Logs of both kinds."""
    if request.param == "kafka":
        yield from kafka(request.getfixturevalue("kafka_server"), tmp_path)
    else:
        made = Logs(f"embedded:{tmp_path / 'log'}", tmp_path)
        yield made
        made.close()


@pytest.fixture
def kafka_logs(kafka_server, tmp_path):
    yield from kafka(kafka_server, tmp_path)


def kafka(server, tmp_path):
    forget_topics(server.address)
    made = Logs(f"kafka://{server.address}?partitions=4", tmp_path / "log")
    yield made
    made.close()
