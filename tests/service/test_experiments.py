"""Experiments of the service: what may be begun, who is decided for how, what is counted, and when one is ended."""

from __future__ import annotations

import asyncio
import tomllib
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from inside import CLIENT, inside
from service_samples import DAY_MS, NOW, request, server, shown

from upwell.regulator.assignment import tables, unit_id
from upwell.regulator.layers import Arm, Experiment
from upwell.regulator.slate import EXPLORED, HEATED
from upwell.regulator.targeting import Target
from upwell.service import experiment_guard, experiments
from upwell.service.arms import Arms
from upwell.service.audit import Who
from upwell.service.errors import Refused
from upwell.service.experiments import Experiments, Guardrail, Plan
from upwell.service.memory import GROUPS, exposed_of
from upwell.state import Batch, open_store

GOOD = [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.1}]
SLASHED = (Arm(name="a/b", share=0.5), Arm(name="b", share=0.5))
WEIGHTS = ("user_satisfaction", "platform_revenue", "long_term")
ANN = Who("operator", "Ann")
EXAMPLE = Path(__file__).parents[2] / "examples" / "experiment.toml"


def plan(name: str = "calm", layer: str = "main", share: float = 0.5, guardrails=(), **settings) -> Plan:
    arms = (Arm(name="control", share=share), Arm(name="treated", share=share, settings=settings))
    return Plan(Experiment(name=name, arms=arms), layer, guardrails=guardrails)


def targeted(*targets: Target) -> Plan:
    whole = plan(mode="ranker")
    return msgspec.structs.replace(whole, experiment=msgspec.structs.replace(whole.experiment, targets=targets))


def begun(*plans: Plan):
    store = open_store("memory:")
    for one in plans:
        experiments.change(store, lambda every, one=one: every.begin(one, ANN, NOW))
    return store


def arms_of(store, holdout: float = 0.0) -> Arms:
    arms = Arms(store, None, holdout)
    assert arms.look(store.offsets())
    assert not arms.look(store.offsets())
    return arms


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


# ---- what is counted, and the guard


def tell(store, arm: str, rng, rate: float, users: int = 6_400, name: str = "calm", stage: int = 0) -> None:
    """Users of ten slates of ten impressions each, in groups."""
    counts = Counter[str]()
    for group in range(GROUPS):
        many = users // GROUPS
        counts[f"free{group}_users"] = many
        counts[f"free{group}_impressions"] = 100 * many
        counts[f"free{group}_clicks"] = int(rng.binomial(100 * many, rate))
    batch = Batch()
    batch.add("meta", exposed_of(name, stage, arm), dict(counts))
    store.write(batch)


def test_figures_by_hand():
    store = begun(plan())
    held = experiments.read(store)[1].of("calm")
    batch = Batch()
    for arm, clicks in (("control", 2), ("treated", 3)):
        each = {"users": 1, "slates": 2, "impressions": 20, "clicks": clicks, "valid": 1, "shares": 2, "fen": 500,
                "seconds": 90, "heated": 1, "daily": 4, "returned": 3}  # fmt: skip
        counts = {f"free{group}_{name}": n for group in range(GROUPS) for name, n in each.items()}
        batch.add("meta", exposed_of("calm", 0, arm), counts)
    store.write(batch)
    found = experiment_guard.told(held, experiment_guard.tallies(store, held))
    assert [arm["users"] for arm in found["arms"]] == [GROUPS, GROUPS]
    assert found["arms"][0]["metrics"] == pytest.approx({
        "ctr": 0.1, "real_engagement": 0.25, "gmv_per_user": 5.0, "watch_minutes_per_user": 1.5,
        "impressions_per_user": 20.0, "heated_share": 0.05, "d1_retention": 0.75, "gmv_per_dau": 1.25,
        "watch_minutes_per_dau": 0.375,
    })  # fmt: skip
    assert found["effects"]["treated"]["ctr"]["lift"] == pytest.approx(0.5)
    assert found["sample_ratio_p"] == 1.0
    assert found["verdicts"]["treated"]["decision"] == "keep going"


def warmed(rng, shares=(0.1, 0.4), lift: float = 0.0) -> experiment_guard.Seen:
    """Groups of users who click more or less than others, before the experiment as in it; arms of unequal shares."""
    before, since = [], []
    for arm, share in enumerate(shares):
        here: list[Counter[str]] = [Counter(), Counter()]
        for group in range(GROUPS):
            rate = 0.05 * float(np.exp(0.2 * rng.normal()))
            for counts, factor in zip(here, (1.0, 1.0 + lift * arm), strict=True):
                many = rng.poisson(50_000 * share)
                counts[f"free{group}_impressions"] = many
                counts[f"free{group}_clicks"] = rng.binomial(many, rate * factor)
        before.append(here[0])
        since.append(here[1])
    return experiment_guard.Seen(since, before)


def test_a_warm_up_takes_what_users_are_out_of_what_arms_do():
    """Intervals are a fraction as wide, are as often right, and lie around the truth though shares are unequal."""
    rng, widths, lifts, right = np.random.default_rng(5), {True: [], False: []}, [], 0
    for _ in range(200):
        seen = warmed(rng, lift=0.1)
        for adjusted in (True, False):
            found = experiment_guard.moments_of(seen if adjusted else experiment_guard.Seen(seen.arms), "ctr")
            effect = experiment_guard.effect(found, 1, 0.05, 0.05)
            widths[adjusted].append(effect["high"] - effect["low"])
            if adjusted:
                lifts.append(effect["lift"])
                right += effect["low"] <= 0.1 <= effect["high"]
                assert effect["variance_reduction"] > 0.5
            else:
                assert effect["variance_reduction"] == 0.0
    assert np.mean(widths[True]) < 0.6 * np.mean(widths[False])
    assert right >= 190
    assert np.mean(lifts) == pytest.approx(0.1, abs=4.0 * np.std(lifts) / np.sqrt(200))


def test_a_warm_up_that_tells_nothing_changes_nothing():
    """Nothing was counted then, or the same of all."""
    seen = warmed(np.random.default_rng(6))
    plain = experiment_guard.effect(experiment_guard.moments_of(experiment_guard.Seen(seen.arms), "ctr"), 1, 0.05, 0.05)
    alike = {f"free{group}_{name}": n for group in range(GROUPS) for name, n in (("impressions", 9), ("clicks", 3))}
    for before in ([{}, {}], [alike, alike]):
        found = experiment_guard.moments_of(experiment_guard.Seen(seen.arms, before), "ctr")
        assert experiment_guard.effect(found, 1, 0.05, 0.05) == pytest.approx(plain, nan_ok=True)


def test_an_arm_that_harms_ends_its_experiment_and_one_that_does_not_goes_on():
    rng = np.random.default_rng(0)
    to_the_end = msgspec.structs.replace(plan("bold", "third", exploration=0.5), tolerated=1.0)
    store = begun(plan(), plan("other", "second", heating=False), to_the_end)
    for name, rate in (("calm", 0.04), ("other", 0.05), ("bold", 0.04)):
        tell(store, "control", rng, 0.05, name=name)
        tell(store, "treated", rng, rate, name=name)
    experiment_guard.watch(store, NOW + 9)
    every = experiments.read(store)[1]
    assert [one.running for one in every.every] == [False, True, True]
    last = every.of("calm").history[-1]
    assert (last.what, last.who, last.at_ms) == ("stopped", "guard", NOW + 9)
    assert last.why.startswith("Stop: ctr changed by -")


def test_a_guardrail_ends_it_though_the_goal_gains():
    rng = np.random.default_rng(1)
    held = Guardrail(metric="impressions_per_user", tolerated=0.05)
    store = begun(plan(guardrails=(held,)))
    tell(store, "control", rng, 0.05)
    tell(store, "treated", rng, 0.08)
    batch = Batch()
    fewer = {f"free{group}_impressions": -30 * 100 + int(rng.integers(-50, 50)) for group in range(GROUPS)}
    batch.add("meta", exposed_of("calm", 0, "treated"), fewer)
    store.write(batch)
    experiment_guard.watch(store, NOW)
    assert "impressions_per_user" in experiments.read(store)[1].of("calm").history[-1].why


def test_looks_are_kept_every_six_hours():
    rng, store = np.random.default_rng(3), begun(plan())
    for hour in range(13):
        tell(store, "control", rng, 0.05, users=640)
        tell(store, "treated", rng, 0.05, users=640)
        experiment_guard.watch(store, NOW + hour * 3_600_000)
    found = experiment_guard.looks(store, "calm")
    assert [(look["at_ms"] - NOW) // 3_600_000 for look in found] == [0, 6, 12]
    assert [look["arms"][0]["users"] for look in found] == [640, 7 * 640, 13 * 640]
    assert found[-1]["effects"]["treated"]["ctr"]["low"] is not None


def test_broken_assignment_ends_it():
    rng = np.random.default_rng(2)
    store = begun(plan())
    tell(store, "control", rng, 0.05, users=6_400)
    tell(store, "treated", rng, 0.05, users=5_120)
    experiment_guard.watch(store, NOW)
    assert "do not hold their shares" in experiments.read(store)[1].of("calm").history[-1].why


def test_looked_at_all_the_time_hardly_any_harmless_experiment_is_ended():
    ended = 0
    for seed in range(40):
        rng, store = np.random.default_rng(seed), begun(plan())
        for _ in range(20):
            for arm in ("control", "treated"):
                tell(store, arm, rng, 0.05, users=640)
            experiment_guard.watch(store, NOW)
        ended += not experiments.read(store)[1].of("calm").running
    assert ended <= 4  # a twentieth of 40 is 2


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
