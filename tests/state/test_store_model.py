"""Each store against plain dictionaries, whatever is done to it, in whatever order, by whichever of two handles."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from redis import Redis

from upwell.state import USER_KINDS, Batch, Conflict, Fenced, open_store, pages
from upwell.state.memory import MemoryStore, Space

KEEP = 4
IDS = ["a", "b", "é:"]
KINDS = ["user", "decision", "content"]

ids, kinds, handles = st.sampled_from(IDS), st.sampled_from(KINDS), st.integers(0, 1)
bodies = st.binary(max_size=4)
each = dict(max_size=3)
deltas = st.dictionaries(st.sampled_from("xy"), st.integers(-3, 3), **each)
entries = st.lists(bodies, max_size=6)
batches = st.fixed_dictionaries(
    {
        "puts": st.dictionaries(kinds, st.dictionaries(ids, bodies, **each), **each),
        "deletes": st.dictionaries(kinds, st.sets(ids, **each), max_size=1),
        "adds": st.dictionaries(kinds, st.dictionaries(ids, deltas, **each), **each),
        "appends": st.dictionaries(kinds, st.dictionaries(ids, entries, **each), **each),
    }
)


class Books(RuleBasedStateMachine):
    """Knows what must be there. ``fresh`` makes two handles on empty data."""

    fresh = None

    def __init__(self):
        super().__init__()
        self.stores, self.done = self.fresh()
        self.records, self.owner, self.counts, self.lists, self.offset = {}, {}, {}, {}, {}
        self.lease = None
        self.token = 0

    def teardown(self):
        for store in self.stores:
            store.close()
        self.done()

    @rule(who=handles, parts=batches, owner=st.sampled_from([None, *IDS]), step=st.integers(0, 2), fenced=st.booleans())
    def write(self, who, parts, owner, step, fenced):
        at = self.offset.get("p", 0)
        batch = Batch(**parts, keep=KEEP, offsets={"p": (at if step else at + 1, at + step)})
        if fenced:
            batch.fence = self.lease
        if owner:
            batch.owners = {kind: dict.fromkeys(records, owner) for kind, records in batch.puts.items()}
        if not step:
            with pytest.raises(Conflict):
                self.stores[who].write(batch)
            return
        self.stores[who].write(batch)
        self.offset["p"] = at + step
        for kind, gone in batch.deletes.items():
            for id in gone:
                self.forget((kind, id))
        for kind, records in batch.puts.items():
            for id, body in records.items():
                self.records[kind, id] = body
                self.owner[kind, id] = owner
        for kind, counters in batch.adds.items():
            for id, deltas in counters.items():
                mine = self.counts.setdefault((kind, id), {})
                for name, delta in deltas.items():
                    mine[name] = mine.get(name, 0) + delta
        for kind, lists in batch.appends.items():
            for id, entries in lists.items():
                self.lists[kind, id] = (self.lists.get((kind, id), []) + entries)[-KEEP:]

    @rule(who=handles, user=ids)
    def erase(self, who, user):
        self.stores[who].erase(user)
        owned = [key for key, owner in self.owner.items() if owner == user]
        for key in [*owned, *((kind, user) for kind in USER_KINDS)]:
            self.forget(key)

    @rule(who=handles)
    def take_the_lease(self, who):
        last = self.lease
        self.lease = self.stores[who].acquire("it", "me", 600)
        assert self.lease.token > self.token
        self.token = self.lease.token
        if last:
            with pytest.raises(Fenced):
                self.stores[who].write(Batch(fence=last, deletes={kind: set(IDS) for kind in KINDS}))

    def forget(self, key):
        for part in (self.records, self.owner, self.counts, self.lists):
            part.pop(key, None)

    @invariant()
    def both_handles_tell_what_the_books_say(self):
        for store in self.stores:
            assert store.offsets() == self.offset
            for kind in KINDS:
                assert store.get(kind, IDS) == [self.records.get((kind, id)) for id in IDS]
                assert store.counters(kind, IDS) == [self.counts.get((kind, id), {}) for id in IDS]
                for id in IDS:
                    assert store.tail(kind, id, KEEP + 1) == self.lists.get((kind, id), [])
                assert dict(pages(store.scan, kind, 2)) == {id: b for (k, id), b in self.records.items() if k == kind}
                counted = {id: counters for (k, id), counters in self.counts.items() if k == kind and counters}
                assert {id: counters for id, counters in pages(store.scan_counters, kind, 2) if counters} == counted


def check(fresh, examples):
    machine = type("Books", (Books,), {"fresh": staticmethod(fresh)})
    ample = settings(max_examples=examples, stateful_step_count=20, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=ample)


def test_memory_keeps_the_books():
    def fresh():
        space = Space()
        return (MemoryStore(space), MemoryStore(space)), lambda: None

    check(fresh, 60)


@pytest.mark.slow
def test_sqlite_keeps_the_books():
    def fresh():
        folder = tempfile.TemporaryDirectory()
        url = f"sqlite:{Path(folder.name) / 'state.db'}"
        return (open_store(url), open_store(url)), folder.cleanup

    check(fresh, 15)


@pytest.mark.slow
def test_redis_keeps_the_books(redis_server):
    url = f"redis://{redis_server.address}/1"

    def fresh():
        with Redis.from_url(url) as client:
            client.flushdb()
        return (open_store(url), open_store(url)), lambda: None

    check(fresh, 25)
