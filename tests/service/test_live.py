"""What a server has in memory, what of it the store gets, and that a kill anywhere loses and doubles nothing."""

import itertools
import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from service_samples import (
    DAY_MS,
    HOUR_MS,
    NOW,
    PARTITION,
    any_request,
    content,
    event,
    known_user,
    request,
    row_of,
    server,
    settings,
    shown,
)

from upwell.events.port import DECISIONS, INTERACTIONS, Entry
from upwell.model import Content, Interaction, User
from upwell.service import apply, records, wire
from upwell.service import live as live_module
from upwell.service.ingest import unknown_outcomes
from upwell.service.live import Live, organic_key, request_key
from upwell.service.records import COUNTS
from upwell.state import Batch, open_store
from upwell.state.batch import DELTA_MAX
from upwell.state.memory import MemoryStore

USERS = [f"u{n}" for n in range(12)]
quick = hypothesis_settings(deadline=None, max_examples=25)


@pytest.fixture
def store():
    opened = open_store("memory:")
    yield opened
    opened.close()


def first_day(seed: int = 0) -> tuple[Live, MemoryStore]:
    """A server before its first request, and the store with what was registered."""
    live = server(seed, contents=80, users=0)
    for name in USERS:
        live.users.segment[known_user(live, name, seed)] = len(name) % 3
    store = open_store("memory:", clock=lambda: NOW / 1_000)
    batch = Batch()
    for row in live.contents.all_rows:
        batch.put("content", live.contents.rows.names[row], msgspec.json.encode(live.contents.info[row]))
        counted = dict(zip(COUNTS, live.contents.counts[row].tolist(), strict=True))
        batch.add("content", live.contents.rows.names[row], counted)
    for name, row in live.users.rows.at.items():
        batch.put("user", name, live.users.record[row].tobytes())
    store.write(batch)
    return live, store


def loaded(store: MemoryStore) -> Live:
    """A server that starts on this store, as far as users and contents go."""
    live = Live(settings(), "s0")
    live.platform_ctr = 0.05
    counted = dict(store.scan_counters("content").items)
    for name, body in store.scan("content").items:
        live.add_content(msgspec.json.decode(body, type=Content), counted.get(name, {}))
    for name, body in store.scan("user").items:
        live.users.put(name, records.read_user(body))
    live.saved = store.offsets()
    live.offsets = dict(live.saved)
    return live


def memory(live: Live) -> dict:
    """Of users and contents, by name."""
    return {
        "users": {name: live.users.record[row].tobytes() for name, row in live.users.rows.at.items()},
        "held_out": {name: bool(live.users.held_out[row]) for name, row in live.users.rows.at.items()},
        "counts": {name: live.contents.counts[row].tolist() for name, row in live.contents.rows.at.items()},
        "offsets": dict(live.offsets),
    }


def stored(store: MemoryStore) -> dict:
    """Everything in it, as it is."""
    kinds = ("user", "content", "decision", "request", "meta", "history")
    out: dict = {kind: dict(store.scan(kind).items) for kind in kinds}
    out["decision"] = {
        # A set has no order of its own.
        id: records.outcome_decoder.decode(body) if id.endswith("/outcome") else body
        for id, body in out["decision"].items()
    }
    out["counters"] = {kind: dict(store.scan_counters(kind).items) for kind in kinds}
    out["tails"] = {name: store.tail("history", name, 10_000) for name in (*USERS, "new1", "new2", "reader")}
    out["offsets"] = store.offsets()
    return out


def lived(seed: int, batches: int = 12) -> tuple[Live, MemoryStore, list[Entry]]:
    """A day in the life of a server that saves nothing, and its log: slates, events, late and doubled ones, accounts,
    reads of what was seen elsewhere."""
    rng = np.random.default_rng(seed)
    live, store = first_day(seed)
    log: list[Entry] = []
    slates: list[wire.Logged] = []
    events: list[Interaction] = []

    def logged(topic: str, user: str, now: int, value: bytes) -> None:
        log.append(Entry(PARTITION, 10 * len(log), 10 * len(log) + 10, topic, user, now, value))
        live.offsets[PARTITION] = log[-1].next

    for number in range(batches):
        now = NOW + number * 25 * 60_000
        size = int(rng.integers(1, 12))
        users = rng.choice([*USERS, "new1", "new2"], int(rng.integers(1, 9)), replace=False)
        batch = [
            any_request(live, rng, u, size, request_id=f"r{number}" if rng.random() < 0.3 else None) for u in users
        ]
        lines = shown(live, batch, now)
        assert [line for _, _, line in live.outbox] == [wire.encoder.encode(line) for line in lines]
        for user, ts, line in live.outbox:
            logged(DECISIONS, user, ts, line)
        live.outbox.clear()
        slates += [line for line in lines if line.places]
        for n in range(int(rng.integers(1, 7))):
            slate = slates[int(rng.integers(len(slates)))]
            told = event(
                slate, int(rng.integers(len(slate.places))), f"e{number}-{n}", ts=now + n,
                clicked=bool(rng.random() < 0.5), completion=float(rng.random()), value=float(rng.integers(3)),
            )  # fmt: skip
            if rng.random() < 0.2:
                told = Interaction(event_id=f"x{n}", content_id=f"c{n}", user_id="reader", ts=now, clicked=True)
            if events and rng.random() < 0.2:
                told = events[int(rng.integers(len(events)))]  # sent again
            events.append(told)
            live.take(told)
            logged(INTERACTIONS, told.user_id, now, wire.encoder.encode(wire.Event(wire.SCHEMA, now, told)))
        if rng.random() < 0.3:
            user = User(id=str(rng.choice([*USERS, "new1"])), created_at=int(NOW - rng.integers(0, 99) * DAY_MS))
            live.account(user)
            logged(INTERACTIONS, user.id, now, wire.encoder.encode(wire.Event(wire.SCHEMA, now, user=user)))
    assert not live.failures
    return live, store, log


def save(live: Live, store: MemoryStore) -> None:
    batch = live.unsaved()
    if batch is not None:
        store.write(batch)
        live.written(batch)


# ---- what the store gets


def test_a_server_that_starts_on_what_was_saved_is_the_one_that_saved_it():
    live, store, _ = lived(1)
    save(live, store)
    other = loaded(store)
    assert memory(other) == memory(live)
    for line in live.slates:
        apply.load_slates(store, other, [line])
        apply.load_outcomes(store, other, [line])
    assert dict(other.slates) == dict(live.slates)
    assert {k: v for k, v in live.outcomes.items() if v.events and not k.startswith("organic:")} == other.outcomes


def test_nothing_is_saved_twice():
    live, store, _ = lived(2)
    save(live, store)
    assert live.unsaved() is None
    before = stored(store)
    shown(live, [request("u1", ["c1", "c2"], size=2)], NOW + DAY_MS)
    batch = live.unsaved()
    assert batch.puts["user"].keys() == {"u1"}
    assert batch.adds["content"] == {name: {"impressions": 1} for name in ("c1", "c2")}
    assert not batch.offsets  # this decision was not logged
    store.write(batch)
    assert stored(store)["counters"]["content"]["c1"]["impressions"] == (
        before["counters"]["content"]["c1"]["impressions"] + 1
    )


def test_a_batch_names_the_owner_of_all_that_is_a_users_and_when_it_may_go():
    live, store, _ = lived(3)
    live.take(Interaction(event_id="x", content_id="c1", user_id="reader", ts=NOW, clicked=True))
    batch = live.unsaved()
    batch.check()
    for kind in ("decision", "request"):
        assert batch.owners[kind].keys() == batch.puts[kind].keys()
        assert batch.ttl_s[kind] == live.settings.decisions_days * 86_400
    assert "user" not in batch.ttl_s
    assert batch.keep == live.settings.history
    store.write(batch)
    for user in {line.user_id for line in live.slates.values()} | {"reader"}:
        assert store.erase(user) > 0
    left = stored(store)
    assert not left["decision"]
    assert not left["request"]
    assert not any(left["tails"].values())


def test_history_holds_the_last_interactions_and_none_when_told_so(store):
    for kept in (0, 1, 3):
        live = Live(settings(history=kept), "s")
        live.add_content(content(1), {})
        for n in range(5):
            live.take(Interaction(event_id=f"{kept}-{n}", content_id="c1", user_id=f"reader{kept}", ts=NOW + n))
        store.write(live.unsaved())
        tail = [msgspec.json.decode(body)["event_id"] for body in store.tail("history", f"reader{kept}", 100)]
        assert tail == [f"{kept}-{n}" for n in range(5)][5 - kept :]


def test_platform_counts_add_up_by_hour_and_side():
    live, _ = first_day()
    live.users.held_out[:] = False
    live.users.held_out[live.users.rows.at["u1"]] = True
    lines = shown(live, [request(u, ["c1", "c2", "c3"], size=3, inject=False) for u in ("u1", "u2")])
    for line in lines:
        live.take(event(line, 0, "e", clicked=True, ts=NOW + HOUR_MS))
        live.take(event(line, 0, "f", clicked=True, ts=NOW + HOUR_MS))
    hour = NOW // HOUR_MS
    assert live.unsaved().adds["meta"] == {
        f"hour {hour}": {"held_impressions": 3, "free_impressions": 3},
        f"hour {hour + 1}": {"held_clicks": 1, "free_clicks": 1},
    }


def test_more_than_a_counter_can_move_at_once_is_counted_all_the_same(store):
    """Regression: 5,000 events of the longest dwell in one call made a write that no store could take, for ever."""
    live = Live(settings(), "s")
    live.add_content(content(1), {})
    for n in range(5_000):
        one = Interaction(event_id="e", content_id="c1", user_id=f"u{n}", ts=NOW, dwell_s=604_800.0, value=1e9)
        assert live.take(one)
    writes = 0
    while (batch := live.unsaved()) is not None:
        assert all(delta <= DELTA_MAX for delta in batch.adds.get("content", {}).get("c1", {}).values())
        store.write(batch)
        writes += 1
    assert 1 < writes < 1_000
    (counted,) = store.counters("content", ["c1"])
    assert counted == {"dwell_ms": 5_000 * 604_800_000, "value_fen": 5_000 * 100_000_000_000}


def test_an_outcome_of_thousands_of_events_is_written_once():
    """Each event would else write all that came before it: seconds of work for one call."""
    live, _ = first_day()
    (line,) = shown(live, [request("u1", ["c1", "c2"], size=2)])
    for n in range(3_000):
        live.take(event(line, 0, f"e{n}", dwell_s=float(n)))
    batch = live.unsaved()
    outcome = records.outcome_decoder.decode(batch.puts["decision"][f"{line.decision_id}/outcome"])
    assert len(outcome.events) == 3_000
    assert outcome.places[0].dwell_s == 2_999.0
    assert live.unsaved() is None


def test_a_provisional_server_saves_nothing():
    live, _ = first_day()
    other = Live(settings(), "s1", saves=False)
    for row in live.contents.all_rows:
        other.add_content(live.contents.info[row], {})
    (line,) = shown(other, [request("u1", ["c1", "c2"], size=2, request_id="r")])
    other.take(event(line, 0, "e", clicked=True))
    assert other.outbox
    other.discard()
    assert other.unsaved() is None
    assert other.contents.counts[other.contents.rows.at["c1"], COUNTS.index("clicks")] == 1


# ---- a kill at any moment


@pytest.mark.parametrize("seed", [4, 5])
def test_from_every_saved_state_the_log_leads_to_the_same_one(seed):
    """The server is killed after every entry of its log, with the store at every earlier one."""
    live, store, log = lived(seed, 6)
    save(live, store)
    expected, expected_memory = stored(store), memory(live)
    assert 20 < len(log) < 80
    for cut in range(len(log) + 1):
        _, disk = first_day(seed)
        until = loaded(disk)
        apply.fold(disk, until, log[:cut])
        save(until, disk)
        assert disk.offsets().get(PARTITION, 0) == (log[cut - 1].next if cut else 0)
        again = loaded(disk)
        apply.fold(disk, again, log[cut:])
        save(again, disk)
        assert memory(again) == expected_memory, cut
        assert stored(disk) == expected, cut


@quick
@given(st.integers(0, 3), st.data())
def test_however_the_log_is_cut_into_batches_and_starts_the_state_is_the_same(seed, data):
    live, store, log = lived(seed, 5)
    save(live, store)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(log)), max_size=6)))
    restarts = data.draw(st.sets(st.sampled_from([0, *cuts])))
    _, disk = first_day(seed)
    other = loaded(disk)
    for begin, end in itertools.pairwise([0, *cuts, len(log)]):
        if begin in restarts:
            other = loaded(disk)
        apply.fold(disk, other, log[begin:end])
        save(other, disk)
    assert stored(disk) == stored(store)
    assert memory(other) == memory(live)


@quick
@given(st.integers(0, 3), st.data())
def test_what_the_log_hands_over_twice_is_folded_once(seed, data):
    """Entries come again at some later place, as a producer's repeat leaves them; the server may start anew between."""
    _, _, log = lived(seed, 5)
    again = data.draw(st.lists(st.integers(0, len(log) - 1), min_size=1, max_size=8))
    doubled = list(log)
    for i in again:
        after = data.draw(st.integers(doubled.index(log[i]) + 1, len(doubled)))
        doubled.insert(after, log[i])
    doubled = [
        Entry(PARTITION, 10 * n, 10 * n + 10, e.topic, e.key, e.ts_ms, e.value)
        for n, e in enumerate(doubled)
        if b'"user":{' not in e.value  # an account told again is told again
    ]
    plain = [e for e in log if b'"user":{' not in e.value]
    states = []
    for entries in (plain, doubled):
        _, disk = first_day(seed)
        other = loaded(disk)
        cut = data.draw(st.integers(0, len(entries))) if entries is doubled else 0
        apply.fold(disk, other, entries[:cut])
        save(other, disk)
        other = loaded(disk)
        apply.fold(disk, other, entries[cut:])
        save(other, disk)
        state = stored(disk)
        state.pop("offsets")
        states.append(state)
    assert states[0] == states[1]


def test_a_decision_and_its_events_handed_over_again_after_a_start(store):
    """Regression: the outcome so far was not read for a decision that came again in the same batch, and was lost."""
    live, store = first_day()
    (line,) = shown(live, [request("u1", ["c1", "c2"], size=2)])
    body = wire.encoder.encode(line)
    clicked = event(line, 0, "a", clicked=True)
    live.take(clicked)
    save(live, store)
    other = loaded(store)
    events = [clicked, event(line, 1, "b", clicked=True)]
    entries = [Entry(PARTITION, 0, 10, DECISIONS, "u1", NOW, body)]
    entries += [
        Entry(PARTITION, 10 + n, 11 + n, INTERACTIONS, "u1", NOW, wire.encoder.encode(wire.Event(1, NOW, one)))
        for n, one in enumerate(events)
    ]
    apply.fold(store, other, entries)
    save(other, store)
    clicks = COUNTS.index("clicks")
    gained = [
        int(other.contents.counts[other.contents.rows.at[c], clicks] - first_day()[0].contents.counts[n + 1, clicks])
        for n, c in ((1, "c1"), (2, "c2"))
    ]
    assert gained == [1, 1]
    assert other.outcomes[line.decision_id].events == {"a", "b"}
    assert other.users.record[other.users.rows.at["u1"]]["open_clicks"] == 2


def test_a_line_that_cannot_be_read_is_passed_over_and_reported(caplog):
    live, store = first_day()
    bad = [Entry(PARTITION, n, n + 1, topic, "u1", NOW, b"{}") for n, topic in enumerate((DECISIONS, INTERACTIONS))]
    apply.fold(store, live, [*bad, Entry(PARTITION, 2, 3, "of another kind", "u1", NOW, b"\xff")])
    assert live.failures == {"unreadable": 2}
    assert live.offsets == {PARTITION: 3}
    assert f"{PARTITION} offset 0" in caplog.text


def test_an_event_whose_slate_is_nowhere_is_passed_over_or_waits():
    live, store = first_day()
    one = Interaction(event_id="e", content_id="c1", user_id="u1", ts=NOW, decision_id="nowhere", clicked=True)
    entries = [
        Entry(part, 0, 10, INTERACTIONS, "u1", NOW, wire.encoder.encode(wire.Event(1, NOW, told)))
        for part, told in (("p0", one), ("p0", msgspec.structs.replace(one, event_id="f", decision_id=None)))
    ]
    before = memory(live)["counts"]
    assert apply.fold(store, live, entries, patient=True) == entries
    assert live.offsets == {}
    assert memory(live)["counts"] == before
    assert apply.fold(store, live, entries) == []
    assert live.failures["orphans"] == 1
    assert live.offsets == {"p0": 10}
    assert live.contents.counts[live.contents.rows.at["c1"], 1] == before["c1"][1] + 1


def test_the_id_of_an_outcome_is_not_a_decision():
    """Regression: an event that named ``<decision>/outcome`` as its decision made the store's record unreadable."""
    live, store = first_day()
    (line,) = shown(live, [request("u1", ["c1", "c2"], size=2)])
    live.take(event(line, 0, "a"))
    save(live, store)
    other = loaded(store)
    apply.load_slates(store, other, [line.decision_id, f"{line.decision_id}/outcome", "nowhere"])
    assert list(other.slates) == [line.decision_id]


def test_partitions_are_merged_by_time_each_in_its_own_order():
    entries = [
        Entry(part, n, n + 1, DECISIONS, "u", ts, b"") for part, n, ts in
        [("a", 0, 5), ("a", 1, 9), ("a", 2, 7), ("b", 0, 6), ("b", 1, 8), ("c", 0, 1)]
    ]  # fmt: skip
    assert [(e.partition, e.offset) for e in apply.merged(entries)] == [
        ("c", 0), ("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2),
    ]  # fmt: skip


# ---- memory that stays bounded


def test_of_slates_and_outcomes_only_so_many_are_at_hand(monkeypatch):
    """Regression: outcomes were never let go of while no event came from elsewhere."""
    monkeypatch.setattr(live_module, "REMEMBERED", 50)
    live, store = first_day()
    lines = []
    for n in range(120):
        lines += shown(live, [request("u1", [f"c{k}" for k in range(10)], size=3)], NOW + n)
        if n % 2:
            live.take(event(lines[-1], 0, f"e{n}", clicked=True))
        live.take(Interaction(event_id="e", content_id="c1", user_id=f"reader{n}", ts=NOW))
        assert len(live.slates) <= 50
        assert len(live.outcomes) <= 100
    save(live, store)
    old = lines[1]
    assert old.decision_id not in live.slates
    told = event(old, 0, "e1", clicked=True)
    assert unknown_outcomes(live, [told]) == {old.decision_id}
    apply.prefetch(store, live, [], [told])
    assert not live.take(told)


def test_a_slate_at_hand_has_its_outcome_at_hand(monkeypatch):
    monkeypatch.setattr(live_module, "REMEMBERED", 5)
    live, _ = first_day()
    for n in range(40):
        shown(live, [request(f"u{n % 12}", ["c1", "c2"], size=2)], NOW + n)
        assert live.slates.keys() <= live.outcomes.keys()


# ---- users who go


def test_an_erased_user_is_nowhere_in_memory():
    live, store, _ = lived(6)
    live.take(Interaction(event_id="x", content_id="c1", user_id="u1", ts=NOW, clicked=True))
    live.take(Interaction(event_id="x", content_id="u1:c1", user_id="u2", ts=NOW, clicked=True))
    save(live, store)
    row = row_of(live, "u1")
    live.erase("u1", NOW)
    assert "u1" not in live.users.rows.at
    assert not any(slate.user_id == "u1" for slate in live.slates.values())
    assert not any(":2:u1:" in key for key in live.outcomes)
    assert any(key.endswith(":u2:u1:c1") for key in live.outcomes)  # of another, whose content is named like that
    assert live.outcomes.keys() & live.slates.keys() == live.slates.keys()
    assert not live.users.record[row]["profile"].any()
    assert live.unsaved() is None


def test_users_that_are_told_of_are_as_old_as_they_say():
    live, _ = first_day()
    live.account(User(id="u1", created_at=NOW - 50 * DAY_MS))
    live.account(User(id="fresh", created_at=NOW - 40 * DAY_MS))
    assert live.users.record[row_of(live, "u1")]["created_ms"] == NOW - 50 * DAY_MS
    assert live.users.record[row_of(live, "fresh")]["created_ms"] == NOW - 40 * DAY_MS
    assert live.unsaved().puts["user"].keys() == {"u1", "fresh"}


# ---- names


def test_ids_of_decisions_are_never_alike():
    live, other = Live(settings(), "s0"), Live(settings(), "s1")
    ids = [live.next_id(NOW) for _ in range(500)] + [other.next_id(NOW) for _ in range(500)]
    assert len(set(ids)) == 1_000
    assert all("/" not in id for id in ids)


@given(st.text(max_size=12), st.text(max_size=12), st.text(max_size=12), st.text(max_size=12))
def test_requests_of_different_users_have_different_keys(user, request_id, other, other_id):
    assert (request_key(user, request_id) == request_key(other, other_id)) == ((user, request_id) == (other, other_id))


names = st.text(st.sampled_from("12:ab"), min_size=1, max_size=6)


@given(names, names, names, names, st.integers(0, 3 * DAY_MS), st.integers(0, 3 * DAY_MS))
def test_what_was_seen_elsewhere_merges_by_user_content_and_day(user, one, other, two, ts, ts2):
    first = Interaction(event_id="e", user_id=user, content_id=one, ts=ts)
    second = Interaction(event_id="e", user_id=other, content_id=two, ts=ts2)
    alike = (user, one, ts // DAY_MS) == (other, two, ts2 // DAY_MS)
    assert (organic_key(first) == organic_key(second)) == alike
    assert live_module.organic_of(organic_key(first), user)
    assert live_module.organic_of(organic_key(first), other) == (user == other)


def test_lines_of_the_log_are_json_with_a_schema_number():
    _, _, log = lived(7)
    for entry in log:
        raw = json.loads(entry.value)
        assert raw["schema"] == wire.SCHEMA
