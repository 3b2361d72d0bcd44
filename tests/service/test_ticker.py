"""The slow tick, live: the books balance whatever happens, chances are given, cheats get nothing, grants fit."""

import numpy as np
import pytest
from service_samples import DAY_MS, NOW, known_user, request, shown
from ticker_samples import COLUMN, TICK_MS, Server

from upwell.regulator import slate, tick
from upwell.regulator.ledger import COIN
from upwell.service import ticker
from upwell.service.records import DIMS
from upwell.service.tables import NOBODY


def test_what_is_shown_while_a_tick_withdraws_the_grant_is_in_the_books():
    """Regression: impressions shown between a tick's beginning and its end were released too."""
    server = Server()
    row = server.add(1)
    server.tick()
    assert server.live.contents.left[row] > 3
    server.count(row, impressions=20_000)  # and not a click: it will not make it
    server.now += 4 * DAY_MS  # nor is it owed a chance any more
    server.begin()
    assert server.heat(row, 3) == 3
    assert server.books.outstanding(server.live.contents, np.asarray([row]))[0] >= 0


@pytest.mark.parametrize("bad", ["hopeless", "cheat"])
def test_a_grant_is_withdrawn_first_and_released_with_the_next_tick(bad):
    server = Server()
    row = server.add(1)
    server.tick()
    granted = int(server.live.contents.left[row])
    budget = int(server.books.of["budget_units"][row])
    if bad == "cheat":
        server.count(row, impressions=100, clicks=100)
    else:
        server.count(row, impressions=20_000)
        server.now += 4 * DAY_MS
    ticked = server.tick()
    assert not (ticked.grants.rows == row).any()
    assert ticked.outstanding[row] == 0  # to be shown no longer, wherever it is
    assert ticked.changes["released"][row] == 0
    assert server.heat(row, 5) == 0
    ticked = server.tick()
    assert ticked.changes["released"][row] == granted
    assert server.books.outstanding(server.live.contents, np.asarray([row]))[0] == 0
    price = int(server.books.of["price_units"][row])
    assert server.books.of["budget_units"][row] == (0 if bad == "cheat" else budget + granted * price)
    assert ticked.cheat[row] == (bad == "cheat")


def test_a_grant_that_servers_may_still_show_is_not_released():
    server = Server()
    row = server.add(1)
    server.tick()
    server.count(row, impressions=100, clicks=100)
    lent = np.zeros(len(server.live.contents.live), np.int64)
    lent[row] = 1
    for held in (lent, lent, 0 * lent):
        ticked = server.regulator.run(server.live.contents, 0.0, server.now, server.regulator.lease, None, {"": held})
        assert ticked.outstanding[row] == 0
        assert (ticked.changes["released"][row] > 0) == (held is not lent)


def varied(server: Server, many: int) -> None:
    """Contents owed no chance, of which the better ones are approved when they ask."""
    rng = np.random.default_rng(many)
    for n in range(many):
        row = server.add(n, age_days=3.1 + 5 * rng.random(), creator_followers=int(10 ** rng.uniform(0, 5)))
        impressions = int(rng.integers(0, 150))
        clicks = int(rng.binomial(impressions, rng.uniform(0, 0.1)))
        server.count(row, impressions=impressions, clicks=clicks, valid=int(rng.binomial(clicks, 0.7)))


def test_a_first_grant_that_takes_the_whole_budget_opens_the_account():
    """Regression: an account whose budget was spent at once counted as not opened, and had its budget again."""
    server = Server(first_ask=50.0)  # ten impressions, which cost all there is
    for n in range(60):
        row = server.add(n, age_days=3.1, creator_followers=4**n if n < 9 else 10**6)
        server.count(row, impressions=8, clicks=2 * (n < 9))
    rows = server.live.contents.all_rows
    granted = np.zeros(len(rows), int)
    for _ in range(30):
        granted += server.tick().changes["granted"][rows]
        for row in rows.tolist():
            server.heat(row, 10**6)
        server.now += TICK_MS // 10
    assert granted.max() == 10
    assert server.books.opened[rows].all()
    prices = server.books.of["price_units"][rows]
    assert (server.books.of["budget_units"][rows] == 100 * COIN - granted * prices).all()
    assert (server.books.of["budget_units"][rows] == 0).any()


@pytest.mark.parametrize("daily", [1.0, 7.0, 100.0])
def test_on_a_platform_with_hardly_any_traffic_no_price_overflows(daily):
    """Regression: at a few impressions a day the reference price did not fit 32 bits, and coins came from nowhere."""
    server = Server(daily_impressions=daily, live_contents=10_000.0, pool=1.0)
    rows = [server.add(n) for n in range(5)]
    for _ in range(40):
        ticked = server.tick()
        assert (server.books.of["price_units"][rows] >= 0).all()
        for row in rows:
            assert 0 <= server.books.of["budget_units"][row] <= 100 * COIN
            server.heat(row, 1)
        assert np.isfinite(ticked.changes["budget_units"]).all()
        server.now += TICK_MS
    spent = server.live.contents.counts[rows, COLUMN["heated"]] * server.books.of["price_units"][rows]
    assert (server.books.of["budget_units"][rows] + spent <= 100 * COIN).all()


def test_the_pool_is_the_days_and_paced():
    server = Server(pool=0.02, daily_impressions=50_000.0)  # 1,000 impressions; a chance is 17
    rows = [server.add(n) for n in range(300)]
    server.now -= server.now % DAY_MS
    granted = 0
    for _ in range(144):
        granted += int(server.tick().changes["granted"].sum())
        day_share = (server.now % DAY_MS) / DAY_MS
        assert granted <= 1_000 * min(day_share + 0.1, 1.0)
        for row in rows:
            server.heat(row, 10**6)
        server.now += TICK_MS
    assert granted > 900
    assert int(server.tick().changes["granted"].sum()) > 0  # a new day has a pool of its own
    assert server.books.granted_today <= 100


def test_a_day_begins_with_what_is_outstanding_taken_off():
    server = Server(pool=0.01)  # 300 impressions; a chance is 10
    for n in range(20):
        server.add(n)
    server.now += DAY_MS - server.now % DAY_MS - TICK_MS
    server.tick()
    carried = int(server.books.outstanding(server.live.contents, server.live.contents.all_rows).sum())
    assert carried == 200
    server.now += TICK_MS
    for n in range(20, 60):
        server.add(n)
    granted = 0
    for _ in range(140):
        granted += int(server.tick().changes["granted"].sum())
        server.now += TICK_MS
    assert server.books.carried == carried
    assert 50 < granted <= 100


def test_a_day_begins_once_and_pays_who_earns_clicks():
    server = Server()
    good, poor, old = server.add(1), server.add(2), server.add(3, age_days=8)
    server.tick()
    before = server.books.of["budget_units"].copy()
    server.count(good, impressions=100, clicks=10, valid=10)
    server.count(poor, impressions=100, clicks=2, valid=2)
    server.count(old, impressions=100, clicks=10, valid=10)
    server.now += DAY_MS
    day = ticker.new_day(server.settings, server.live.contents, server.books, server.now)
    assert day.batch.adds["grant"] == {"c1": {"budget_units": 50 * COIN}}
    np.testing.assert_array_equal(server.books.of["budget_units"], before)  # until it is written
    ticker.begun(server.books, day)
    gained = server.books.of["budget_units"] - before
    assert gained[[good, poor, old]].tolist() == [50 * COIN, 0, 0]


def test_the_same_tick_gives_the_same_grants():
    def once(number: int):
        server = Server()
        varied(server, 200)
        centres = server.live.contents.embedding[1:9]
        return ticker.once(
            server.settings, server.live.contents, server.books, centres, number, NOW, 0.0, 1.0, 0.02, 30_000.0,
            server.live.in_force.weights,
        )  # fmt: skip

    one, same, other = once(5), once(5), once(6)
    for name in one.changes:
        np.testing.assert_array_equal(one.changes[name], same.changes[name])
    np.testing.assert_array_equal(one.grants.rows, same.grants.rows)
    assert one.batch == same.batch
    assert one.changes["granted"].sum() > 0
    assert (one.changes["granted"] != other.changes["granted"]).any()  # whether a content asks is drawn anew


def test_a_tick_changes_nothing_until_it_is_applied():
    server = Server()
    for n in range(50):
        server.add(n)
    before = {name: values.copy() for name, values in server.books.of.items()}
    counts = server.live.contents.counts.copy()
    ticked = ticker.once(
        server.settings, server.live.contents, server.books, np.zeros((1, DIMS), np.float32), 1, NOW, 0.0, 1.0, 0.02,
        30_000.0, server.live.in_force.weights,
    )  # fmt: skip
    assert ticked.changes["granted"].sum() > 0
    for name, values in before.items():
        np.testing.assert_array_equal(server.books.of[name], values)
    np.testing.assert_array_equal(server.live.contents.counts, counts)
    assert not server.books.opened.any()
    ticker.applied(server.books, ticked)
    counters = {name: dict(counted) for name, counted in ticked.batch.adds["grant"].items()}
    for n in range(50):
        row = server.live.contents.rows.at[f"c{n}"]
        for name in ticker.BOOKS:
            assert server.books.of[name][row] == counters[f"c{n}"].get(name, 0)


def test_without_contents_a_tick_gives_nothing():
    server = Server()
    ticked = server.tick()
    assert (ticked.grants.rows == NOBODY).all()
    assert not server.live.contents.left.any()


# ---- who gets what


def test_proven_cheats_get_nothing_and_lose_their_budget():
    server = Server()
    cheats = [server.add(n) for n in range(10)]
    honest = [server.add(n) for n in range(10, 20)]
    for row in cheats:
        server.count(row, impressions=60, clicks=30)  # clicks that nobody watched
    for row in honest:
        server.count(row, impressions=60, clicks=30, valid=18)
    for _ in range(30):
        ticked = server.tick()
        assert ticked.cheat[cheats].all()
        assert not ticked.cheat[honest].any()
        assert not np.isin(ticked.grants.rows, cheats).any()
        server.now += TICK_MS
    assert not server.books.of["granted"][cheats].any()
    assert not server.books.of["budget_units"][cheats].any()
    assert (server.books.of["granted"][honest] > 0).all()
    for row in cheats:  # amends come too late: the budget is gone, after a restart too
        server.count(row, impressions=60, clicks=60, valid=60)
        assert server.books.opened[row]
    server.regulator = server.started()
    ticked = server.tick()
    assert not ticked.cheat[cheats].any()
    assert not ticked.changes["granted"][cheats].any()


def test_grants_are_matched_to_the_segments_that_they_suit_best():
    server = Server()
    for n in range(60):
        server.add(n)
    centres = server.live.contents.embedding[[1, 2, 3]].copy()
    server.regulator.centres = centres
    ticked = server.tick()
    assert ticked.grants.rows.shape == (3, ticker.PLACES)
    outstanding = server.books.outstanding(server.live.contents, np.arange(len(ticked.outstanding)))
    granted = np.flatnonzero(outstanding > 0)
    assert ticker.PLACES < len(granted) <= 4 * ticker.PLACES  # all can be looked at
    fit = centres @ server.live.contents.embedding[granted].T
    for segment in range(3):
        # All of them are owed a chance: those come first whom no other segment suits better.
        elsewhere = fit[segment] < fit.max(0)
        best = granted[np.lexsort((-fit[segment], elsewhere))][: ticker.PLACES]
        assert ticked.grants.rows[segment].tolist() == best.tolist()
        assert ticked.grants.rows[segment][0] == segment + 1


def test_with_more_grants_than_can_be_looked_at_all_get_their_turn():
    server = Server(pool=1.0, daily_impressions=300_000.0)
    rows = [server.add(n) for n in range(400)]
    seen: set[int] = set()
    for _ in range(60):
        seen |= set(server.tick().grants.rows.ravel().tolist())
        server.now += 1_000
    assert len(seen - {NOBODY}) > 0.9 * len(rows)


def test_with_fewer_grants_than_places_the_rest_is_nobodys():
    server = Server()
    rows = [server.add(n) for n in range(3)]
    ticked = server.tick()
    assert sorted(ticked.grants.rows[0].tolist()) == [NOBODY] * (ticker.PLACES - 3) + rows


def test_four_in_five_new_contents_get_their_chance_when_traffic_suffices():
    """The real thing: ticks, slates and clicks of three days and a bit, with new contents every hour."""
    rng = np.random.default_rng(3)
    server = Server(live_contents=200.0, daily_impressions=8_000.0, holdout=0.05, click_rate=0.05)
    live, scale = server.live, server.settings.scale
    for n in range(150):
        row = server.add(n, age_days=5 + n / 20)
        server.count(row, impressions=500, clicks=25, valid=15)
    for n in range(80):
        known_user(live, f"u{n}")
    born: dict[str, int] = {}
    server.now -= server.now % DAY_MS
    for step in range(4 * 72):  # a tick every twenty minutes
        if step % 3 == 0 and step < 72:
            for n in range(3):
                number = 1_000 + step + n
                server.add(number)
                born[f"c{number}"] = server.now
        server.tick(live.window_heated / max(live.window_shown, 1))
        names = list(live.contents.rows.at)
        users = rng.choice(80, 11, replace=False)
        batch = [request(f"u{u}", rng.choice(names[:150], 40, replace=False).tolist(), size=10) for u in users]
        for line in shown(live, batch, server.now):
            for place in line.places:
                row = live.contents.rows.at[place.id]
                if rng.random() < 0.05:
                    server.count(row, clicks=1, valid=int(rng.random() < 0.6))
        server.now += 20 * 60_000
    assert not live.failures
    heated = live.contents.counts[[live.contents.rows.at[name] for name in born], COLUMN["heated"]]
    assert len(born) == 72
    assert (heated >= 50.0 * scale).mean() >= 0.8
    assert (heated > 0).mean() >= 0.8
    total, hot = live.contents.counts[:, COLUMN["impressions"]].sum(), live.contents.counts[:, COLUMN["heated"]].sum()
    assert hot <= 0.2 * total
    left = server.books.outstanding(live.contents, live.contents.all_rows)
    assert (left >= 0).all()


def test_the_reference_price_buys_the_first_ask():
    server = Server()
    scale = server.settings.scale
    price = tick.reference_price(np, server.settings.first_ask, server.settings.budget, scale)
    assert price * server.settings.first_ask * scale == pytest.approx(100 * COIN, rel=0.01)
    assert slate.HEATED == 2
