"""The fast path's heated places: the cap, what a grant has left, whom it reaches."""

import numpy as np
import pytest
from service_samples import (
    HOUR_MS,
    NOW,
    asked,
    decided,
    request,
    server,
    shown,
)  # fmt: skip

from upwell.regulator import slate
from upwell.service import wire
from upwell.service.recommend import Window
from upwell.service.records import COUNTS


@pytest.mark.parametrize("size", range(1, 21))
def test_an_hour_of_slates_of_one_size_keeps_the_cap_at_every_moment(size):
    kept_the_cap(size, [size], 40)


def test_an_hour_of_slates_of_every_size_keeps_the_cap_at_every_moment():
    kept_the_cap(99, list(range(1, 21)), 150)


def kept_the_cap(seed: int, sizes: list[int], batches: int) -> None:
    """Grants for everybody, without end: only the cap holds them back. Few candidates now and then."""
    rng = np.random.default_rng(seed)
    live = server(seed, contents=60, users=120, segments=1, left=10**9, holdout=0.0, no_repeat_h=1e-3)
    live.contents.embedding[:] = 0.0
    live.contents.embedding[:, 0] = 1.0
    live.users.record["profile"] = live.contents.embedding[1].astype(np.float16)
    impressions = heated = most = 0
    step = HOUR_MS // (batches + 1)
    for number in range(batches):
        size = int(rng.choice(sizes))
        users = rng.choice(120, int(rng.integers(1, 30)), replace=False)
        few = rng.random() < 0.2
        width = int(rng.integers(0, size)) if few else 30
        ids = [[f"c{n}" for n in rng.choice(60, width, replace=False)] for _ in users]
        shadow = rng.random() < 0.1
        batch = [
            request(f"u{u}", one, size=size, shadow=bool(shadow and u % 2)) for u, one in zip(users, ids, strict=True)
        ]
        for line in shown(live, batch, NOW + number * step):
            hot = sum(p.kind == slate.HEATED for p in line.places)
            assert hot <= max(1, size // 5)
            impressions += len(line.places)
            heated += hot
        assert heated <= live.settings.cap * impressions
        most = max(most, heated)
    assert not live.failures
    a_slate = min(live.settings.cap, min(max(1, size // 5) / size for size in sizes))
    assert most > 0.75 * a_slate * impressions  # nothing but the cap held it back


@pytest.mark.parametrize("cap", [0.0, 0.07, 0.5])
def test_whatever_the_cap_is_it_holds(cap):
    live = server(8, left=10**9, holdout=0.0, cap=cap)
    impressions = heated = 0
    for number in range(60):
        batch = [request(f"u{u}", [f"c{n}" for n in range(100)], size=5) for u in range(number % 4, 60, 7)]
        for line in shown(live, batch, NOW + number * 50_000):
            impressions += len(line.places)
            heated += sum(p.kind == slate.HEATED for p in line.places)
        assert heated <= cap * impressions
    assert (heated > 0) == (cap > 0)


def test_at_the_cap_the_reason_says_so():
    live = server(8, left=10**9, holdout=0.0)
    one = [asked(live, request("u1", [f"c{n}" for n in range(40)], size=10), "d")]
    for window, slots in ((Window(1_000_000, 0, 1.0), 2), (Window(91, 19, 1.0), 1), (Window(90, 20, 1.0), 0)):
        got = decided(live, one, 10, window=window)
        assert got.question.slots[0, 0] == slots
        assert (got.picked.kind == slate.HEATED).sum() == slots
        codes = [wire.reason_names(bits) for bits in got.bits[0, 0].tolist()]
        assert sum("cap_reached" in code for code in codes) == 2 - slots


@pytest.mark.parametrize("left", [1, 2, 5])
def test_a_grant_is_shown_no_more_often_than_it_has_impressions_left(left):
    rng = np.random.default_rng(left)
    live = server(left, segments=2, left=left, holdout=0.0)
    had = live.contents.left.copy()
    times: dict[str, int] = {}
    for number in range(5 + 5 * left):
        size = int(rng.integers(5, 21))
        batch = [
            request(f"u{u}", [f"c{n}" for n in range(150)], size=size, shadow=bool(number % 3 == 0 and u % 4))
            for u in range(0, 60, 2)
        ]
        for line in shown(live, batch, NOW + number * 60_000):
            for place in line.places:
                if place.kind == slate.HEATED:
                    times[place.id] = times.get(place.id, 0) + 1
    assert not live.failures
    for name, row in live.contents.rows.at.items():
        assert times.get(name, 0) <= had[row]
        assert live.contents.left[row] == had[row] - times.get(name, 0)
    assert max(times.values()) == left


def test_grants_of_contents_that_are_gone_are_not_shown():
    live = server(9, left=1_000, holdout=0.0)
    heated = {live.contents.rows.names[row] for row in np.unique(live.grants.rows) if row}
    gone = sorted(heated)[::2]
    for name in gone:
        live.contents.forget(name)
    seen: set[str] = set()
    for number in range(20):
        (line,) = shown(live, [request(f"u{number}", [f"c{n}" for n in range(40)], size=10)], NOW + number)
        assert all(p.id for p in line.places)
        seen |= {p.id for p in line.places if p.kind == slate.HEATED}
    assert not live.failures
    assert seen
    assert not seen & set(gone)


def test_users_in_segments_that_the_last_tick_did_not_know_are_served_by_the_rules():
    """Segments are found anew before grants are matched to them; until then there are more cells than rows."""
    live = server(9, segments=1)
    live.users.segment[:] = 7
    (line,) = shown(live, [request("u1", [f"c{n}" for n in range(40)])])
    assert not live.failures
    assert line.arm == "rules"


def test_the_chance_a_content_is_owed_is_told_from_a_grant():
    live = server(9, segments=1, holdout=0.0, chance=50.0)
    scale, heated = live.settings.scale, COUNTS.index("heated")
    assert 50.0 * scale == 10.0
    codes: dict[bool, set[str]] = {True: set(), False: set()}
    for number in range(30):
        before = live.contents.counts[:, heated].copy()
        (line,) = shown(live, [request(f"u{number}", [f"c{n}" for n in range(40)], size=10)], NOW + number)
        for place in line.places:
            if place.kind == slate.HEATED:
                codes[bool(before[live.contents.rows.at[place.id]] < 10)] |= set(place.reasons)
    assert codes == {True: {"heated:chance"}, False: {"heated:grant"}}


def test_grants_reach_only_users_whom_they_suit():
    """The gate lets anyone in while a content is unknown, but nobody whose taste is the opposite."""
    live = server(9, segments=1, holdout=0.0, left=10**6)
    taste = live.users.record["profile"][live.users.rows.at["u1"]].astype(np.float32)
    heated = []
    for sign in (1.0, -1.0):
        live.contents.embedding[1:] = sign * taste
        got = decided(live, [asked(live, request("u1", [f"stranger{n}" for n in range(30)]), "d")], 10)
        heated.append(int((got.picked.kind == slate.HEATED).sum()))
    assert heated == [2, 0]


def test_the_cap_is_of_the_hour_on_the_clock():
    """What an earlier hour left unheated is not made up for."""
    live = server(8, left=10**9, holdout=0.0)
    ids = [f"stranger{n}" for n in range(30)]
    live.contents.left[:] = 0
    for n in range(60):
        shown(live, [request(f"u{n}", ids, size=5)], NOW)
    live.contents.left[:] = 10**9
    hour = NOW - NOW % HOUR_MS + HOUR_MS
    kinds = [shown(live, [request(f"u{n}", ids, size=1)], hour)[0].places[0].kind for n in range(6)]
    assert kinds[:4] == [slate.ORGANIC] * 4
    assert slate.HEATED in kinds
