"""Arms' purses where several servers show what a worker grants."""

from __future__ import annotations

import asyncio

from purse_samples import A, B, arm
from several import Several

from upwell.model import Candidate, Request
from upwell.regulator.layers import Experiment
from upwell.regulator.ledger import COIN
from upwell.service import experiments
from upwell.service.audit import Who
from upwell.service.experiments import Plan
from upwell.service.node import Node
from upwell.service.records import purse_of

ANN = Who("operator", "Ann")
OTHERS = tuple(Candidate(id=f"x{n}", score=1.0) for n in range(5))


def halves(all_of: Several) -> None:
    arms = arm("a", 0.5), arm("b", 0.5)
    plan = Plan(Experiment(name="halves", arms=arms, design="budget_split"))
    experiments.change(all_of.store, lambda every: every.begin(plan, ANN, all_of.now))


def accounts(all_of: Several, name: str) -> dict[str, dict[str, int]]:
    """Of a content, by purse: the books' counters, and heated impressions that are folded."""
    (grant,), (counts,) = all_of.store.counters("grant", [name]), all_of.store.counters("content", [name])
    out: dict[str, dict[str, int]] = {"": {}, A: {}, B: {}}
    for counters in (grant, counts):
        for counter, n in counters.items():
            what, purse = purse_of(counter)
            out[purse][what] = n
    out[""]["heated"] = out[""].get("heated", 0) - sum(out[purse].get("heated", 0) for purse in (A, B))
    return out


async def heat(all_of: Several, node: Node, purse: str, many: int) -> int:
    """Slates of an arm's users until ``many`` were heated, or none is any more."""
    done, tried = 0, 0
    assert node.live.arms is not None
    while done < many and tried < 60:
        user = next(all_of.users)
        if node.live.arms.of(user, 0, all_of.now)[0].purse == purse:
            tried += 1
            answer = await node.recommend(Request(user_id=user, candidates=OTHERS, size=5))
            done += sum(item.heated for item in answer.items)
    return done


def test_each_arm_spends_its_own_on_every_server_and_all_comes_back(tmp_path):
    async def run():
        all_of = Several(tmp_path, chance=150.0, cap=1.0)  # 30 impressions, of which each arm owes the half
        all_of.contents("a")
        halves(all_of)
        first, second = await all_of.server(), await all_of.server()
        for node in (first, second):
            await node.follow_changes()
        for _ in range(3):
            await all_of.tick(first, second)
        found = accounts(all_of, "a")
        assert (found[A]["granted"], found[B]["granted"], found[""].get("granted", 0)) == (15, 15, 0)
        row = first.live.contents.rows.at["a"]
        for purse in (A, B):
            assert sum(int(node.live.contents.left_in(purse)[row]) for node in (first, second)) == 15
        # The first arm spends all that this server may show of its own; the other's is untouched.
        left = int(first.live.contents.left_in(A)[row])
        assert await heat(all_of, first, A, 99) == left
        assert await heat(all_of, second, B, 2) == 2
        assert first.live.contents.left_in(A)[row] == 0
        for _ in range(3):
            await all_of.tick(first, second)
        assert sum(int(node.live.contents.left_in(A)[row]) for node in (first, second)) == 15 - left
        all_of.restart()
        for _ in range(2):
            await all_of.tick(first, second)
        # It ends; a server that has not heard of it goes on for a while, and is waited for.
        experiments.change(all_of.store, lambda every: every.stop("halves", ANN, all_of.now, ""))
        await all_of.tick(first)
        late = await heat(all_of, second, B, 3)
        assert late == 3
        for _ in range(3):
            await all_of.tick(first)
        assert accounts(all_of, "a")[B].get("released", 0) == 0
        await second.follow_changes()
        for _ in range(2):
            await all_of.tick(first, second)
        assert accounts(all_of, "a")[B].get("released", 0) == 0, "what was shown is not folded yet"
        all_of.fold()
        for _ in range(4):
            await all_of.tick(first, second)
        found = accounts(all_of, "a")
        for purse, spent in ((A, left), (B, 5)):
            one = found[purse]
            assert (one["granted"], one["heated"], one["released"]) == (15, spent, 15 - spent)
            assert (one["budget_units"], one["stage"]) == (0, 0)
        paid = sum(found[purse]["heated"] * found[purse]["price_units"] for purse in (A, B))
        base = found[""]
        out = (base.get("granted", 0) - base.get("released", 0)) * base.get("price_units", 0)
        assert base["budget_units"] + out == round(all_of.settings.budget * COIN) - paid
        assert all_of.worker.regulator.purses == {}
        assert all_of.worker.allowances.keys() == {""}
        assert not first.live.purses
        assert not first.live.failures

    asyncio.run(run())
