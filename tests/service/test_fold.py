"""Slates and events folded into records and counts: the same entries give the same state, however they come."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from service_samples import (
    DAY_MS,
    HOUR_MS,
    NOW,
    any_request,
    content,
    event,
    one_slate,
    request,
    server,
    settings,
    shown,
    state_of,
)

from upwell.agents import mind
from upwell.model import Interaction
from upwell.service import fold, records, wire
from upwell.service.live import Live
from upwell.service.records import COUNTS, USER, key_of
from upwell.service.tables import NOBODY

quick = hypothesis_settings(max_examples=60)


def day(seed: int, batches: int = 25) -> tuple[Live, list]:
    """A server after some hours, and its log: slates of batches and the events that came between them."""
    rng = np.random.default_rng(seed)
    live = server(seed)
    log: list = []
    for number in range(batches):
        now = NOW + number * 13 * 60_000
        size = int(rng.integers(1, 16))
        users = rng.choice([f"u{n}" for n in range(20)] + ["new1", "new2"], int(rng.integers(1, 14)), replace=False)
        lines = shown(live, [any_request(live, rng, u, size, shadow=bool(rng.random() < 0.05)) for u in users], now)
        log += lines
        for line in rng.choice(len(log), min(6, len(log)), replace=False):
            told = log[line]
            if isinstance(told, wire.Logged) and told.places:
                place = int(rng.integers(len(told.places)))
                one = event(
                    told, place, f"e{number}-{line}", ts=now + int(rng.integers(60_000)),
                    clicked=bool(rng.random() < 0.6), dwell_s=float(rng.integers(90)), completion=float(rng.random()),
                    shared=bool(rng.random() < 0.1), purchased=bool(rng.random() < 0.1), value=float(rng.integers(9)),
                )  # fmt: skip
                assert live.take(one)
                log.append(one)
    assert not live.failures
    return live, log


def begin(seed: int) -> Live:
    """The server that ``day`` began with."""
    return server(seed)


def told(live: Live, entries: list) -> None:
    for entry in entries:
        if isinstance(entry, wire.Logged):
            body = wire.encoder.encode(entry)
            live.show(wire.logged_decoder.decode(body), body)
        else:
            live.take(entry)


@pytest.mark.parametrize("seed", range(4))
def test_the_log_folded_line_by_line_is_the_state_that_batches_left(seed):
    live, log = day(seed)
    other = begin(seed)
    told(other, log)
    assert state_of(other) == state_of(live)
    assert any(isinstance(entry, wire.Logged) and not entry.places for entry in log)
    assert any(isinstance(entry, wire.Logged) and 0 < len(entry.places) < entry.question.size for entry in log)


def test_an_empty_slate_is_a_visit():
    live, other = server(0), server(0)
    (line,) = shown(live, [request("u1", [], size=5, inject=False)], NOW)
    assert line.places == []
    other.show(line, wire.encoder.encode(line))
    assert state_of(other) == state_of(live)
    record = live.users.record[live.users.rows.at["u1"]]
    assert (record["visited_ms"], record["requests"], record["open_size"]) == (NOW, 1, 0)


@quick
@given(st.data())
def test_a_mind_hangs_on_its_own_user_only(data):
    """What was folded of one user does not depend on whose slates were decided beside."""
    seed = data.draw(st.integers(0, 50))
    rng = np.random.default_rng(seed)
    users = [f"u{n}" for n in rng.permutation(20)[:8]]
    size = data.draw(st.integers(1, 12))
    whole, parts = server(seed), server(seed)
    for live in (whole, parts):
        live.contents.left[:] = 0
    requests = [any_request(whole, rng, u, size) for u in users]
    cuts = sorted(data.draw(st.sets(st.integers(1, 7), max_size=4)))
    shown(whole, requests)
    for begin, end in itertools.pairwise([0, *cuts, 8]):
        for line in shown(parts, requests[begin:end]):
            parts.slates.pop(line.decision_id)
    whole.slates.clear()
    # Ids differ with the batch's draws, so places may: what was shown must be the same for the holdout and the new.
    for user in users:
        one, two = (live.users.record[live.users.rows.at[user]] for live in (whole, parts))
        assert one["visited_ms"] == two["visited_ms"]
        assert one["open_size"] == two["open_size"]
        np.testing.assert_array_equal(one["mind"], two["mind"])
        assert one["expected"] == two["expected"]


# ---- the order of events, and events that come twice


amounts = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(["view", "click", "dwell", "share", "purchase"]),
        "clicked": st.booleans(),
        "dwell_s": st.sampled_from([0.0, 1.5, 29.9, 30.0, 600.0]),
        "completion": st.sampled_from([0.0, 0.49, 0.5, 1.0]),
        "shared": st.booleans(),
        "purchased": st.booleans(),
        "value": st.sampled_from([0.0, 0.01, 9.99, 1e6]),
        "ts": st.integers(NOW, NOW + 3 * HOUR_MS),
    },
)


@quick
@given(st.lists(amounts, min_size=2, max_size=6), st.randoms(use_true_random=False), st.sampled_from([0, 2, 4]))
def test_events_of_one_place_merge_in_any_order(told_of, random, place):
    results = []
    for shuffled in (False, True):
        live, line = one_slate()
        events = [event(line, place, f"e{i}", **values) for i, values in enumerate(told_of)]
        if shuffled:
            random.shuffle(events)
        # A content that turns from new to old between the events must not be new in one order only.
        live.contents.published_ms[live.contents.rows.at[line.places[place].id]] = NOW - 3 * DAY_MS + HOUR_MS
        assert all(live.take(one) for one in events)
        outcome = live.outcomes[line.decision_id]
        row = live.users.rows.at["someone"]
        now = fold.arrive(live.settings, live.users.record[[row]], NOW + 4 * HOUR_MS)
        results.append((outcome.places, outcome.events, state_of(live), now.tobytes()))
    assert results[0] == results[1]


@quick
@given(st.lists(amounts, min_size=1, max_size=4), st.data())
def test_an_event_folded_twice_changes_nothing(told_of, data):
    live, line = one_slate()
    events = [event(line, i % 5, f"e{i}", **values) for i, values in enumerate(told_of)]
    for one in events:
        assert live.take(one)
    before, outcome = state_of(live), records.outcome_encoder.encode(live.outcomes[line.decision_id])
    again = data.draw(st.sampled_from(events))
    assert not live.take(again)
    # The same event id with other numbers is the same event.
    assert not live.take(event(line, 0, again.event_id, clicked=True, value=1e8))
    assert state_of(live) == before
    assert records.outcome_encoder.encode(live.outcomes[line.decision_id]) == outcome


@pytest.mark.parametrize("first", [0, 1])
def test_a_content_is_as_new_as_it_was_when_it_was_shown(first):
    live, line = one_slate()
    live.contents.published_ms[live.contents.rows.at[line.places[0].id]] = NOW - 3 * DAY_MS + HOUR_MS
    clicks = [event(line, 0, "a", clicked=True, ts=NOW), event(line, 0, "b", clicked=True, ts=NOW + 2 * HOUR_MS)]
    live.take(clicks[first])
    live.take(clicks[1 - first])
    assert live.users.record[live.users.rows.at["someone"]]["open_clicked_new"] == 1


def test_counts_of_one_place_by_hand():
    live, line = one_slate()
    row = live.contents.rows.at[line.places[1].id]
    before = live.contents.counts[row].copy()
    live.take(event(line, 1, "a", kind="view", dwell_s=12.0, completion=0.4))
    live.take(event(line, 1, "b", kind="click", value=3.2))
    live.take(event(line, 1, "c", kind="dwell", dwell_s=31.0))
    live.take(event(line, 1, "d", kind="purchase", value=19.99))
    live.take(event(line, 1, "e", kind="share", clicked=True, value=5.0))
    gained = dict(zip(COUNTS, (live.contents.counts[row] - before).tolist(), strict=True))
    assert {name: n for name, n in gained.items() if n} == {
        "clicks": 1, "valid": 1, "shares": 1, "purchases": 1, "value_fen": 1_999, "dwell_ms": 31_000,
    }  # fmt: skip
    assert live.outcomes[line.decision_id].places == {
        1: records.Place(clicked=True, dwell_s=31.0, completion=0.4, shared=True, purchased=True, value=19.99)
    }


@pytest.mark.parametrize(
    ("place", "valid"),
    [
        (records.Place(clicked=True, completion=0.5), True),
        (records.Place(clicked=True, dwell_s=30.0), True),
        (records.Place(clicked=True, completion=0.49, dwell_s=29.9), False),
        (records.Place(clicked=False, completion=1.0, dwell_s=600.0), False),
    ],
)
def test_what_counts_as_a_valid_view(place, valid):
    assert place.valid == valid


def test_clicks_of_heated_places_are_counted_apart():
    live = server(3, holdout=0.0, segments=1)
    lines = [line for u in range(40) for line in shown(live, [request(f"u{u}", [f"c{n}" for n in range(40)], size=10)])]
    line, place = next((line, k) for line in lines for k, p in enumerate(line.places) if p.kind == 2)
    row = live.contents.rows.at[line.places[place].id]
    before = live.contents.counts[row].copy()
    live.take(event(line, place, "a", clicked=True, completion=1.0))
    gained = dict(zip(COUNTS, (live.contents.counts[row] - before).tolist(), strict=True))
    assert gained["clicks"] == gained["valid"] == gained["heated_clicks"] == gained["heated_valid"] == 1


# ---- the mind


def test_one_slate_with_one_click_by_hand():
    """Two slates a day apart; a click on new content in the first. The formulas are those of ``agents.mind``."""
    live = Live(settings(holdout=0.0), "s")
    live.platform_ctr = 0.1
    east, north = np.eye(64)[0], np.eye(64)[1]
    for n in range(4):
        direction = tuple((east if n < 2 else north).tolist())
        live.add_content(content(n, NOW - DAY_MS if n == 1 else NOW - 9 * DAY_MS, embedding=direction), {})
    (first,) = shown(live, [request("u", [f"c{n}" for n in range(4)], size=4)])
    record = live.users.record[live.users.rows.at["u"]]
    assert record["mind"].tolist() == pytest.approx([0.7, 0.5, 0.2, 0.6])
    assert (record["open_size"], record["visited_ms"], record["requests"]) == (4, NOW, 1)
    assert record["expected"] == pytest.approx(0.1)
    assert record["open_similarity"] == 0.0  # nothing was shown before
    assert record["recent"][:2].tolist() == pytest.approx([0.1, 0.1], abs=1e-3)  # 0.05 of the sum of two each

    live.take(event(first, 1, "e", clicked=True))
    assert record["profile"][:2].tolist() == pytest.approx([0.12, 0.0], abs=1e-4)
    assert (record["open_clicks"], record["open_clicked_new"]) == (1, 1)
    # Surprise: (1 - 0.4) / sqrt(0.4) = 0.94868; outcome 0.6 + 0.25 · 0.94868 = 0.83717.
    satisfaction = 0.9 * 0.6 + 0.1 * 0.83717
    now = fold.arrive(live.settings, live.users.record[[live.users.rows.at["u"]]], NOW)[0]
    assert now["mind"].tolist() == pytest.approx([0.7, 0.6, 0.2, satisfaction], abs=1e-5)
    assert now["expected"] == pytest.approx(0.1 + 0.05 * (0.25 - 0.1))

    day_later = fold.arrive(live.settings, live.users.record[[live.users.rows.at["u"]]], NOW + DAY_MS)[0]
    assert day_later["mind"].tolist() == pytest.approx([0.7, 0.5 + 0.1 * 2 ** (-24 / 72), 0.2, satisfaction], abs=1e-5)
    assert day_later["recent"][:2].tolist() == pytest.approx([0.1 * 2**-0.5] * 2, abs=1e-3)
    assert record["mind"].tolist() == pytest.approx([0.7, 0.5, 0.2, 0.6])  # until the next slate is shown

    (second,) = shown(live, [request("u", ["c0", "c1"], size=2)], NOW + DAY_MS)
    record = live.users.record[live.users.rows.at["u"]]
    assert record["mind"].tolist() == pytest.approx(day_later["mind"].tolist())
    assert (record["open_decision"], record["open_size"], record["open_clicks"]) == (
        key_of(second.decision_id) | 1 << 32, 2, 0,
    )  # fmt: skip
    # Both are east, recent was as much east as north: cosine 1/sqrt(2).
    assert record["open_similarity"] == pytest.approx(2**-0.5, abs=1e-3)


def test_a_slate_much_like_the_last_ones_tires():
    live = Live(settings(holdout=0.0, no_repeat_h=0.001), "s")
    for n in range(30):
        live.add_content(content(n, embedding=(1.0, 0.0)), {})
    for number in range(3):
        shown(live, [request("u", [f"c{n}" for n in range(30)], size=5)], NOW + number * 1_000)
    now = fold.arrive(live.settings, live.users.record[[live.users.rows.at["u"]]], NOW + 2_000)[0]
    assert now["mind"][mind.FATIGUE] == pytest.approx(0.2 + 2 * 0.2, abs=1e-3)  # the first had nothing before it


def test_a_click_counts_for_the_next_request_at_once():
    live, line = one_slate()
    row = live.users.rows.at["someone"]
    before = fold.arrive(live.settings, live.users.record[[row]], NOW + 1)[0]
    live.take(event(line, 0, "e", clicked=True))
    after = fold.arrive(live.settings, live.users.record[[row]], NOW + 1)[0]
    assert after["mind"][mind.SATISFACTION] > before["mind"][mind.SATISFACTION] + 0.01
    assert after["expected"] > before["expected"]


def test_a_slate_without_clicks_counts_as_a_miss_when_the_next_comes():
    live, _ = one_slate(5)
    row = live.users.rows.at["someone"]
    was = live.users.record[row].copy()
    shown(live, [request("someone", [f"c{n}" for n in range(60, 80)], size=5)], NOW)
    now = live.users.record[row]
    expected = np.float32(was["expected"])
    outcome = 0.6 - 0.25 * (5 * expected) / np.sqrt(max(5 * expected, 0.05))
    assert now["mind"][mind.SATISFACTION] == pytest.approx(0.9 * was["mind"][mind.SATISFACTION] + 0.1 * outcome)
    assert now["expected"] == pytest.approx(0.95 * expected)


def test_events_of_an_older_slate_count_for_content_and_history_and_not_for_the_mind():
    live, first = one_slate()
    row = live.users.rows.at["someone"]
    live.unsaved()
    shown(live, [request("someone", [f"c{n}" for n in range(60, 80)], size=5)], NOW + 60_000)
    before, counts = live.users.record[row].copy(), live.contents.counts.copy()
    assert live.take(event(first, 2, "late", clicked=True, completion=1.0))
    after = live.users.record[row]
    for name in USER.names:
        if name != "profile":
            assert after[name].tobytes() == before[name].tobytes(), name
    assert after["profile"].tobytes() != before["profile"].tobytes()
    gained = live.contents.counts - counts
    where = live.contents.rows.at[first.places[2].id]
    assert gained[where, COUNTS.index("clicks")] == gained[where, COUNTS.index("valid")] == 1
    assert gained.sum() == 2
    assert len(live.unsaved().appends["history"]["someone"]) == 1


def test_clicks_elsewhere_count_for_content_and_profile():
    live, _ = one_slate()
    row = live.users.rows.at["someone"]
    before = live.users.record[row].copy()
    one = Interaction(event_id="x", content_id="c40", user_id="someone", ts=NOW, clicked=True)
    clicks = live.contents.counts[live.contents.rows.at["c40"], COUNTS.index("clicks")]
    assert live.take(one)
    assert not live.take(one)
    assert live.contents.counts[live.contents.rows.at["c40"], COUNTS.index("clicks")] == clicks + 1
    assert live.users.record[row]["open_clicks"] == before["open_clicks"]
    assert live.users.record[row]["profile"].tobytes() != before["profile"].tobytes()


def test_nothing_is_counted_of_contents_not_known():
    live, _ = one_slate()
    (line,) = shown(live, [request("someone", ["stranger1", "stranger2"], size=2, inject=False)], NOW + 1)
    counts = live.contents.counts.copy()
    assert live.take(event(line, 0, "e", clicked=True, value=5.0))
    np.testing.assert_array_equal(live.contents.counts, counts)
    assert not live.contents.counts[NOBODY].any()
    assert live.users.record[live.users.rows.at["someone"]]["open_clicks"] == 1


def test_clocks_that_run_back_do_not_undo_what_was_felt():
    live, _ = one_slate()
    row = [live.users.rows.at["someone"]]
    now, earlier = (fold.arrive(live.settings, live.users.record[row], at)[0] for at in (NOW, NOW - DAY_MS))
    assert earlier["mind"].tolist() == now["mind"].tolist()


@quick
@given(st.lists(st.tuples(st.integers(0, 30 * 24), st.integers(0, 5), st.booleans()), max_size=12))
def test_minds_stay_within_bounds_whatever_happens(visits):
    live = server(3, holdout=0.0)
    live.contents.left[:] = 0
    now = NOW
    for number, (hours, clicks, back) in enumerate(visits):
        now += (-hours if back and now - hours * HOUR_MS > 0 else hours) * HOUR_MS
        (line,) = shown(live, [request("u1", [f"c{n}" for n in range(30)], size=5)], now)
        for place in range(clicks):
            live.take(event(line, place, f"{number}-{place}", clicked=True, ts=now))
    row = live.users.rows.at["u1"]
    feeling = fold.arrive(live.settings, live.users.record[[row]], now)[0]
    for record in (live.users.record[row], feeling):
        assert (record["mind"] >= 0).all()
        assert (record["mind"] <= 1).all()
        assert 0 <= record["expected"] <= 1
        assert np.isfinite(record["recent"]).all()
        assert np.isfinite(record["profile"]).all()
