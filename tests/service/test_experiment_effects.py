"""What the service counts of experiments' arms: effects by hand, warm-ups, segments and checks."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import pytest
from experiment_samples import ANN, arms_of, begun, plan
from service_samples import DAY_MS, NOW, event, request, server, shown

from upwell.service import experiment_checks, experiment_effects, experiment_segments, experiments
from upwell.service.experiment_effects import Seen, effect, moments_of
from upwell.service.memory import GROUPS, exposed_of
from upwell.state import Batch


def test_figures_by_hand():
    store = begun(plan())
    held = experiments.read(store)[1].of("calm")
    batch = Batch()
    for arm, clicks in (("control", 2), ("treated", 3)):
        each = {"users": 1, "slates": 2, "impressions": 20, "clicks": clicks, "valid": 1, "shares": 2, "fen": 500,
                "seconds": 90, "heated": 1, "daily": 4, "returned": 3, "small_impressions": 12}  # fmt: skip
        counts = {f"free{group}_{name}": n for group in range(GROUPS) for name, n in each.items()}
        batch.add("meta", exposed_of("calm", 0, arm), counts)
    store.write(batch)
    found = experiment_effects.told(held, experiment_effects.tallies(store, held))
    assert [arm["users"] for arm in found["arms"]] == [GROUPS, GROUPS]
    assert found["arms"][0]["metrics"] == pytest.approx({
        "ctr": 0.1, "real_engagement": 0.25, "gmv_per_user": 5.0, "watch_minutes_per_user": 1.5,
        "impressions_per_user": 20.0, "heated_share": 0.05, "d1_retention": 0.75, "gmv_per_dau": 1.25,
        "watch_minutes_per_dau": 0.375, "small_creator_share": 0.6,
    })  # fmt: skip
    assert found["effects"]["treated"]["ctr"]["lift"] == pytest.approx(0.5)
    assert found["sample_ratio_p"] == 1.0
    assert found["verdicts"]["treated"]["decision"] == "keep going"


def warmed(rng, shares=(0.1, 0.4), lift: float = 0.0) -> Seen:
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
    return Seen(since, before)


def test_a_warm_up_takes_what_users_are_out_of_what_arms_do():
    """Intervals are a fraction as wide, are as often right, and lie around the truth though shares are unequal."""
    rng, widths, lifts, right = np.random.default_rng(5), {True: [], False: []}, [], 0
    for _ in range(200):
        seen = warmed(rng, lift=0.1)
        for adjusted in (True, False):
            found = moments_of(seen if adjusted else Seen(seen.arms), "ctr")
            told = effect(found, 1, 0.05, 0.05)
            widths[adjusted].append(told["high"] - told["low"])
            if adjusted:
                lifts.append(told["lift"])
                right += told["low"] <= 0.1 <= told["high"]
                assert told["variance_reduction"] > 0.5
            else:
                assert told["variance_reduction"] == 0.0
    assert np.mean(widths[True]) < 0.6 * np.mean(widths[False])
    assert right >= 190
    assert np.mean(lifts) == pytest.approx(0.1, abs=4.0 * np.std(lifts) / np.sqrt(200))


def test_a_warm_up_that_tells_nothing_changes_nothing():
    """Nothing was counted then, or the same of all."""
    seen = warmed(np.random.default_rng(6))
    plain = effect(moments_of(Seen(seen.arms), "ctr"), 1, 0.05, 0.05)
    alike = {f"free{group}_{name}": n for group in range(GROUPS) for name, n in (("impressions", 9), ("clicks", 3))}
    for before in ([{}, {}], [alike, alike]):
        found = moments_of(Seen(seen.arms, before), "ctr")
        assert effect(found, 1, 0.05, 0.05) == pytest.approx(plain, nan_ok=True)


# ---- segments


def test_who_is_new_and_what_small_creators_made_is_counted_apart():
    live = server(users=60, new_user_days=7.0, small_creator_followers=1_000)
    live.arms = arms_of(begun(plan()))
    info = live.contents.info
    followers = {row: [10, 999, 1_000, None][row % 4] for row in info}
    for row, many in followers.items():
        info[row] = msgspec.structs.replace(info[row], creator_followers=many)
    few = {info[row].id for row, many in followers.items() if many is not None and many < 1_000}
    candidates = [f"c{i}" for i in range(1, 40)]
    lines = shown(live, [request(f"u{n}", candidates, size=4) for n in range(60)])
    first, counted = [place for line in lines for place in line.places], Counter[str]()
    assert 0 < sum(place.id in few for place in first) < len(first)
    for line in lines:
        created_ms = live.users.record["created_ms"][live.users.rows.at[line.user_id]]
        assert line.new == (NOW - created_ms < 7 * DAY_MS)
        assert line.small == tuple(k for k, place in enumerate(line.places) if place.id in few)
        live.take(event(line, 1, f"e{line.user_id}", kind="click", clicked=True, dwell_s=60.0))
        arm = line.experiments[0].arm
        counted[arm, "small_impressions"] += len(line.small)
        counted[arm, "small_clicks"] += 1 in line.small
        counted[arm, "small_seconds"] += 60 * (1 in line.small)
        for name, many in (("slates", 1), ("impressions", 4), ("clicks", 1), ("daily", 1)):
            counted[arm, f"new_{name}"] += many * line.new
    assert 10 < sum(line.new for line in lines) < 50
    batch, store = live.unsaved(), begun(plan())
    assert batch is not None
    store.write(batch)
    seen = experiment_effects.tallies(store, experiments.read(store)[1].of("calm"))
    for arm, tally in zip(("control", "treated"), seen.arms, strict=True):
        for (whose, name), many in counted.items():
            if whose == arm:
                assert experiment_effects.groups(tally, name).sum() == many, (arm, name)


def test_slates_of_no_experiment_are_not_looked_at():
    live = server()
    (line,) = shown(live, [request("u1", ["c1", "c2"], size=2)])
    assert (line.new, line.small) == (False, ())


def parted(rng, new: float, others: float, few: float = 0.05) -> dict[str, int]:
    """Groups of users, a fifth of whose slates are of new ones; click rates of both."""
    counts = Counter[str]()
    for group in range(GROUPS):
        for name, many, rate in (("new_", 2_000, new), ("", 8_000, others)):
            clicks = int(rng.binomial(many, rate * np.exp(0.05 * rng.normal())))
            for part in {name, ""}:
                counts[f"free{group}_{part}impressions"] += many
                counts[f"free{group}_{part}clicks"] += clicks
        counts[f"free{group}_users"] = 100
        counts[f"free{group}_small_impressions"] = 5_000
        counts[f"free{group}_small_clicks"] = int(rng.binomial(5_000, few))
    return dict(counts)


def segments_of(*arms) -> dict[tuple[str, str], dict]:
    held = experiments.read(begun(plan()))[1].of("calm")
    rows = experiment_segments.told(held, Seen(arms))["treated"]
    return {(row["segment"], row["metric"]): row for row in rows}


def test_segments_by_hand():
    """Of new users .1 click and .2 under the arm, of the others .05 and .1 less a tenth of that."""

    def each(**counts):
        return {f"free{group}_{name}": n for group in range(GROUPS) for name, n in counts.items()}

    found = segments_of(
        each(new_impressions=100, new_clicks=10, impressions=300, clicks=20),
        each(new_impressions=100, new_clicks=20, impressions=300, clicks=29),
    )
    new, others = found["new users", "ctr"], found["other users", "ctr"]
    assert (new["lift"], others["lift"]) == pytest.approx((1.0, -0.1))
    assert new["beyond_rest"] == pytest.approx(2.0 / 0.9 - 1.0)
    assert {segment for segment, _ in found} == {"new users", "other users"}, "nothing was made by small creators"


def test_an_arm_that_hurts_the_new_alone_is_seen_to():
    rng = np.random.default_rng(4)
    found = segments_of(parted(rng, 0.05, 0.05), parted(rng, 0.04, 0.05))
    assert found["new users", "ctr"]["p"] < 0.001
    assert found["new users", "ctr"]["high"] < 0.0
    assert found["other users", "ctr"]["low"] < 0.0 < found["other users", "ctr"]["high"]


def test_an_arm_that_does_the_same_to_all_is_seen_to():
    rng, alarms, right = np.random.default_rng(5), 0, 0
    for _ in range(60):
        found = segments_of(parted(rng, 0.05, 0.05), parted(rng, 0.06, 0.06, few=0.06))
        alarms += min(row["p"] for row in found.values() if "p" in row) < 0.05
        right += found["new users", "ctr"]["low"] < 0.2 < found["new users", "ctr"]["high"]
    assert alarms <= 8  # a twentieth of 60 is 3
    assert right >= 52


# ---- checks


def checked(*arms, before=(), others=(), **settings) -> dict:
    held = experiments.read(begun(plan(**settings)))[1].of("calm")
    return experiment_checks.told(held, Seen(arms, before), others)


def test_arms_that_are_alike_should_differ_by_nothing():
    rng = np.random.default_rng(7)
    same, other = [parted(rng, 0.05, 0.05) for _ in range(2)], parted(rng, 0.06, 0.06)
    (fine,) = checked(*same)["aa"]
    assert (fine["arm"], fine["when"]) == ("treated", "since then")
    assert fine["p"] > 0.05
    (broken,) = checked(same[0], other)["aa"]
    assert (broken["metric"], broken["p"] < 0.001) == ("ctr", True)
    assert checked(same[0], other, exploration=0.5)["aa"] == [], "that may be the arm's effect"
    (warm,) = checked(same[0], other, before=(same[0], other), exploration=0.5)["aa"]
    assert (warm["when"], warm["metric"], warm["p"] < 0.001) == ("warm-up", "ctr", True)


def test_experiments_of_two_layers_are_spread_over_each_other():
    """Each of a user's pairs of arms is counted once, whichever experiment they came to first."""
    store = begun(plan(exploration=0.5))
    live = server(users=400)
    live.arms = arms_of(store, live.settings.holdout)
    shown(live, [request(f"u{n}", ["c1", "c2"], size=2) for n in range(100)], NOW + 1)
    experiments.change(store, lambda every: every.begin(plan("heat", "second", heating=False), ANN, NOW + 2))
    live.arms.look(store.offsets())
    for later in (3, 4):
        shown(live, [request(f"u{n}", ["c3", "c4"], size=2) for n in range(400)], NOW + later)
    batch = live.unsaved()
    assert batch is not None
    store.write(batch)
    every = experiments.read(store)[1]
    held, other = every.of("calm"), every.of("heat")
    seen = experiment_effects.tallies(store, held)
    (found, _) = rows = experiment_checks.told(held, seen, [other])["overlap"]
    users = sum(experiment_effects.groups(arm, "users").sum() for arm in seen.arms)
    assert sum(row["users"] for row in rows) == users > 350  # all but the holdout
    assert sum(row["share"] for row in rows) == pytest.approx(1.0)
    assert (found["experiment"], found["arm"]) == ("heat", "control")
    assert min(row["p"] for row in rows) > 0.05
    mirrored = experiment_checks.told(other, experiment_effects.tallies(store, other), [held])["overlap"]
    assert sum(row["users"] for row in mirrored) == users


def test_an_experiment_that_falls_on_one_arm_is_told():
    store = begun(plan(), plan("heat", "second", heating=False))
    every = experiments.read(store)[1]
    key = f"beside {exposed_of('heat', 0, 'treated')}"
    seen = Seen([{key: 500, "free0_users": 1_000}, {key: 350, "free0_users": 1_000}])
    (row,) = experiment_checks.told(every.of("calm"), seen, [every.of("heat")])["overlap"]
    assert (row["users"], row["share"]) == (850, pytest.approx(0.425))
    assert row["p"] < 0.001
