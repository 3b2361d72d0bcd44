"""What a server has in memory, and what of it the store gets."""

import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from live_samples import first_day, lived, loaded, memory, save, stored
from service_samples import (
    DAY_MS,
    HOUR_MS,
    NOW,
    content,
    event,
    request,
    row_of,
    settings,
    shown,
)

from upwell.model import Interaction, User
from upwell.service import apply, records, wire
from upwell.service.ingest import unknown_outcomes
from upwell.service.keys import organic_key, organic_of, request_key
from upwell.service.live import Live
from upwell.service.memory import GROUPS
from upwell.service.records import COUNTS, key_of
from upwell.state.batch import DELTA_MAX

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
    shown_each = {"slates": 1, "impressions": 3, "clicks": 1, "daily": 1}
    sides = [f"{side}{key_of(user) % GROUPS}" for side, user in (("held", "u1"), ("free", "u2"))]
    assert live.unsaved().adds["meta"] == {
        f"hour {hour}": {"held_impressions": 3, "free_impressions": 3},
        f"hour {hour + 1}": {"held_clicks": 1, "free_clicks": 1},
        "weights 0": {f"{side}_{name}": n for side in sides for name, n in shown_each.items()},
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


# ---- memory that stays bounded


def test_of_slates_and_outcomes_only_so_many_are_at_hand():
    """Regression: outcomes were never let go of while no event came from elsewhere."""
    live, store = first_day()
    live.settings = settings(slates_in_memory=50)
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


def test_a_slate_at_hand_has_its_outcome_at_hand():
    live, _ = first_day()
    live.settings = settings(slates_in_memory=5)
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
    assert organic_of(organic_key(first), user)
    assert organic_of(organic_key(first), other) == (user == other)


def test_lines_of_the_log_are_json_with_a_schema_number():
    _, _, log = lived(7)
    for entry in log:
        raw = json.loads(entry.value)
        assert raw["schema"] == wire.SCHEMA
