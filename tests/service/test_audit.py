"""The audit log: an entry is there exactly when its change is."""

from __future__ import annotations

import asyncio

import pytest
from inside import SECOND, inside
from test_versions import turned_by

from upwell.service import audit
from upwell.service.audit import Entry, Who
from upwell.service.course import Course
from upwell.service.versions import Versions
from upwell.state import Batch, StoreDown, open_store
from upwell.state.memory import MemoryStore


def test_the_latest_since_a_time_oldest_first():
    store = open_store("memory:")
    for n in range(audit.KEPT + 5):
        batch = Batch()
        audit.tell(batch, Entry(n, "operator", "switch", why=f"{n}"))
        store.write(batch)
    assert [entry.at_ms for entry in audit.read(store, 0, 3)] == [1002, 1003, 1004]
    assert [entry.at_ms for entry in audit.read(store, 1003, 100)] == [1003, 1004]
    assert len(audit.read(store, 0, 10_000)) == audit.KEPT
    assert audit.read(store, 9_999, 10) == []


def test_an_entry_and_its_change_are_one_write(monkeypatch):
    """Whatever dies before, between or after: not one without the other."""
    store, batches = open_store("memory:"), []
    write = MemoryStore.write

    def down(self, batch):
        batches.append(batch)
        raise StoreDown("gone")

    course, versions = Course(store, (0.4, 0.3, 0.3)), Versions(store, turned_by(0.0))
    monkeypatch.setattr(MemoryStore, "write", down)
    from test_goals import ANN, asked

    with pytest.raises(StoreDown):
        course.change(lambda goals: goals.ask(asked("g"), ANN, 1), 1)
    with pytest.raises(StoreDown):
        versions.change(lambda policies: policies.gated_out("v2", "worse", 2), 2)
    monkeypatch.setattr(MemoryStore, "write", write)
    assert audit.read(store, 0, 10) == []
    for batch in batches:
        store.write(batch)
    assert [(e.what, e.of, e.who) for e in audit.read(store, 0, 10)] == [
        ("goal_asked", "g", "operator"), ("policy_gated_out", "v2", "learner"),
    ]  # fmt: skip
    course.change(lambda goals: goals.refuse("g", "", Who("operator"), 3), 3)
    assert len(audit.read(store, 0, 10)) == 3  # each once, though records are read and written whole


def test_the_switch_and_versions_are_told_of(tmp_path):
    async def story():
        async with inside(tmp_path, policy="marl") as one:
            await one.done("PUT", "/switch", {"mode": "ranker"}, key=SECOND, by="%E5%AE%89" + "x" * 200)
            base = (await one.done("GET", "/policies"))["base"]
            one.node.versions.change(lambda policies: policies.gated_out("v2", "worse", 5), 5)
            one.node.versions.change(lambda policies: policies.activate(base, "", 6), 6)  # live already: no change
            assert await one.audit() == [("switch", "operator-2"), ("policy_gated_out", "learner")]
            (entry,) = (await one.done("GET", "/audit?since=1000"))["entries"][:1]
            assert (entry["of"], entry["why"], len(entry["name"])) == ("ranker", "it was policy", audit.NAME_LETTERS)

    asyncio.run(story())
