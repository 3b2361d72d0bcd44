"""The proposer: takes goals that wait, and writes what it found, or why it found nothing, into the store."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest

from upwell.errors import BadRequest
from upwell.experiment import proposing
from upwell.experiment.search import search
from upwell.goals.goal import Aim, Effect, Goal, Proposal, Refusal
from upwell.model import Weights
from upwell.online import proposer
from upwell.online.proposer import Pace, Proposer, arm_of, past_of, sized
from upwell.service.audit import GUARD, PROPOSER, Who
from upwell.service.course import Course
from upwell.service.settings import Settings, load
from upwell.state import Batch, StoreDown, open_store
from upwell.world.config import reference_world, to_toml

ANN = Who("operator", "Ann")
NEAR = Weights(user_satisfaction=0.35, platform_revenue=0.35, long_term=0.3)
UP = Aim(metric="gmv_per_dau", direction="up")


def goal(id: str, **given) -> Goal:
    return Goal(**{"id": id, "text": "raise GMV", "created_at": 1, "aims": (UP,)} | given)


class Bench:
    """A proposer whose simulation is what the test says."""

    def __init__(self, folder, monkeypatch, **given) -> None:
        world = folder / "world.toml"
        world.write_text(to_toml(reference_world()))
        self.settings = Settings(data=folder, goals_world=world, policy="", **given)
        self.store = open_store("memory:")
        self.course = Course(self.store, self.settings.weights)
        self.asked = []
        self.found = lambda goal: Proposal(
            goal_id=goal.id, weights=NEAR, source="search", created_at=2, meets=True,
            predicted={"gmv_per_dau": Effect(before=5.0, after=5.5, change=0.5, low=0.2, high=0.8)},
        )  # fmt: skip
        monkeypatch.setattr(proposer, "propose", self.propose)
        monkeypatch.setattr(proposer, "AGAIN_S", 0.0)
        self.proposer = Proposer(self.settings, self.store)

    def propose(self, goal, platforms, now, at_ms, asking):
        self.asked.append((goal.id, now, asking))
        return self.found(goal)

    def ask(self, *ids: str) -> None:
        for id in ids:
            self.course.change(lambda goals, id=id: goals.ask(goal(id), ANN, 1), 1)

    def states(self) -> dict[str, str]:
        return {one.goal.id: one.state for one in self.course.read(9).goals}

    def why(self, id: str) -> str:
        return self.course.read(9).of(id).history[-1].why


@pytest.fixture
def bench(tmp_path, monkeypatch):
    return Bench(tmp_path, monkeypatch)


def test_a_model_is_told_of_the_real_platform_where_it_is_known(tmp_path, monkeypatch):
    bench = Bench(tmp_path, monkeypatch, llm_url="http://127.0.0.1:9/v1")
    bench.ask("a")
    bench.proposer.step()
    assert bench.asked[-1][2].state == {}  # of the simulated one, then
    batch = Batch()
    batch.put("meta", "figures", msgspec.msgpack.encode({"dau": 70.0, "d1_retention": 0.6}))
    sums = {
        "daily": 200,
        "fen": 90_000,
        "seconds": 24_000,
        "impressions": 10_000,
        "clicks": 700,
        "valid": 400,
        "shares": 50,
    }
    for side, part in (("free3", 3), ("held7", 1)):
        batch.add("meta", "weights 0", {f"{side}_{name}": n * part // 4 for name, n in sums.items()})
    bench.store.write(batch)
    bench.ask("b")
    bench.proposer.step()
    assert bench.asked[-1][2].state == pytest.approx({
        "dau": 70.0, "d1_retention": 0.6, "gmv_per_dau": 4.5, "watch_minutes_per_dau": 2.0, "impressions_per_dau": 50.0,
        "ctr": 0.07, "real_engagement": 0.05, "heated_share": 0.0,
    }, rel=0.01)  # fmt: skip


def test_goals_that_wait_are_proposed_for_the_oldest_first(bench):
    assert not bench.proposer.step()
    bench.ask("a", "b")
    assert bench.proposer.step()
    assert bench.states() == {"a": "proposed", "b": "asked"}
    assert bench.proposer.step()
    assert not bench.proposer.step()
    assert [id for id, _, _ in bench.asked] == ["a", "b"]
    assert bench.asked[0][1].weights == bench.course.base
    history = bench.course.read(9).of("a").history
    assert [(one.what, one.who) for one in history[1:]] == [("proposing", "proposer"), ("proposed", "proposer")]
    (told,) = [e for e in bench.store.tail("meta", "audit", 99) if b"goal_proposed" in e and b'"of":"a"' in e]
    assert b'"change":0.5' in told


def test_within_bounds_it_is_in_force_at_once(tmp_path, monkeypatch):
    bench = Bench(tmp_path, monkeypatch, goals_auto=0.1)
    bench.ask("a", "b")
    bench.proposer.step()
    assert bench.states()["a"] == "live"
    first = bench.found

    def meanwhile(goal):
        bench.course.change(lambda goals: goals.lift("a", "", ANN, 5), 5)
        return first(goal)

    bench.found = meanwhile  # what it was proven against holds no more
    bench.proposer.step()
    assert bench.states() == {"a": "lifted", "b": "proposed"}


def test_what_fails_says_so(bench):
    bench.ask("a", "b", "c")

    def raises(goal):
        raise BadRequest("no metric") if goal.id == "a" else ValueError("what nobody thought of")

    bench.found = raises
    bench.proposer.step()
    bench.proposer.step()
    bench.found = lambda goal: Proposal(
        goal_id=goal.id, weights=bench.course.base, source="fallback", created_at=2, model="m", answer="nothing",
        rejected=(Refusal(what="search", why="scores -1"),),
    )  # fmt: skip
    bench.proposer.step()
    assert bench.states() == dict.fromkeys("abc", "failed")
    assert (bench.why("a"), bench.why("b")) == ("no metric", "ValueError: what nobody thought of")
    assert bench.why("c") == "nothing better than the present weights was found (search: scores -1)"
    assert bench.course.read(9).of("c").proposal.answer == "nothing"


def test_a_proposer_that_died_says_so_and_does_not_begin_anew(bench):
    bench.ask("a")

    def dies(goal):
        raise SystemExit

    bench.found = dies
    with pytest.raises(SystemExit):
        bench.proposer.step()
    assert bench.states() == {"a": "proposing"}
    again = Proposer(bench.settings, bench.store)
    assert not again.step()
    assert bench.states() == {"a": "failed"}
    assert "died" in bench.why("a")


def test_an_operators_word_while_it_looks_counts(bench):
    own = Proposal(goal_id="a", weights=NEAR, source="operator", created_at=3)
    before = bench.found

    def meanwhile(goal):
        bench.course.change(lambda goals: goals.propose(own, ANN, 5), 5)
        return before(goal)

    bench.ask("a")
    bench.found = meanwhile
    bench.proposer.step()
    assert bench.course.read(9).of("a").proposal.source == "operator"

    def anew(asked):
        bench.course.change(lambda goals: goals.ask(goal("b", text="other words"), ANN, 6), 6)
        return before(asked)

    bench.ask("b")
    bench.found = anew
    bench.proposer.step()
    assert bench.states()["b"] == "asked"  # in other words: it waits anew


def test_a_store_that_is_away_is_waited_for(bench, monkeypatch):
    bench.ask("a")
    write, failures = bench.store.write, [StoreDown("gone")] * 3

    def down(batch):
        if failures:
            raise failures.pop()
        write(batch)

    monkeypatch.setattr(bench.store, "write", down)
    bench.proposer.step()
    assert (bench.states(), failures) == ({"a": "proposed"}, [])


def test_what_a_model_is_told_of_the_past(bench):
    bench.ask("a", "b")
    bench.proposer.step()
    bench.course.change(lambda goals: goals.approve("a", "", ANN, 3, 0.3, 1), 3)
    bench.course.change(lambda goals: goals.roll_back("a", "ctr fell", GUARD, 4, {}), 4)
    (past,) = past_of(bench.course.read(9))
    assert (past.weights, past.became, past.effects["gmv_per_dau"].change) == (NEAR, "rolled back: ctr fell", 0.5)


def test_platforms_and_arms():
    world = sized(reference_world(), Pace())
    assert (world.sizes.users, world.sizes.contents) == (500, 1_250)
    small = reference_world().override({"sizes.users": 64, "sizes.contents": 200, "sizes.creators": 20})
    assert sized(small, Pace()).sizes == small.sizes
    assert [arm_of(policy) for policy in ("", "marl", "my.npz")] == ["rules", "marl", "marl:my.npz"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"llm_url": "http://127.0.0.1:1/v1"}, "give goals_world"),
        ({"goals_world": "nothing.toml"}, "no such file"),
        ({"goals_world": __file__, "store": "memory:"}, "a process of its own"),
        ({"goals_world": __file__, "llm_url": "127.0.0.1"}, "llm_url: give http"),
    ],
)
def test_settings_by_which_nothing_could_be_proposed(given, message):
    with pytest.raises(BadRequest, match=message):
        load(None, **given)


@pytest.mark.slow
def test_a_small_platform_end_to_end(tmp_path, monkeypatch):
    """Nothing made up: three candidates on four platforms of 64 users."""
    monkeypatch.setattr(proposing, "search", partial(search, budget=3))
    world = tmp_path / "world.toml"
    small = {"sizes.users": 64, "sizes.contents": 160, "sizes.creators": 16}
    world.write_text(to_toml(reference_world().override(small)))
    settings = Settings(data=tmp_path, goals_world=world, policy="")
    store = open_store("memory:")
    course = Course(store, settings.weights)
    course.change(lambda goals: goals.ask(goal("a"), ANN, 1), 1)
    assert Proposer(settings, store, Pace(seeds=4, days=1, burn_in=1)).step()
    held = course.read(9).of("a")
    assert held.state in ("proposed", "failed")
    assert held.proposal.considered
    assert held.history[-1].who == PROPOSER.key
