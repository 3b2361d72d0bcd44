"""Experiments that split money: each arm heats out of its own purse; coins move between purses and are never made."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import msgspec
import numpy as np
import pytest
from inside import Inside, inside
from purse_samples import FULL, A, B, arm, worth
from service_samples import DAY_MS, known_user, request, shown
from ticker_samples import ANN, COLUMN, TICK_MS, Server

from upwell.regulator.assignment import Table, unit_id
from upwell.regulator.layers import Layer
from upwell.regulator.ledger import COIN
from upwell.regulator.slate import HEATED, ORGANIC
from upwell.service import experiments, purses, wire
from upwell.service.live import Live
from upwell.service.memory import Memory
from upwell.service.tables import NOBODY


def quarters(server: Server, **of_b) -> None:
    server.split("halves", arm("a", 0.25, 0.5), arm("b", 0.25, 0.5, **of_b))


# ---- by hand


def test_two_arms_of_a_quarter_have_a_quarter_of_every_account():
    server = Server(pool=0.01, chance=60.0, first_ask=1_000.0)
    rows = [server.add(n) for n in range(1, 7)]
    quarters(server)
    server.tick()
    # Scale is a fifth: a chance is 12 impressions, of which each arm owes 3 and everybody's purse 6.
    for row in rows:
        accounts = server.of(row)
        for purse, part, chance in (("", 50, 6), (A, 25, 3), (B, 25, 3)):
            one = accounts[purse]
            assert one["granted"] == chance
            assert one["budget_units"] + chance * one["price_units"] == part * COIN
        assert worth(server, row) == FULL


def test_two_arms_of_a_quarter_have_a_quarter_of_the_pool():
    server = Server(pool=0.002, chance=60.0)
    rows = [server.add(n) for n in range(1, 31)]
    quarters(server)
    server.now += DAY_MS // 2  # late in the day: the pool is not paced any more
    for _ in range(3):
        server.tick()
        for row in rows:
            for purse in ("", A, B):
                server.heat(row, 10_000, purse)
    # Of a pool of 60 impressions, all of it spent on chances of 6, 3 and 3.
    assert {name: books.used_today for name, books in server.regulator.every.items()} == {"": 30, A: 15, B: 15}


def test_a_small_chance_is_parted_and_not_given_by_each_arm():
    """Of three impressions an arm of a quarter owes .75 in the mean: one of most contents, none of the others."""
    server = Server(pool=0.1, chance=15.0)
    rows = [server.add(n) for n in range(1, 201)]
    server.split("four", *(arm(name, 0.25) for name in "abcd"))
    for _ in range(8):
        server.now += TICK_MS
        server.tick()
    granted = np.array([[server.of(row)[f"four/{name}"]["granted"] for name in "abcd"] for row in rows])
    assert (granted.sum(1) == 3).all()
    assert set(granted.ravel().tolist()) == {0, 1}
    assert np.abs(granted.mean(0) - 0.75).max() < 4.0 * np.sqrt(0.75 * 0.25 / 200)


def test_what_one_arm_spends_no_other_has_less_of():
    server = Server(pool=0.1, chance=60.0)
    row = server.add(1)
    quarters(server)
    server.tick()
    before = server.of(row)
    spent = server.heat(row, 3, A)
    assert spent == 3
    after = server.of(row)
    assert after[A]["outstanding"] == before[A]["outstanding"] - 3
    assert after[""] == before[""]
    assert after[B] == before[B]
    contents = server.live.contents
    assert (contents.left_in(A)[row], contents.left_in(B)[row]) == (0, 3)
    assert contents.counts[row, COLUMN["heated"]] == 3
    server.now += TICK_MS
    server.tick()
    assert server.of(row)[B]["outstanding"] == 3


@pytest.mark.parametrize("settings", [{"heating": False}, {"mode": "ranker"}])
def test_an_arm_that_heats_nothing_grants_nothing_and_keeps_its_coins(settings):
    server = Server()
    row = server.add(1)
    quarters(server, **settings)
    for _ in range(3):
        server.tick()
        server.now += TICK_MS
    assert server.of(row)[B]["granted"] == 0
    assert server.of(row)[B]["budget_units"] == FULL // 4
    assert server.of(row)[A]["granted"] > 0


def test_when_it_is_over_coins_come_back_and_what_is_outstanding_is_released():
    server = Server(chance=50.0)
    row = server.add(1)
    server.tick()
    quarters(server)
    server.now += TICK_MS
    server.tick()
    assert server.heat(row, 1, A) == 1
    paid = server.of(row)[A]["price_units"]
    left = server.of(row)[A]["outstanding"]
    assert left > 0
    server.experiment(lambda every: every.stop("halves", ANN, server.now, ""))
    ticked = server.tick()  # withdrawn
    assert (ticked.arms[A].grants.rows == NOBODY).all()
    assert server.heat(row, 1, A) == 0
    assert server.of(row)[A]["budget_units"] == 0
    ticked = server.tick()  # released
    assert ticked.arms[A].changes["released"][row] == left
    server.tick()  # closed
    assert server.regulator.purses == {}
    assert worth(server, row) == FULL - paid
    assert server.books.outstanding(server.live.contents, np.asarray([row]))[0] >= 0
    anew = server.started()
    anew.run(server.live.contents, 0.0, server.now, anew.lease)
    assert anew.purses == {}


def test_a_ramp_shares_out_anew_what_there_is():
    server = Server(chance=1.0)
    row = server.add(1, age_days=20.0)
    quarters(server)
    server.tick()
    of = server.of(row)
    assert [of[name]["budget_units"] for name in ("", A, B)] == [FULL // 2, FULL // 4, FULL // 4]
    server.experiment(lambda every: every.ramp("halves", {"a": 0.5, "b": 0.1}, ANN, server.now, ""))
    server.now += TICK_MS
    server.tick()
    of = server.of(row)
    assert [of[name]["budget_units"] for name in ("", A, B)] == [FULL * 4 // 10, FULL // 2, FULL // 10]


def test_agents_of_all_purses_see_each_heated_impression_once():
    server = Server(chance=60.0)
    row = server.add(1)
    server.tick()
    assert server.heat(row, 8) == 8
    quarters(server)
    server.now += TICK_MS
    server.tick()
    # Of the chance of 12 the content had 8: each arm sees 2 of them and owes it 3.
    of = server.of(row)
    assert (of[A]["inherited"], of[B]["inherited"]) == (2, 2)
    assert of[A]["granted"] <= 3
    server.heat(row, 1, A)
    seen = purses.seen(server.live.contents, server.regulator.every)
    assert sum(int(each[0]) for each in seen.values()) == server.live.contents.counts[row, COLUMN["heated"]] == 9


def test_what_an_arms_users_are_shown_is_paid_from_its_purse_and_folds_the_same_from_the_log():
    server = Server(chance=500.0, holdout=0.0, cap=1.0)
    for n in range(1, 20):
        server.add(n)
    quarters(server)
    users = [f"u{n}" for n in range(40)]
    for user in users:
        known_user(server.live, user)
    server.tick()
    assert server.live.arms is not None
    other = Memory(server.settings, "other")
    for name, row in server.live.contents.rows.at.items():
        other.add_content(server.live.contents.info[row], {})
        assert name in other.contents.rows.at
    heated = dict.fromkeys(("", A, B), 0)
    for n in range(3):
        for line in shown(server.live, [request(user, ["x1", "x2"], size=10) for user in users], server.now + n):
            its = server.live.arms.of(line.user_id, 0, server.now)[0].purse
            assert line.purse == its
            heated[its] += sum(place.kind == HEATED for place in line.places)
            other.show(line, b"")
    assert all(heated.values())
    rows = server.live.contents.all_rows
    for purse, many in heated.items():
        assert server.live.contents.spent(purse, rows).sum() == many
        assert other.contents.spent(purse, other.contents.all_rows).sum() == many
    saved = other.unsaved()
    assert saved is not None
    fresh = Live(server.settings, "fresh")
    for name, row in other.contents.rows.at.items():
        fresh.add_content(other.contents.info[row], saved.adds["content"].get(name, {}))
    for purse, many in heated.items():
        assert fresh.contents.spent(purse, fresh.contents.all_rows).sum() == many
    assert not server.live.failures


# ---- co-diverted


def diverted(**settings) -> tuple[Server, dict[str, str]]:
    """A server on which a third of users and contents are each arm's; and whose each content is, by purse."""
    server = Server(holdout=0.0, cap=1.0, chance=50.0, **settings)
    rows = {f"c{n}": server.add(n) for n in range(1, 61)}
    server.split("halves", arm("a", 0.3), arm("b", 0.3), design="co_diverted")
    table = Table(Layer(name="main", experiments=experiments.read(server.store)[1].layers()[0].experiments), 0.0)
    codes = {id: table.arm_of(unit_id(id), 0, (unit_id(id), unit_id(id))) for id in rows}
    return server, {id: ("", A, B)[code + 1] for id, code in codes.items()}


def test_co_diverted_a_contents_money_is_all_its_own_arms():
    server, whose = diverted()
    assert min([*whose.values()].count(purse) for purse in ("", A, B)) > 10
    server.tick()
    for name, purse in whose.items():
        for other, one in server.of(server.live.contents.rows.at[name]).items():
            here = other == purse
            assert one["budget_units"] + one["outstanding"] * one["price_units"] == here * FULL
            assert one["granted"] == here * 10, "the whole chance, out of its own purse alone"
    server.experiment(lambda every: every.stop("halves", ANN, server.now, ""))
    for _ in range(3):
        server.tick()
    assert server.regulator.purses == {}
    for name in whose:
        assert worth(server, server.live.contents.rows.at[name]) == FULL


def test_what_everybody_was_granted_before_goes_to_the_arm_that_the_content_is_dealt_to():
    server = Server(chance=50.0)
    rows = [server.add(n) for n in range(1, 31)]
    server.tick()
    assert all(server.of(row)[""]["outstanding"] == 10 for row in rows)
    server.split("halves", arm("a", 0.5), arm("b", 0.5), design="co_diverted")
    for _ in range(4):
        server.tick()
    for row in rows:
        of = server.of(row)
        assert (of[""]["budget_units"], of[""]["outstanding"]) == (0, 0)
        assert sorted(of[name]["granted"] for name in (A, B)) == [0, 10]
        assert worth(server, row) == FULL


@pytest.mark.parametrize("mode", ["rules", "ranker"])
def test_co_diverted_users_are_shown_their_arms_contents_while_there_are_enough(mode):
    server, whose = diverted()
    server.live.obey(mode.encode())
    users = [f"u{n}" for n in range(60)]
    for user in users:
        known_user(server.live, user)
    server.tick()
    strangers = [f"x{n}" for n in range(40)]
    units = [unit_id(name) for name in strangers]
    assert server.live.arms is not None
    for ids, size in ((list(whose), 5), (strangers, 5), (list(whose)[:6], 6)):
        lines = shown(server.live, [request(user, ids, size=size) for user in users], server.now)
        seen = set()
        for line in lines:
            play = server.live.arms.of(line.user_id, 0, server.now)[0]
            assert len(line.places) == size, "nobody's slate is shorter for it"
            seen.add(play.purse)
            if play.reach is None or size == 6:
                continue
            own = {name for name, yes in zip(strangers, play.reach.has(np.array(units, np.uint32)), strict=True) if yes}
            own |= {name for name, purse in whose.items() if purse == play.purse}
            assert {place.id for place in line.places} <= own
        assert seen == {"", A, B}
        for line in lines:  # of six candidates and a slate of six all are shown, the arm's own first
            play = server.live.arms.of(line.user_id, 0, server.now)[0]
            if size == 6 and play.reach is not None:
                organic = [place.id for place in line.places if place.kind == ORGANIC]
                mine = [whose[name] == play.purse for name in organic]
                assert mine == sorted(mine, reverse=True)
        assert {tuple(place.id for place in wire.again(line)) for line in lines if line.question} == {
            tuple(place.id for place in line.places) for line in lines if line.question
        }
        server.now += DAY_MS
    assert not server.live.failures


# ---- over HTTP


def test_from_its_beginning_to_its_end_over_http_with_a_restart_in_between(tmp_path):
    arms = [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5, "settings": {"mode": "rules"}}]
    wanted = {"experiment": {"name": "halves", "design": "budget_split", "arms": arms}}
    given = {
        "holdout": 0.0, "cap": 1.0, "chance": 150.0, "pool": 1.0, "daily_impressions": 30_000.0, "live_contents": 300.0
    }  # fmt: skip
    heated = {A: 0, B: 0}

    async def slates(one: Inside, users: range) -> None:
        for n in users:
            body = {"user_id": f"u{n}", "candidates": [{"id": f"x{i}", "score": 1.0} for i in range(6)], "size": 5}
            answer = await one.done("POST", "/recommend", body)
            its = (await one.done("GET", f"/decisions/{answer['decision_id']}"))["experiments"]["halves"]
            heated[f"halves/{its}"] += sum(item["heated"] for item in answer["items"])

    async def state(one: Inside) -> dict[str, dict]:
        return {id: await one.done("GET", f"/contents/{id}") for id in "abc"}

    async def begin():
        async with inside(tmp_path, **given) as one:
            await one.node.tick()
            assert (await one("POST", "/experiments", wanted)).status_code == 201
            another = msgspec.json.decode(msgspec.json.encode(wanted))
            another["layer"] = "second"
            del another["experiment"]["arms"][1]["settings"]
            another["experiment"]["name"] = "other"
            refused = await one("POST", "/experiments", another)
            assert refused.status_code == 409
            assert "halves splits the pool" in refused.json()["error"]["message"]
            await one.node.tick()
            found = await state(one)
            for told in found.values():
                assert told["budget_coins"] < 100.0
                assert {purse: its["granted"] for purse, its in told["purses"].items()} == {A: 15, B: 15}
                # What was granted before goes back: nobody is left whom it was for.
                assert (told["grant"]["granted"], told["grant"]["released"]) == (30, 0)
            for _ in range(2):
                await one.node.tick()
            for told in (await state(one)).values():
                assert told["grant"]["released"] == 30
                assert [line["released"] for line in told["story"] if line["what"] == "returned"] == [30]
            await slates(one, range(30))
            assert all(heated.values())
            await one.node.saver.flush()
            return await state(one)

    async def end(before):
        async with inside(tmp_path, **given) as one:
            assert await state(one) == before
            await one.node.tick()
            await slates(one, range(30, 50))
            spent = {
                purse: sum(told["purses"][purse]["spent"] for told in (await state(one)).values()) for purse in (A, B)
            }
            assert spent == heated
            assert (await one("DELETE", "/experiments/halves")).status_code == 200
            paid = {
                id: sum(its["spent"] * its["price_coins"] for its in told["purses"].values())
                for id, told in (await state(one)).items()
            }
            for _ in range(3):
                one.wait(2_000)
                await one.node.tick()
            for id, told in (await state(one)).items():
                assert told["purses"] == {}
                grant = told["grant"]
                assert told["budget_coins"] + grant["outstanding"] * grant["price_coins"] == pytest.approx(
                    100 - paid[id]
                )
                assert told["counts"]["heated"] > 0
                assert grant["spent"] == 0, "all was shown by the arms"
            assert not one.node.live.failures

    asyncio.run(end(asyncio.run(begin())))


def test_parts_are_the_shares_of_users():
    server = Server()
    quarters(server)
    assert server.live.arms is not None
    split = server.live.arms.split
    assert split is not None
    assert {name: Fraction(share) for name, share in purses.shares(split).items()} == {
        A: Fraction(1, 4), B: Fraction(1, 4), "": Fraction(1, 2),
    }  # fmt: skip
    dealt = purses.dealt(split, np.full(2_000, 3), np.arange(2_000))
    assert (sum(dealt.values()) == 3).all()
    assert dealt[A].mean() == pytest.approx(0.75, abs=0.05), "small amounts favour no arm"
