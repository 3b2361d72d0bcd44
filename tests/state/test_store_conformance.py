"""What every store does, one small check each."""

import threading
import time

import pytest

from upwell.state import BULK_KINDS, KINDS, Batch, Conflict, Fenced, pages


def put(store, kind, records, **more):
    store.write(Batch(puts={kind: records}, **more))


def test_records_come_in_the_order_asked(store):
    put(store, "user", {"a": b"1", "b": b"\x00\xff\n", "c": b""})
    assert store.get("user", ["c", "a", "nobody", "b", "a"]) == [b"", b"1", None, b"\x00\xff\n", b"1"]
    assert store.get("user", []) == []
    assert store.get("content", ["a"]) == [None]


IDS = {
    "colon": "a:b",
    "long": "é" * 256,
    "glob": "{a}*?[",
    "nul": "a\0b",
    "space": " ",
    "quotes": "'\"\\",
    "line": "雪\n",
}


@pytest.mark.parametrize("name", IDS)
def test_any_id(store, name):
    id = IDS[name]
    batch = Batch()
    batch.put("content", id, b"body", owner=id[:100])
    batch.add("content", id, {id: 3})
    batch.append("content", id, b"entry")
    batch.advance(id, 0, 7)
    store.write(batch)
    assert store.get("content", [id]) == [b"body"]
    assert store.counters("content", [id]) == [{id: 3}]
    assert store.tail("content", id, 5) == [b"entry"]
    assert store.offsets() == {id: 7}
    assert list(pages(store.scan, "content")) == [(id, b"body")]
    assert store.erase(id[:100]) == 3


def test_a_put_replaces_and_a_delete_removes_all_three(store):
    batch = Batch()
    batch.put("user", "u", b"old")
    batch.add("user", "u", {"seen": 1})
    batch.append("user", "u", b"e")
    store.write(batch)
    put(store, "user", {"u": b"new"})
    assert store.get("user", ["u"]) == [b"new"]
    assert store.counters("user", ["u"]) == [{"seen": 1}]
    store.write(Batch(deletes={"user": {"u", "nobody"}}))
    assert (store.get("user", ["u"]), store.counters("user", ["u"]), store.tail("user", "u", 9)) == ([None], [{}], [])


def test_deletes_come_first_in_a_batch(store):
    put(store, "grant", {"g": b"1"})
    batch = Batch()
    batch.put("grant", "g", b"2")
    batch.add("grant", "g", {"n": 2})
    batch.delete("grant", "g")
    store.write(batch)
    assert store.get("grant", ["g"]) == [b"2"]
    assert store.counters("grant", ["g"]) == [{"n": 2}]


def test_counters_add_up_exactly(store):
    for _ in range(3):
        batch = Batch()
        batch.add("content", "c", {"shown": 2**40, "coins": -5})
        batch.add("content", "c", {"coins": 1})
        store.write(batch)
    assert store.counters("content", ["none", "c"]) == [{}, {"shown": 3 * 2**40, "coins": -12}]
    store.write(Batch(adds={"content": {"c": {"shown": 2**40 - 1}}}))
    assert store.counters("content", ["c"])[0]["shown"] == 4 * 2**40 - 1


def test_a_list_keeps_its_last_entries(store):
    for i in range(30):
        store.write(Batch(appends={"history": {"u": [b"%d" % (3 * i + j) for j in range(3)]}}, keep=10))
    assert store.tail("history", "u", 3) == [b"87", b"88", b"89"]
    assert store.tail("history", "u", 99) == [b"%d" % i for i in range(80, 90)]
    assert store.tail("history", "u", 0) == []
    store.write(Batch(appends={"history": {"u": [b"%d" % i for i in range(3_000)]}}))
    assert store.tail("history", "u", 5_000) == [b"%d" % i for i in range(2_000, 3_000)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_scan_is_complete(store, kind):
    records = {f"id{i:04d}": b"%d" % i for i in range(250)}
    counters = {f"id{i:04d}": {"n": i} for i in range(100, 350)}
    store.write(Batch(puts={kind: records}, adds={kind: counters}))
    put(store, "member" if kind != "member" else "meta", {"other": b""})
    store.write(Batch(deletes={kind: {"id0003"}}))
    records.pop("id0003")
    found = list(pages(store.scan, kind, 17))
    assert dict(found) == records
    assert dict(pages(store.scan_counters, kind, 17)) == counters
    if kind not in BULK_KINDS:
        assert found == sorted(records.items())
        assert store.scan(kind, "id0100", 2).items == [("id0101", b"101"), ("id0102", b"102")]


def test_an_empty_scan_ends(store):
    assert list(pages(store.scan, "user")) == list(pages(store.scan_counters, "grant")) == []


def test_a_wrong_offset_writes_nothing(store):
    store.write(Batch(offsets={"p/0": (0, 5), "p/1": (0, 2)}))
    batch = Batch(offsets={"p/1": (2, 3), "p/0": (4, 9)})
    batch.put("user", "u", b"")
    batch.add("user", "u", {"n": 1})
    batch.append("user", "u", b"")
    batch.delete("user", "v")
    with pytest.raises(Conflict) as conflict:
        store.write(batch)
    assert (conflict.value.partition, conflict.value.expected, conflict.value.stored) == ("p/0", 4, 5)
    assert store.offsets() == {"p/0": 5, "p/1": 2}
    assert (store.get("user", ["u"]), store.counters("user", ["u"]), store.tail("user", "u", 9)) == ([None], [{}], [])


def test_a_large_offset_is_exact(store):
    store.write(Batch(offsets={"p": (0, 2**62 + 1)}))
    store.write(Batch(offsets={"p": (2**62 + 1, 2**62 + 2)}))
    assert store.offsets() == {"p": 2**62 + 2}


def test_a_repeated_write_is_told_that_it_took_place(store):
    batch = Batch(adds={"user": {"u": {"n": 1}}}, offsets={"p": (0, 1)})
    store.write(batch)
    with pytest.raises(Conflict) as conflict:
        store.write(batch)
    assert conflict.value.stored == batch.offsets["p"][1]
    assert store.counters("user", ["u"]) == [{"n": 1}]


def test_a_lost_lease_writes_nothing(opens):
    one, two = opens(), opens()
    lease = one.acquire("ticker", "one", 60)
    assert lease
    one.write(Batch(puts={"meta": {"m": b"1"}}, fence=lease))
    assert two.acquire("ticker", "two", 60) is None
    assert two.acquire("other", "two", 60)
    one.release(lease)
    with pytest.raises(Fenced) as fenced:
        one.write(Batch(puts={"meta": {"m": b"2"}}, fence=lease))
    assert fenced.value.token == lease.token
    assert two.get("meta", ["m"]) == [b"1"]


def test_a_lease_expires_and_its_successor_fences_it(opens):
    one, two = opens(), opens()
    old = one.acquire("ticker", "one", 0.6)
    assert old
    assert one.renew(old, 0.6)
    assert two.acquire("ticker", "two", 60) is None
    time.sleep(0.65)
    with pytest.raises(Fenced):
        one.write(Batch(fence=old))
    assert not one.renew(old, 60)
    new = two.acquire("ticker", "two", 60)
    assert new
    assert new.token > old.token
    assert not one.renew(old, 60)
    one.release(old)  # not its own any more: no effect
    with pytest.raises(Fenced):
        one.write(Batch(fence=old))
    two.write(Batch(puts={"meta": {"m": b""}}, fence=new))


def test_a_restarted_owner_takes_over_from_itself(opens):
    before, after = opens(), opens()
    old, new = before.acquire("ticker", "worker: 1", 60), after.acquire("ticker", "worker: 1", 60)
    assert old
    assert new
    assert new.token > old.token
    with pytest.raises(Fenced):
        before.write(Batch(fence=old))


def test_what_has_a_ttl_expires(store):
    batch = Batch(ttl_s={"decision": 0.6})
    batch.put("decision", "d", b"", owner="u")
    batch.add("decision", "d", {"n": 1})
    batch.append("decision", "d", b"")
    batch.put("user", "u", b"stays")
    store.write(batch)
    put(store, "meta", {"short": b""}, ttl_s={"meta": 0.6})
    put(store, "meta", {"long": b""}, ttl_s={"meta": 60})
    assert store.get("decision", ["d"]) == [b""]
    time.sleep(0.65)
    assert store.get("decision", ["d"]) == [None]
    assert store.counters("decision", ["d"]) == [{}]
    assert store.tail("decision", "d", 1) == []
    assert dict(pages(store.scan, "meta")) == {"long": b""}
    assert dict(pages(store.scan, "decision")) == {}
    store.write(Batch(adds={"decision": {"d": {"m": 1}}}, appends={"decision": {"d": [b"new"]}}))
    assert store.counters("decision", ["d"]) == [{"m": 1}]
    assert store.tail("decision", "d", 9) == [b"new"]
    assert store.get("user", ["u"]) == [b"stays"]
    assert store.sweep() in (0, 2)  # nothing, or the two records: their counters and list began anew
    assert store.sweep() == 0
    assert store.counters("decision", ["d"]) == [{"m": 1}]


def test_a_put_without_ttl_stays_and_an_add_without_leaves_it(store):
    store.write(Batch(puts={"meta": {"m": b""}}, adds={"meta": {"m": {"n": 1}}}, ttl_s={"meta": 0.6}))
    store.write(Batch(puts={"meta": {"m": b""}}, adds={"meta": {"m": {"n": 1}}}))
    assert store.counters("meta", ["m"]) == [{"n": 2}]
    time.sleep(0.65)
    assert store.get("meta", ["m"]) == [b""]
    assert store.counters("meta", ["m"]) == [{}]


def test_erasure_takes_all_of_a_user_and_nothing_else(opens):
    store, other = opens(), opens()
    batch = Batch()
    for user in ("ann", "anna"):
        batch.put("user", user, b"")
        batch.append("history", user, b"e")
        batch.add("user", user, {"n": 1})
        batch.put("decision", f"of {user}", b"", owner=user)
        batch.add("decision", f"of {user}", {"n": 1})
        batch.put("content", user, b"a content of the same name")
    batch.put("decision", "given away", b"", owner="ann")
    batch.put("decision", "nobody's", b"", owner="ann")
    store.write(batch)
    store.write(
        Batch(puts={"decision": {"given away": b"", "nobody's": b""}}, owners={"decision": {"given away": "bob"}})
    )
    assert other.erase("ann") == 5
    assert store.get("user", ["ann", "anna"]) == [None, b""]
    assert store.counters("user", ["ann", "anna"]) == [{}, {"n": 1}]
    assert store.tail("history", "ann", 1) == []
    assert store.tail("history", "anna", 1) == [b"e"]
    assert dict(pages(store.scan, "decision")) == {"of anna": b"", "given away": b"", "nobody's": b""}
    assert store.counters("decision", ["of ann", "of anna"]) == [{}, {"n": 1}]
    assert store.get("content", ["ann"]) == [b"a content of the same name"]
    assert other.erase("ann") == 0


def test_writers_at_once_lose_nothing(opens):
    def work(store):
        for _ in range(50):
            store.write(Batch(adds={"content": {"c": {"n": 1}}}, appends={"content": {"c": [b""]}}))

    one, two = opens(), opens()
    threads = [threading.Thread(target=work, args=(store,)) for store in (one, two, one)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.counters("content", ["c"]) == [{"n": 150}]
    assert len(two.tail("content", "c", 999)) == 150


def test_one_of_two_appliers_wins_each_step(opens):
    """Both fold the same log; offsets decide who writes which event, and each counts once."""

    def work(store):
        while (at := store.offsets().get("p", 0)) < 40:
            try:
                store.write(Batch(adds={"content": {"c": {"n": 1}}}, offsets={"p": (at, at + 1)}))
            except Conflict:
                continue

    stores = opens(), opens()
    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stores[0].counters("content", ["c"]) == [{"n": 40}]


@pytest.mark.parametrize(
    "batch",
    [
        Batch(puts={"banana": {"a": b""}}),  # type: ignore[dict-item]
        Batch(puts={"user": {"": b""}}),
        Batch(puts={"user": {"x" * 513: b""}}),
        Batch(puts={"user": {"é" * 300: b""}}),
        Batch(deletes={"user": {""}}),
        Batch(adds={"user": {"a": {"n": 2**41}}}),
        Batch(puts={"user": {"a": b""}}, ttl_s={"user": 0}),
        Batch(puts={"user": {"a": b""}}, keep=0),
        Batch(owners={"user": {"a": "u"}}),
        Batch(puts={"user": {"a": b""}}, owners={"user": {"a": "x" * 256}}),
    ],
)
def test_a_bad_batch_is_refused(store, batch):
    batch.offsets["p"] = (0, 1)
    with pytest.raises(ValueError):
        store.write(batch)
    assert store.offsets() == {}


def test_figures_and_health(store):
    put(store, "user", {"a": b"x" * 100})
    assert store.healthy()
    assert store.stats()["bytes"] >= 100
    assert sum(store.commands.values()) >= 1
    store.scrub()
    assert store.get("user", ["a"]) == [b"x" * 100]
    store.close()
    store.close()


def test_counters_have_any_name(store):
    """Those of an experiment's arm are named by people."""
    batch = Batch()
    batch.add("grant", "g", {"granted": 1, "granted halves/实验 a": 2, "granted x:y/{b}\n": -3})
    store.write(batch)
    store.write(batch)
    found = {"granted": 2, "granted halves/实验 a": 4, "granted x:y/{b}\n": -6}
    assert store.counters("grant", ["g"]) == [found]
    assert list(pages(store.scan_counters, "grant")) == [("g", found)]
