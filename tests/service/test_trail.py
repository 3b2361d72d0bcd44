"""What comes in late counts as if it had come in time, as far back as a trail goes."""

from __future__ import annotations

import asyncio

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from service_samples import DAY_MS, NOW, content, event, request, settings, shown
from several import Several

from upwell.agents import mind
from upwell.events.port import DECISIONS, INTERACTIONS, Entry
from upwell.model import Candidate, Content, Interaction, Request, User
from upwell.service import apply, records, trail, wire
from upwell.service.keys import EARLY
from upwell.service.live import Live
from upwell.service.steps import ACCOUNT, CLICK, SLATE, Step
from upwell.service.tables import Users
from upwell.service.trail import KEPT_MS, MOST, Trails
from upwell.state import Batch, open_store

CONTENTS = 30


def store_of(contents: list[Content]):
    store = open_store("memory:", clock=lambda: NOW / 1_000)
    batch = Batch()
    for one in contents:
        batch.put("content", one.id, msgspec.json.encode(one))
    store.write(batch)
    return store


def folding(store, trails: bool = True) -> Live:
    """One that folds for this store and has been started just now."""
    live = Live(settings(holdout=0.0), "worker", trails=trails)
    apply.load_contents(store, live)
    live.saved = store.offsets()
    live.offsets = dict(live.saved)
    return live


def entry(number: int, topic: str, user: str, ts: int, body: bytes) -> Entry:
    """Each in a partition of its own, so that it may come in whenever it likes."""
    return Entry(f"p{number}", 0, 1, topic, user, ts, body)


def decision(number: int, line: wire.Logged) -> Entry:
    return entry(number, DECISIONS, line.user_id, line.ts, wire.encoder.encode(line))


def told(number: int, one: Interaction, ts: int) -> Entry:
    return entry(number, INTERACTIONS, one.user_id, ts, wire.encoder.encode(wire.Event(1, ts, one)))


def save(live: Live, store) -> None:
    batch = live.unsaved()
    if batch is not None:
        store.write(batch)
        live.written(batch)


def record(store, user: str = "u") -> np.void:
    (body,) = store.get("user", [user])
    return records.read_user(body)


def two_slates() -> tuple:
    """Four contents a slate; a click on the first slate's second content comes in when the second slate is folded."""
    east, north = np.eye(64)[0], np.eye(64)[1]
    contents = [
        content(n, NOW - (DAY_MS if n == 1 else 9 * DAY_MS), embedding=tuple((east if n < 4 else north).tolist()))
        for n in range(8)
    ]
    store = store_of(contents)
    server = folding(store, trails=False)
    server.platform_ctr = 0.1
    (first,) = shown(server, [request("u", [f"c{n}" for n in range(4)], size=4)], NOW)
    click = event(first, 1, "e", clicked=True)
    (second,) = shown(server, [request("u", [f"c{n}" for n in range(4, 8)], size=4)], NOW + 10_000)
    return store, [decision(0, first), told(1, click, NOW + 5_000), decision(2, second)]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_click_that_comes_in_after_the_next_slate_by_hand(restarted):
    store, (first, click, second) = two_slates()
    live = folding(store)
    apply.fold(store, live, [first, second])
    save(live, store)
    # Surprise (0 - 0.4) / sqrt(0.4) = -0.63246; outcome 0.6 - 0.25 · 0.63246 = 0.44189.
    assert record(store)["mind"][mind.SATISFACTION] == pytest.approx(0.9 * 0.6 + 0.1 * 0.44189, abs=1e-5)
    assert record(store)["expected"] == pytest.approx(0.095)
    if restarted:
        live = folding(store)
    apply.fold(store, live, [click])
    save(live, store)
    # As if it had come in time: (1 - 0.4) / sqrt(0.4) = 0.94868; outcome 0.6 + 0.25 · 0.94868 = 0.83717. The click was
    # on new content, so curiosity rose to 0.6 and fell back for ten seconds.
    late = record(store)
    assert late["mind"].tolist() == pytest.approx([0.7, 0.6, 0.2, 0.9 * 0.6 + 0.1 * 0.83717], abs=1e-5)
    assert late["expected"] == pytest.approx(0.1 + 0.05 * (0.25 - 0.1))
    assert late["profile"][:2].tolist() == pytest.approx([0.12, 0.0], abs=1e-4)
    assert (late["open_clicks"], late["requests"], late["visited_ms"]) == (0, 2, NOW + 10_000)
    assert live.contents.counts[live.contents.rows.at["c1"], :2].tolist() == [1, 1]


def test_a_slate_that_comes_in_after_the_next_one_by_hand():
    store, (first, click, second) = two_slates()
    plain = folding(store, trails=False)
    apply.fold(store, plain, [first, click, second])
    live = folding(store)
    apply.fold(store, live, [second])
    assert live.users.record[live.users.rows.at["u"]]["created_ms"] == NOW + 10_000
    apply.fold(store, live, [first, click])
    late = live.users.record[live.users.rows.at["u"]]
    assert (late["created_ms"], late["visited_ms"], late["requests"]) == (NOW, NOW + 10_000, 2)
    assert late.tobytes() == plain.users.record[plain.users.rows.at["u"]].tobytes()


def test_a_click_told_twice_is_as_old_as_the_first_that_tells_of_it():
    """Sent again to another server, whose log came in first: it counts for the slate that was open when it was told."""
    store, (first, click, second) = two_slates()
    again = told(3, wire.event_decoder.decode(click.value).event, NOW + 20_000)
    results = []
    for arrival in ([first, click, second, again], [first, second, again, click]):
        live = folding(store)
        for one in arrival:
            apply.fold(store, live, [one])
        results.append(live.users.record[live.users.rows.at["u"]].tobytes())
        assert live.contents.counts[live.contents.rows.at["c1"], :2].tolist() == [1, 1]
    assert results[0] == results[1]


def test_who_is_first_seen_by_a_click_elsewhere_is_as_old_as_the_first_of_it():
    """Regression: of two clicks on the same content the later one came in first, and the user began with it."""
    store, _ = two_slates()
    first, second = (
        told(n, Interaction(event_id=f"x{n}", content_id="c3", user_id="u", ts=NOW + n, clicked=True), NOW + n)
        for n in (5, 9)
    )
    for arrival in ([first, second], [second, first]):
        live = folding(store)
        for one in arrival:
            apply.fold(store, live, [one])
        assert live.users.record[live.users.rows.at["u"]]["created_ms"] == NOW + 5


def test_a_click_is_never_older_than_its_slate():
    """Logged by a server whose clock is behind."""
    store, (first, click, second) = two_slates()
    results = []
    for ts_ms in (NOW - 3_000, NOW + 5_000):
        live = folding(store)
        apply.fold(store, live, [first, msgspec.structs.replace(click, ts_ms=ts_ms), second])
        results.append(live.users.record[live.users.rows.at["u"]].tobytes())
    assert results[0] == results[1]


@pytest.mark.parametrize("restarted", [False, True])
def test_an_event_that_comes_in_before_its_slate_is_kept_until_it_does(restarted):
    """Regression: it held up its partition for a minute, and was given up then: acknowledged and lost."""
    store, (first, click, second) = two_slates()
    plain = folding(store, trails=False)
    apply.fold(store, plain, [first, click, second])
    live = folding(store)
    told_again = told(3, wire.event_decoder.decode(click.value).event, NOW + 6_000)
    for one in (click, told_again, second):
        apply.fold(store, live, [one])
        save(live, store)
        if restarted:
            live = folding(store)
    assert store.offsets() == {"p1": 1, "p2": 1, "p3": 1}
    name = f"{wire.logged_decoder.decode(first.value).decision_id}{EARLY}"
    assert store.get("decision", [name]) != [None]
    apply.fold(store, live, [first])
    save(live, store)
    assert store.get("decision", [name]) == [None]
    assert not live.failures
    assert record(store).tobytes() == plain.users.record[plain.users.rows.at["u"]].tobytes()
    assert store.counters("content", ["c1"]) == [{"impressions": 1, "clicks": 1}]
    assert len(store.tail("history", "u", 10)) == 1


def test_an_event_and_its_slate_in_one_write_leave_nothing_behind():
    store, (first, click, _) = two_slates()
    live = folding(store)
    apply.fold(store, live, [click, first])
    save(live, store)
    assert list(dict(store.scan("decision").items)) == sorted(
        f"{wire.logged_decoder.decode(first.value).decision_id}{end}" for end in ("", "/outcome")
    )


def test_what_is_kept_for_a_slate_is_erased_with_its_user():
    store, (_, click, _) = two_slates()
    live = folding(store)
    apply.fold(store, live, [click])
    save(live, store)
    assert store.erase("u") == 1
    live.erase("u", NOW + 60_000)
    assert not live.early
    apply.fold(store, live, [told(4, wire.event_decoder.decode(click.value).event, NOW + 70_000)])
    assert live.failures["orphans"] == 1  # of before: nothing is kept for it any more
    assert not live.early


# ---- any order of arrival


def life(rng: np.random.Generator, store, gap_ms: int, count: int) -> list[Entry]:
    """What three users did, in order of time, no two at once: slates, clicks (some told twice), accounts."""
    server = folding(store, trails=False)
    server.platform_ctr = 0.1
    now, log, lines, events = NOW, [], [], []
    for number in range(count):
        now += 1 + int(rng.integers(gap_ms))
        user, draw = f"u{rng.integers(3)}", rng.random()
        if draw < 0.45 or not lines:
            size = int(rng.integers(1, 9))
            ids = [f"c{n}" for n in rng.choice(CONTENTS + 3, size, replace=False)]
            lines += shown(server, [request(user, ids, size=size)], now)
            log.append(decision(number, lines[-1]))
            continue
        if draw < 0.5:
            account = User(id=user, created_at=NOW - int(rng.integers(90)) * DAY_MS)
            log.append(entry(number, INTERACTIONS, user, now, wire.encoder.encode(wire.Event(1, now, user=account))))
            continue
        if draw < 0.6:
            one = Interaction(event_id=f"x{number}", content_id="c3", user_id=user, ts=now, clicked=True)
        elif draw < 0.75 and events:
            one = events[int(rng.integers(max(len(events) - 4, 0), len(events)))]
        else:
            line = lines[int(rng.integers(max(len(lines) - 4, 0), len(lines)))]
            one = event(
                line, int(rng.integers(len(line.places))), f"e{number}", clicked=bool(rng.random() < 0.8), ts=now
            )
        events.append(one)
        log.append(told(number, one, now))
    return log


@hypothesis_settings(max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([500, 8_000, 60_000]), st.data())
def test_any_order_of_arrival_within_the_bound_gives_the_same_records(seed, gap_ms, data):
    """Each entry is up to ``KEPT_MS`` late; the worker is killed now and then."""
    rng = np.random.default_rng(seed)
    contents = [content(n, NOW - int(rng.integers(6 * DAY_MS))) for n in range(CONTENTS)]
    plain_store, store = store_of(contents), store_of(contents)
    log = life(rng, plain_store, gap_ms, 50)
    plain = folding(plain_store, trails=False)
    apply.fold(plain_store, plain, log)

    late = {one.partition: one.ts_ms + int(rng.integers(KEPT_MS)) * (rng.random() < 0.5) for one in log}
    arrival = sorted(log, key=lambda one: late[one.partition])
    live = folding(store)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(log) - 1), max_size=8)))
    for begin, end in zip([0, *cuts], [*cuts, len(log)], strict=True):
        apply.fold(store, live, arrival[begin:end])
        save(live, store)
        if data.draw(st.booleans()):
            live = folding(store)
    assert not live.failures
    assert not live.early
    assert not [id for id in dict(store.scan("decision").items) if id.endswith(EARLY)]
    for user, row in plain.users.rows.at.items():
        assert record(store, user).tobytes() == plain.users.record[row].tobytes(), user
    counted = dict(store.scan_counters("content").items)
    for name, row in plain.contents.rows.at.items():
        for column, of in enumerate(records.COUNTS):
            assert counted.get(name, {}).get(of, 0) == plain.contents.counts[row, column], (name, of)


# ---- what is kept


class Played:
    """Trails over a table of users whose record holds what steps it is made of, and in what order."""

    def __init__(self) -> None:
        self.users = Users(0.0, 0)
        self.trails = Trails(self.users, self.play, lambda slates: [self.play(*one) for one in slates])

    def play(self, user: str, step: Step) -> None:
        row = self.users.rows.at.get(user)
        if row is None:
            row = self.users.put(user, records.new_user(0, 0.0))
        self.users.record["requests"][row] = (int(self.users.record["requests"][row]) * 31 + step.at_ms) % 1_000_003

    def add(self, step: Step) -> None:
        self.trails.add("u", step)
        self.trails.settle()

    def made_of(self) -> int:
        return int(self.users.record["requests"][self.users.rows.at["u"]])

    def steps(self) -> int:
        return len(self.trails._of["u"].steps)


def test_a_trail_is_bounded_and_its_last_half_is_always_there():
    played = Played()
    for n in range(5 * MOST):
        played.add(Step(n, SLATE, f"d{n}", "", 0.0, ()))
        assert min(n + 1, MOST // 2) <= played.steps() <= MOST
    for n in range(40):  # far apart: only what may still matter
        played.add(Step(10**7 + n * KEPT_MS // 2, SLATE, f"f{n}", "", 0.0, ()))
    assert 3 <= played.steps() <= 6
    played.add(Step(10**9, SLATE, "after a long time", "", 0.0, ()))
    assert played.steps() == 1
    body = played.trails.stored("u")
    assert body is not None
    assert len(body) < 2 * records.USER.itemsize + 100
    played.trails.sweep(10**9 + 2 * KEPT_MS)
    assert played.trails.stored("u") is not None
    played.trails.sweep(10**9 + 2 * KEPT_MS + 1)
    assert played.trails.stored("u") is None


def test_what_is_older_than_all_that_is_kept_comes_first_of_it():
    played, plain = Played(), Played()
    steps = [Step(n * KEPT_MS, SLATE, f"d{n}", "", 0.0, ()) for n in range(6)]
    for step in steps:
        played.add(step)
    assert played.trails._of["u"].steps == steps[4:]
    late = Step(1, CLICK, "d0", "c", 0.0)
    played.add(late)
    for step in (*steps[:4], late, *steps[4:]):
        plain.play("u", step)
    assert played.made_of() == plain.made_of()


def test_a_stored_trail_is_read_back_and_a_newer_one_is_refused():
    played, other = Played(), Played()
    steps = [Step(5, ACCOUNT, "", "", 7.0), Step(6, SLATE, "d", "", 0.25, ("a", "b")), Step(9, CLICK, "d", "a", 6.0)]
    for step in steps:
        played.add(step)
    body = played.trails.stored("u")
    assert body is not None
    other.trails.load("u", body)
    assert other.trails.stored("u") == body
    assert [step[:5] for step in other.trails._of["u"].steps] == [step[:5] for step in steps]
    other.trails.add("u", Step(4, SLATE, "c", "", 0.0, ()))
    assert list(other.trails.lacking()) == ["d"]
    with pytest.raises(ValueError, match="version 2"):
        other.trails.load("u", trail.encoder.encode(trail.Kept(2, None, [])))


# ---- the worker


@pytest.mark.parametrize("restarted", [False, True])
def test_a_worker_puts_what_another_server_sends_late_where_it_belongs(tmp_path, restarted):
    async def run():
        all_of = Several(tmp_path)
        all_of.contents("x0", "x1", "x2", "x3", "x4")
        node = await all_of.server()

        async def ask(user: str) -> None:
            slate = tuple(Candidate(id=f"x{n}", score=float(n)) for n in range(5))
            answer = await node.recommend(Request(user_id=user, candidates=slate, size=3))
            lines.append((user, answer.decision_id, answer.items[1].id, all_of.now))

        lines: list = []
        for user in ("in-time", "late"):
            await ask(user)
        clicks = [
            Interaction(event_id=f"e {user}", decision_id=id, content_id=content, user_id=user, ts=now, clicked=True)
            for user, id, content, now in lines
        ]
        at = all_of.clock()
        bodies = [(one.user_id, at, wire.encoder.encode(wire.Event(1, at, one))) for one in clicks]
        node.events.append(INTERACTIONS, bodies[:1])
        all_of.now += 5_000
        for user in ("in-time", "late"):
            await ask(user)
        all_of.fold()
        before = [record(all_of.store, user)["mind"].tolist() for user in ("in-time", "late")]
        assert before[0] != pytest.approx(before[1])
        if restarted:
            all_of.restart()
        other = await all_of.server()
        other.events.append(INTERACTIONS, bodies[1:])
        all_of.fold()
        after = [record(all_of.store, user) for user in ("in-time", "late")]
        assert after[0]["mind"].tolist() == before[0]
        for name in ("mind", "expected", "profile", "open_clicks", "requests"):
            np.testing.assert_allclose(after[1][name], after[0][name], atol=1e-6, err_msg=name)
        assert len(all_of.store.get("user", ["late"])[0]) <= 512
        assert all_of.store.get("trail", ["late"]) != [None]
        assert all_of.store.erase("late") > 0
        assert all_of.store.get("trail", ["late"]) == [None]

    asyncio.run(run())
