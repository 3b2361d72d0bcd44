"""The slow tick and who cheats: frozen, zeroed, cleared by an operator, and what a silent judge means."""

import numpy as np
from ticker_samples import TICK_MS, Server

from upwell.regulator import tick
from upwell.regulator.trust.judge import FROZEN
from upwell.service import ticker, trust


def test_who_is_doubted_is_not_heated_and_heated_again_when_it_is_cleared_up():
    server = Server()
    row, other = server.add(1), server.add(2)
    server.live.contents.low[row] = FROZEN
    for _ in range(3):
        ticked = server.tick()
        assert not ticked.cheat[row]
        assert not (ticked.grants.rows == row).any()
        server.now += TICK_MS
    assert server.books.of["granted"][other] > 0
    assert server.books.of["granted"][row] == 0
    assert server.books.of["budget_units"][row] > 0  # it keeps what it has
    server.live.contents.low[row] = FROZEN - 0.1
    server.tick()
    assert server.books.of["granted"][row] > 0
    server.live.contents.low[row] = FROZEN
    server.tick()  # withdrawn
    ticked = server.tick()
    assert ticked.changes["released"][row] > 0
    assert server.books.outstanding(server.live.contents, np.asarray([row]))[0] == 0


def test_a_frozen_content_is_granted_nothing_even_if_it_asks():
    """The allocation itself holds, whatever an arm asks for."""
    state = tick.opened(np, 2, 100.0)._replace(frozen=np.array([True, False]))
    state = state._replace(ledger=state.ledger._replace(pool=np.int32(1_000)))
    asks = tick.Requests(np.full(2, 50, np.int32), np.ones(2, np.float32), np.zeros(2, bool))
    after = tick.allocate(
        np, state, asks, np.zeros(2, bool), np.full(2, 0.5), np.float32(10.0), np.float32(1_000.0), 0.2, 1.0, 1_000.0
    )  # fmt: skip
    assert after.ledger.outstanding.tolist() == [0, 50]
    assert after.ledger.budget[0] == state.ledger.budget[0]


def test_who_is_judged_to_cheat_loses_its_budget_and_an_operator_gives_it_back():
    server = Server()
    row = server.add(1)
    server.tick()
    price, granted = int(server.books.of["price_units"][row]), int(server.live.contents.left[row])
    budget = int(server.books.of["budget_units"][row])
    server.live.contents.low[row] = 1.0
    for _ in range(3):
        server.tick()
    assert server.books.of["budget_units"][row] == 0
    assert server.books.of["seized_units"][row] == budget + granted * price
    server.regulator = server.started()  # it is in the store
    server.live.contents.low[row] = 0.0  # the judge thinks better of it
    server.tick()
    assert server.books.of["budget_units"][row] == 0
    server.live.contents.low[row] = trust.CLEARED
    ticked = server.tick()
    spent = int(ticked.changes["granted"][row]) * int(server.books.of["price_units"][row])
    assert server.books.of["budget_units"][row] == budget + granted * price - spent
    assert server.books.of["seized_units"][row] == 0


def test_a_silent_judge_freezes_all_but_whom_an_operator_cleared():
    server = Server()
    row, cleared = server.add(1), server.add(2)
    server.live.contents.low[cleared] = trust.CLEARED
    regulator = server.regulator
    for _ in range(3):
        ticked = regulator.run(regulator.snapshot(), 0.0, server.now, regulator.lease, silent=True)
        regulator.take(ticked, server.now)
    assert server.books.of["granted"][row] == 0
    assert server.books.of["granted"][cleared] > 0
    server.tick()
    assert server.books.of["granted"][row] > 0


def test_doubted_clicks_do_not_count(monkeypatch):
    server, seen = Server(), []
    requests = ticker.policy.requests

    def heard(xp, known, *rest, **more):
        seen.append(known)
        return requests(xp, known, *rest, **more)

    monkeypatch.setattr(ticker.policy, "requests", heard)
    row = server.add(1)
    server.count(row, impressions=200, clicks=40, valid=30)
    server.live.contents.doubted[row] = 25.0, 10.0
    server.tick()
    assert (seen[0].clicks.tolist(), seen[0].valid.tolist()) == ([15.0], [20.0])
    server.live.contents.doubted[row] = 50.0, 50.0  # what was counted here lags behind the judge
    server.tick()
    assert (seen[1].clicks.tolist(), seen[1].valid.tolist()) == ([0.0], [0.0])
