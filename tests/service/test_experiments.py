"""Experiments of the service: what may be begun, who is decided for how, and from a file to the end over HTTP."""

from __future__ import annotations

import asyncio
import tomllib
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from experiment_samples import ANN, arms_of, begun, plan, targeted
from inside import CLIENT, inside
from service_samples import DAY_MS, NOW, request, server, shown

from upwell.regulator.assignment import tables, unit_id
from upwell.regulator.layers import Arm, Experiment
from upwell.regulator.slate import EXPLORED, HEATED
from upwell.regulator.targeting import Target
from upwell.service import experiments
from upwell.service.errors import Refused
from upwell.service.experiments import Experiments, Plan

GOOD = [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.1}]
SLASHED = (Arm(name="a/b", share=0.5), Arm(name="b", share=0.5))
WEIGHTS = ("user_satisfaction", "platform_revenue", "long_term")
EXAMPLE = Path(__file__).parents[2] / "examples" / "experiment.toml"


# ---- the record


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (plan(speed=1), "experiment.arms.treated.settings"),
        (plan(mode="fast"), "experiment.arms.treated.settings"),
        (plan(exploration=2.0), "experiment.arms.treated.settings"),
        (plan(exploration=True), "experiment.arms.treated.settings"),
        (plan(heating=1), "experiment.arms.treated.settings"),
        (plan(policy=1), "experiment.arms.treated.settings"),
        (plan(ranker=""), "experiment.arms.treated.settings"),
        (plan(weights={"user_satisfaction": 1.0}), "experiment.arms.treated.settings"),
        (plan(weights=dict.fromkeys(WEIGHTS, 0.0)), "experiment.arms.treated.settings"),
        (plan(guards={"cap": 0.5}), "experiment.arms.treated.settings"),
        (plan(guards={"chance": 0}), "experiment.arms.treated.settings"),
        (Plan(Experiment(name="x", arms=(Arm(name="a", share=1.0),))), "experiment.arms"),
        (Plan(Experiment(name="x", arms=SLASHED, design="budget_split")), "experiment.arms"),
        (plan("🎈" * 64), "experiment"),
        (targeted(Target(of="content", attribute="tag", comparison="==", value="food")), "experiment.targets"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(wrong, field):
    with pytest.raises(Refused) as refused:
        Experiments().begin(wrong, ANN, NOW)
    assert (refused.value.status, refused.value.field) == (422, field)


def test_a_name_is_used_once_and_layers_do_not_undo_each_other():
    every = Experiments()
    every.begin(plan(mode="ranker"), ANN, NOW)
    with pytest.raises(Refused, match="deals the same people"):
        every.begin(plan(), ANN, NOW)
    with pytest.raises(Refused, match="overlap in buckets"):
        every.begin(plan("other"), ANN, NOW)
    with pytest.raises(Refused, match="sets mode too"):
        every.begin(plan("other", "second", policy="marl"), ANN, NOW)
    every.begin(plan("other", "second", heating=False), ANN, NOW)
    assert [one.name for one in every.running] == ["calm", "other"]
    every.stop("calm", ANN, NOW + 1, "enough")
    with pytest.raises(Refused, match="is over"):
        every.stop("calm", ANN, NOW + 2, "")
    with pytest.raises(Refused, match="there was an experiment"):
        every.begin(plan(), ANN, NOW + 3)
    assert [entry.what for entry in every.told] == ["experiment_running"] * 2 + ["experiment_stopped"]


def test_a_ramp_begins_a_stage_and_moves_nobody():
    store = begun(plan(share=0.1))
    before = arms_of(store)
    users = [f"u{n}" for n in range(2_000)]
    first = {user: before.of(user, 0, NOW)[1] for user in users}
    experiments.change(store, lambda every: every.ramp("calm", {"treated": 0.3}, ANN, NOW + 5, ""))
    after = {user: arms_of(store).of(user, 0, NOW + 6)[1] for user in users}
    wider = 0
    for user in users:
        if first[user]:
            assert after[user][0].arm == first[user][0].arm
            assert (first[user][0].stage, after[user][0].stage) == (0, 1)
        wider += len(after[user]) - len(first[user])
    assert 300 < wider < 500
    with pytest.raises(Refused, match="over its room"):
        experiments.change(store, lambda every: every.ramp("calm", {"treated": 0.9}, ANN, NOW + 7, ""))


# ---- who is decided for how


def test_arms_are_those_of_the_assignment_and_the_holdout_is_in_none():
    store = begun(plan(share=0.3), plan("heat", "second", heating=False))
    arms = arms_of(store, holdout=0.2)
    made = tables(experiments.read(store)[1].layers(), 0.2)
    seen = Counter()
    for n in range(500):
        play, exposures = arms.of(f"u{n}", 0, NOW)
        expected = [table.arms[code] for table in made if (code := table.arm_of(unit_id(f"u{n}"), NOW // 1_000)) >= 0]
        assert [(one.experiment, one.arm) for one in exposures] == [(e.name, a.name) for e, a in expected]
        assert play.heating == (("heat", "treated") not in [(one.experiment, one.arm) for one in exposures])
        seen[len(exposures)] += 1
    assert 60 < seen[0] < 140  # the holdout: nobody else is left out of the second layer


def test_the_first_slate_since_the_stage_began_is_told():
    arms = arms_of(begun(plan()))
    for visited_ms, first in ((0, True), (NOW - 1, True), (NOW, False), (NOW + 5, False)):
        (exposure,) = arms.of("u1", visited_ms, NOW + 9)[1]
        assert exposure.first == first


def test_a_switchbacks_washout_counts_nothing():
    arms = (Arm(name="control", share=0.5), Arm(name="treated", share=0.5, settings={"mode": "ranker"}))
    hour = Experiment(name="turns", arms=arms, design="switchback", slot_s=3_600, washout_s=600)
    found = arms_of(begun(Plan(hour)))
    at = NOW - NOW % 3_600_000
    seen = {found.of("u1", 0, at + minute * 60_000)[1] for minute in (1, 9)}
    assert seen == {()}
    later = [found.of(f"u{n}", 0, at + 30 * 60_000)[1][0].arm for n in range(50)]
    assert len(set(later)) == 1  # all users of a slot have its arm
    slots = {found.of("u1", 0, at + h * 3_600_000 + 1_800_000)[1][0].arm for h in range(24)}
    assert slots == {"control", "treated"}


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"mode": "ranker"}, lambda line: line.arm != "raw"),
        ({"heating": False}, lambda line: any(place.kind == HEATED for place in line.places)),
        ({"exploration": 0.0}, lambda line: any(place.kind == EXPLORED for place in line.places)),
    ],
)
def test_each_arms_users_get_what_it_sets(settings, wrong):
    live = server(users=60)
    live.arms = arms_of(begun(plan(**settings)))
    batch = [request(f"u{n}", [f"c{i}" for i in range(1, 40)]) for n in range(60)]
    lines = shown(live, batch)
    assert [line.user_id for line in lines] == [one.user_id for one in batch]
    arms = {line.user_id: line.experiments[0].arm for line in lines}
    assert 15 < sum(arm == "treated" for arm in arms.values()) < 45
    assert not any(wrong(line) for line in lines if arms[line.user_id] == "treated")
    assert any(wrong(line) or settings == {"mode": "ranker"} for line in lines if arms[line.user_id] == "control")
    if settings == {"mode": "ranker"}:
        assert {line.arm for line in lines if arms[line.user_id] == "control"} == {"rules"}


def test_an_experiment_is_for_whom_it_targets_by_what_the_request_says_and_what_is_known():
    live = server(users=60)
    abroad = Target(attribute="country", comparison="in", value=("FR", "DE"))
    settled = Target(attribute="age_days", comparison=">=", value=7.0)
    live.arms = arms_of(begun(targeted(abroad, settled)))
    rows = [live.users.rows.at[f"u{n}"] for n in range(60)]
    live.users.record["created_ms"][rows] = [NOW - (5 + n % 5) * DAY_MS for n in range(60)]
    where = ["FR", "DE", "CN", None]
    batch = [
        msgspec.structs.replace(
            request(f"u{n}", ["c1", "c2", "c3"], size=2), context={"country": where[n % 4]} if where[n % 4] else {}
        )
        for n in range(60)
    ]
    lines = shown(live, batch)
    assert {n for n, line in enumerate(lines) if line.experiments} == {
        n for n in range(60) if n % 4 < 2 and n % 5 >= 2
    }, "of what nobody says, no condition holds"
    liar = msgspec.structs.replace(batch[0], context={"country": "FR", "age_days": 99.0})
    assert not shown(live, [liar])[0].experiments, "how old an account is the service knows itself"


def test_the_kill_switch_rules_over_every_arm():
    live = server(users=20)
    live.arms = arms_of(begun(plan(mode="rules")))
    live.obey(b"ranker")
    lines = shown(live, [request(f"u{n}", ["c1", "c2", "c3"], size=2) for n in range(20)])
    assert {line.arm for line in lines} == {"raw"}
    live.obey(b"rules")
    live.arms = arms_of(begun(plan(policy="marl")))
    lines = shown(live, [request(f"u{n}", ["c4", "c5", "c6"], size=2) for n in range(20)])
    assert {line.arm for line in lines} == {"rules"}


def test_whoever_is_answered_in_the_rankers_order_is_exposed_all_the_same():
    live = server(users=4)
    live.arms = arms_of(begun(plan()))
    (line,) = shown(live, [request("u1", ["c1", "c2", "c3"], size=2)], why="deadline")
    assert (line.arm, line.why, len(line.experiments)) == ("raw", "deadline", 1)


def test_a_policy_that_is_not_there_decides_as_without_it(caplog):
    arms = arms_of(begun(plan(policy="learned-nowhere")))
    plays = {arms.of(f"u{n}", 0, NOW)[0] for n in range(50)}
    assert {(play.mode, play.learned) for play in plays} == {("", None)}
    assert "it decides as without it" in caplog.text


# ---- over HTTP


def test_from_a_file_to_its_end_over_http(tmp_path):
    async def story():
        async with inside(tmp_path, holdout=0.1) as one:
            wanted = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
            for arm in wanted["experiment"]["arms"]:
                arm["share"] = 0.5
            made = await one("POST", "/experiments", wanted)
            assert made.status_code == 201, made.text
            assert [arm["arm"] for arm in made.json()["arms"]] == ["control", "treated"]
            for n in range(40):
                answer = await one.decide(f"u{n}")
                event = {
                    "event_id": f"e{n}", "decision_id": answer["decision_id"], "user_id": f"u{n}", "ts": NOW,
                    "content_id": answer["items"][0]["id"], "clicked": True, "kind": "click", "dwell_s": 60.0,
                    "shared": True, "value": 0.4, "purchased": True,
                }  # fmt: skip
                assert (await one("POST", "/interactions", {"events": [event]})).status_code == 202
            await one.decide("u0")
            await one.node.saver.flush()
            held = sum(one.node.live.users.holds_out(f"u{n}") for n in range(40))
            found = await one.done("GET", "/experiments/calmer")
            assert sum(arm["users"] for arm in found["arms"]) == 40 - held
            assert sum(arm["slates"] for arm in found["arms"]) in (41 - held, 40 - held)
            for arm in found["arms"]:
                assert arm["metrics"]["gmv_per_user"] == pytest.approx(0.4)
                assert arm["metrics"]["watch_minutes_per_user"] == pytest.approx(1.0)
            told = await one.done("GET", f"/decisions/{answer['decision_id']}")
            free = not one.node.live.users.holds_out("u39")
            assert list(told["experiments"]) == ["calmer"] * free
            widened = await one.done("PATCH", "/experiments/calmer", {"shares": {"treated": 0.4}})
            assert (widened["stage"], widened["arms"][0]["users"]) == (1, 0)
            refused = await one("PATCH", "/experiments/calmer", {"shares": {"nobody": 0.4}})
            assert (refused.status_code, refused.json()["error"]["field"]) == (422, "shares")
            assert (await one("GET", "/experiments", key=CLIENT)).status_code == 403
            ended = await one.done("DELETE", "/experiments/calmer?why=enough")
            assert not ended["running"]
            assert one.node.live.arms is None
            (listed,) = (await one.done("GET", "/experiments"))["experiments"]
            assert [event["what"] for event in listed["history"]] == ["running", "ramped", "stopped"]
            assert ("experiment_stopped", "operator") in await one.audit()
            assert (await one("GET", "/experiments/nothing")).status_code == 404

    asyncio.run(story())


@pytest.mark.parametrize(
    "body",
    [
        {}, {"experiment": {}}, {"experiment": {"name": "x", "arms": []}}, {"experiment": {"name": "x", "arms": 3}},
        {"experiment": {"name": "x", "arms": [{"name": "a", "share": 0.7}, {"name": "b", "share": 0.7}]}},
        {"experiment": {"name": "x", "arms": [{"name": "a", "share": 0.33333}, {"name": "b", "share": 0.1}]}},
        {"experiment": {"name": "x", "arms": [{"name": "a", "share": 0.5}, {"name": "a", "share": 0.1}]}},
        {"experiment": {"name": "x", "arms": GOOD}, "metric": "joy"},
        {"experiment": {"name": "x", "arms": GOOD}, "mde": 0},
    ],
)  # fmt: skip
def test_a_wrong_experiment_is_refused_and_nothing_begins(tmp_path, body):
    async def story():
        async with inside(tmp_path) as one:
            refused = await one("POST", "/experiments", body)
            assert refused.status_code == 422, refused.text
            assert refused.json()["error"]["message"]
            assert (await one.done("GET", "/experiments"))["experiments"] == []

    asyncio.run(story())


def test_experiments_outlive_a_restart(tmp_path):
    async def begin():
        async with inside(tmp_path) as one:
            example = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
            assert (await one("POST", "/experiments", example)).status_code == 201

    async def after():
        async with inside(tmp_path) as one:
            assert one.node.live.arms is not None
            one.wait(DAY_MS)
            (listed,) = (await one.done("GET", "/experiments"))["experiments"]
            assert listed["running"]

    asyncio.run(begin())
    asyncio.run(after())
