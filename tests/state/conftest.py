"""Every test that takes ``opens`` runs against every store."""

import pytest
from servers import flushed

from upwell.state import open_store
from upwell.state.memory import MemoryStore, Space


@pytest.fixture(params=["memory", "sqlite", "redis"])
def opens(request, tmp_path):
    """Opens one more store on the same, at first empty, data."""
    if request.param == "memory":
        space = Space()
        opener = lambda: MemoryStore(space)  # noqa: E731
    elif request.param == "sqlite":
        opener = lambda: open_store(f"sqlite:{tmp_path / 'state.db'}")  # noqa: E731
    else:
        url = flushed(request.getfixturevalue("redis_server"))
        opener = lambda: open_store(url)  # noqa: E731
    opened = []

    def opens():
        opened.append(opener())
        return opened[-1]

    yield opens
    for store in opened:
        store.close()


@pytest.fixture
def store(opens):
    return opens()
