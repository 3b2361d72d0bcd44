"""A kill anywhere loses and doubles nothing: the log leads to the same state."""

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from live_samples import first_day, lived, loaded, memory, save, stored
from service_samples import (
    NOW,
    PARTITION,
    event,
    request,
    shown,
)

from upwell.events.port import DECISIONS, INTERACTIONS, Entry
from upwell.model import Interaction
from upwell.service import apply, wire
from upwell.service.records import COUNTS

quick = hypothesis_settings(max_examples=25)


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


def test_an_event_whose_slate_is_nowhere_is_passed_over_where_the_log_is_one_journal():
    live, store = first_day()
    one = Interaction(event_id="e", content_id="c1", user_id="u1", ts=NOW, decision_id="nowhere", clicked=True)
    entries = [
        Entry(part, 0, 10, INTERACTIONS, "u1", NOW, wire.encoder.encode(wire.Event(1, NOW, told)))
        for part, told in (("p0", one), ("p0", msgspec.structs.replace(one, event_id="f", decision_id=None)))
    ]
    before = memory(live)["counts"]
    apply.fold(store, live, entries)
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
