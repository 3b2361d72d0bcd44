"""The judge on a log: what it counts counts once, what it thinks follows, and an operator's word stands above it."""

from __future__ import annotations

import time

import numpy as np
import pytest
from online_samples import BEGIN, Journal, flaky, slate
from online_samples import click as feed_click

from upwell.events.port import CONTROL, INTERACTIONS
from upwell.model import Content, Interaction, User
from upwell.online.judge import ID, Judge, Pace
from upwell.online.known import DAY_MS, HOUR_MS, Known, unpacked
from upwell.service import audit, trust, wire
from upwell.service.audit import Who
from upwell.service.errors import Refused
from upwell.service.keys import digest_of
from upwell.service.settings import Settings
from upwell.service.tables import Contents, Users
from upwell.service.trust import Asked, Trust
from upwell.state import open_store
from upwell.state.batch import Batch

NOW = BEGIN
CONTENTS = [f"c{n}" for n in range(20)]
EAGER = Pace(0.0, 0.0, 1e9, 0.0)
OPERATOR = Who("operator", "Li")


def visit(journal, number, content, user, now, watched=False, **given) -> None:
    """A direct visit: an event without a decision."""
    event = Interaction(
        event_id=f"v{number}", content_id=content, user_id=user, ts=now, kind="click", clicked=True,
        completion=0.9 if watched else 0.05, **given,
    )  # fmt: skip
    journal.append(INTERACTIONS, user, now, wire.encoder.encode(wire.Event(1, now, event)))


def honest(journal, rng, days=3, users=60, visits=0.3) -> None:
    """Users who come daily, click and watch a fifth of what they are shown, and come by themselves now and then."""
    for user in range(users):  # accounts that are older than the log
        told = wire.Event(1, NOW, user=User(id=f"u{user}", created_at=NOW - 300 * DAY_MS))
        journal.append(INTERACTIONS, f"u{user}", NOW, wire.encoder.encode(told))
    for day in range(days):
        for user in range(users):
            now = NOW + day * DAY_MS + int(rng.integers(0, DAY_MS - HOUR_MS))
            decision = f"d{day}-{user}"
            slate(journal, decision, f"u{user}", now, "v", None, CONTENTS)
            for k in np.flatnonzero(rng.random(len(CONTENTS)) < 0.2).tolist():
                feed_click(journal, decision, k, CONTENTS[k], f"u{user}", now)
            if rng.random() < visits:
                visit(journal, f"{decision}-own", CONTENTS[int(rng.integers(20))], f"u{user}", now, watched=True)


def bought(journal, content="c3", many=150, accounts=50, day=1) -> None:
    """Clicks by accounts that are new, come for nothing else and do not watch."""
    for n in range(many):
        now = NOW + day * DAY_MS + n * 60_000
        visit(journal, f"{content}-{day}-{n}", content, f"bot{n % accounts}", now)


def stocked():
    store, batch = open_store("memory:"), Batch()
    for n, name in enumerate(CONTENTS):
        content = Content(id=name, creator_id=f"by{n % 10}", tags=(f"t{n % 4}",), published_at=NOW)
        batch.put("content", name, wire.encoder.encode(content))
    store.write(batch)
    return store


class Court:
    """A judge on a journal of its own."""

    def __init__(self, folder, journal=None, pace=EAGER, store=None) -> None:
        self.settings = Settings(data=folder, trust=True)
        self.store, self.journal, self.pace = store or stocked(), journal or Journal(), pace
        self.start()

    def start(self) -> None:
        self.judge = Judge(self.settings, self.store, self.journal.consumer, "judge", self.pace)

    def hears_all(self) -> None:
        while self.judge.offsets.get("p0", 0) < len(self.journal.entries) or self.judge.order.waiting:
            self.judge.step()
        self.judge.tell()

    @property
    def trust(self) -> Trust:
        out = Trust(self.store, True)
        out.look(self.store.offsets())
        return out


def test_bought_clicks_are_told_of_and_honest_contents_are_not(tmp_path):
    court = Court(tmp_path)
    honest(court.journal, np.random.default_rng(0))
    bought(court.journal)
    court.hears_all()
    told = court.trust.told
    assert told.contents["c3"].low > 0.7
    assert max((one.low for name, one in told.contents.items() if name != "c3"), default=0.0) < 0.7
    assert told.contents["c3"].low <= told.contents["c3"].probability <= told.contents["c3"].high
    assert {"watched", "watched_surely", "strangers", "doubted", "doubted_surely"} & told.contents["c3"].reasons.keys()
    assert told.doubted
    assert all(user.startswith("bot") for user in told.doubted)


def test_a_flood_does_not_say_what_is_usual(tmp_path):
    """All direct visits are bought, and come at once, before anybody is doubted."""
    court = Court(tmp_path, pace=Pace(1e9, 1e9, 1e9, 0.0))
    honest(court.journal, np.random.default_rng(0), visits=0.0)
    bought(court.journal, many=400, accounts=200)
    court.hears_all()
    told = court.trust.told
    assert told.contents["c3"].low > 0.7
    assert max((one.low for name, one in told.contents.items() if name != "c3"), default=0.0) < 0.7


def test_a_ring_is_told_of(tmp_path):
    court, rng = Court(tmp_path), np.random.default_rng(1)
    honest(court.journal, rng)
    for day in range(3):
        for member in range(8):
            for creator in range(4):  # each visits a content of each, every day
                content = f"c{creator + 10 * (day % 2)}"
                visit(court.journal, f"r{day}-{member}-{creator}", content, f"m{member}", NOW + day * DAY_MS, True)
    court.hears_all()
    court.judge.search()
    court.judge._new = True
    court.judge.tell()
    assert set(court.trust.told.ring) == {f"by{n}" for n in range(4)}


def test_what_is_counted_by_hand(tmp_path):
    court = Court(tmp_path)
    journal = court.journal
    slate(journal, "d1", "u1", NOW, "v", None, ["c0", "c1"])
    feed_click(journal, "d1", 0, "c0", "u1", NOW)
    feed_click(journal, "d1", 0, "c0", "u1", NOW)  # told twice
    visit(journal, 1, "c0", "u2", NOW)
    visit(journal, 2, "c0", "u2", NOW)  # the same day: one visit with more told of it
    visit(journal, 3, "c0", "u2", NOW + DAY_MS, watched=True, shared=True)
    visit(journal, 4, "nobody's", "u2", NOW)
    court.hears_all()
    known = court.judge.known
    row = known.contents.at["c0"]
    of = {name: float(column[row]) for name, column in known.of_contents._asdict().items()}
    assert (of["shown"], of["clicks"], of["valid"]) == (1, 1, 1)
    assert (of["direct"], of["direct_valid"], of["direct_engaged"], of["strangers"], of["again"]) == (2, 1, 1, 2, 1)
    account = known.accounts.at["u2"]
    assert float(known.of_accounts.clicks[account]) == 2
    visits = known.visited()
    assert (visits.nnz, float(visits[account, row])) == (1, pytest.approx(1.9))  # a day fades the first


def test_an_event_that_comes_before_its_slate_counts(tmp_path):
    court = Court(tmp_path)
    feed_click(court.journal, "d1", 0, "c0", "u1", NOW)
    slate(court.journal, "d1", "u1", NOW, "v", None, ["c0", "c1"])
    feed_click(court.journal, "d1", 1, "c1", "another", NOW)  # not theirs to tell of
    court.hears_all()
    clicks = court.judge.known.of_contents.clicks
    assert clicks[court.judge.known.contents.at["c0"]] == 1
    assert clicks.sum() == 1


def test_killed_anywhere_each_entry_counts_once(tmp_path, monkeypatch):
    monkeypatch.setattr("upwell.online.reader.ENTRIES", 60)
    monkeypatch.setattr("upwell.service.order.HOLD_S", 0.0)
    steady, rng = Court(tmp_path, pace=Pace(1e9, 1e9, 1e9, 0.0)), np.random.default_rng(2)
    honest(steady.journal, rng)
    bought(steady.journal)
    other = Journal()
    other.entries = steady.journal.entries
    killed, random = Court(tmp_path, other, pace=steady.pace), np.random.default_rng(3)
    steady.hears_all()
    while killed.judge.offsets.get("p0", 0) < len(other.entries):
        for _ in range(int(random.integers(1, 6))):
            killed.judge.step()
            if random.random() < 0.4:
                killed.judge.save()
        killed.start()
    killed.hears_all()
    for one in (steady, killed):
        one.judge.save()
    ours, theirs = (unpacked(one.store.get("meta", [ID])[0]) for one in (steady, killed))
    for mine, other_of in ((ours.of_contents, theirs.of_contents), (ours.of_accounts, theirs.of_accounts)):
        for name in mine._fields:
            if name not in ("guilt", "strangers"):  # as of when they were counted
                np.testing.assert_array_equal(getattr(mine, name)[:-1], getattr(other_of, name)[:-1], err_msg=name)
    assert (ours.visits != theirs.visits).nnz == 0
    assert steady.store.offsets()["judge/p0"] == killed.store.offsets()["judge/p0"] == len(other.entries)


def test_a_store_that_is_away_is_asked_again(tmp_path, monkeypatch):
    monkeypatch.setattr("upwell.online.reader.AGAIN_S", 0.0)
    monkeypatch.setattr("upwell.service.order.HOLD_S", 0.0)
    court = Court(tmp_path, pace=Pace(0.0, 0.0, 0.0, 0.0))
    honest(court.journal, np.random.default_rng(0), days=1)
    writes, failures = flaky(court.store.write, 0.4)
    monkeypatch.setattr(court.store, "write", writes)
    end = time.monotonic() + 60
    many = len(court.journal.entries)
    court.judge.run(lambda: court.store.offsets().get("judge/p0", 0) < many and time.monotonic() < end)
    assert failures
    known = unpacked(court.store.get("meta", [ID])[0])
    assert known.of_contents.shown.sum() == 60 * len(CONTENTS)


def test_who_is_erased_is_forgotten(tmp_path):
    court = Court(tmp_path)
    bought(court.journal, many=20, accounts=4)
    value = wire.encoder.encode(wire.Erased(1, digest_of("bot1")))
    court.journal.append(CONTROL, "bot1", NOW + 2 * DAY_MS, value)
    court.hears_all()
    known = court.judge.known
    assert "bot1" not in known.accounts.names
    assert b"bot1" not in known.pack()
    assert {known.accounts.names[account] for account in known.visited().nonzero()[0]} == {"bot0", "bot2", "bot3"}
    again = unpacked(known.pack())
    assert again.account("bot1", NOW) == len(known.accounts)  # a new account, of whom nothing is known


def test_what_is_kept_comes_back():
    known = Known()
    known.content(Content(id="c", creator_id="b", tags=("t",), published_at=NOW))
    known.told(Interaction(event_id="e", content_id="c", user_id="u", ts=NOW, kind="click", clicked=True))
    known.told(Interaction(event_id="f", content_id="c", user_id="u", ts=NOW, kind="click", decision_id="later"))
    known.count(None)
    assert unpacked(known.pack()).pack() == known.pack()


# ---- what the service goes by


def taken(trusted: Trust):
    contents, users = Contents(), Users(0.0, 1)
    rows = {name: contents.put(Content(id=name, creator_id="b", published_at=NOW)) for name in CONTENTS}
    trusted.take(contents, users)
    return {name: float(contents.low[row]) for name, row in rows.items()}


def test_an_operators_word_stands_above_the_judges(tmp_path):
    court = Court(tmp_path)
    honest(court.journal, np.random.default_rng(0))
    bought(court.journal)
    court.hears_all()
    assert taken(court.trust)["c3"] > 0.7
    trust.appeal(court.store, "c3", Asked("honest", "I know them"), OPERATOR, NOW)
    trust.appeal(court.store, "c5", Asked("cheat"), OPERATOR, NOW)
    low = taken(court.trust)
    assert (low["c3"], low["c5"]) == (trust.CLEARED, 1.0)
    assert court.trust.of("c3")["consequence"] == "none"
    assert court.trust.of("c5")["consequence"] == "zeroed"
    trust.appeal(court.store, "c3", Asked(None), OPERATOR, NOW)
    assert taken(court.trust)["c3"] > 0.7
    said = [(one.who, one.name, one.what, one.of, one.why) for one in audit.read(court.store, 0, 10)]
    assert said == [
        ("operator", "Li", "trust: honest", "c3", "I know them"),
        ("operator", "Li", "trust: cheat", "c5", "it was no word"),
        ("operator", "Li", "trust", "c3", "it was honest"),
    ]


def test_words_are_not_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(trust, "MOST_APPEALS", 2)
    store = stocked()
    for name in ("c0", "c1", "c1"):
        trust.appeal(store, name, Asked("honest"), OPERATOR, NOW)
    with pytest.raises(Refused, match="take some back"):
        trust.appeal(store, "c2", Asked("honest"), OPERATOR, NOW)


def test_a_judge_that_is_silent_freezes_all_but_whom_an_operator_cleared(tmp_path):
    court = Court(tmp_path)
    court.judge.step()
    now_s = time.time()
    clocked = Trust(court.store, True, lambda: now_s)
    assert not clocked.silent()
    now_s += trust.SILENT_S + 1
    assert clocked.silent()
    assert not Trust(court.store, False, lambda: now_s).silent()
    low = np.array([trust.CLEARED, 0.0, 0.9], np.float32)
    assert trust.frozen(low, True).tolist() == [False, True, True]
    assert trust.frozen(low, False).tolist() == [False, False, True]


def test_a_store_in_memory_has_no_room_for_a_judge():
    from upwell.errors import BadRequest
    from upwell.service.settings import load

    with pytest.raises(BadRequest, match="trust: the judge is a process of its own"):
        load(trust=True, store="memory:")
