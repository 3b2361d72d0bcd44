"""Off-policy estimates from logs: numbers by hand, intervals that hold the truth, and the real logs both ways."""

import json

import numpy as np
import pytest

from upwell.experiment import ope
from upwell.logs import choices
from upwell.logs.choices import Choices


def log(place, content, reward, propensity, user, shape) -> Choices:
    return Choices(*map(np.asarray, (place, content)), np.asarray(reward, float), np.asarray(propensity, float),
                   np.asarray(user), shape)  # fmt: skip


def test_policies_by_hand():
    one = log([0, 0, 0, 1], [0, 0, 1, 2], [1, 0, 0, 0], [0.5] * 4, [0, 1, 2, 3], (2, 3))
    counted = choices.counted(one)
    np.testing.assert_allclose(counted.chance, [[2 / 3, 1 / 3, 0], [0, 0, 1]])
    assert counted.counted.tolist() == [3, 1]
    np.testing.assert_allclose(choices.even(one).chance, [[0.5, 0.5, 0], [0, 0, 1]])
    other = one._replace(place=np.array([0, 0, 0, 0]))
    assert choices.unsupported(other, counted) == 0.0
    asked = counted._replace(chance=np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]))
    assert choices.unsupported(one, asked) == pytest.approx(3 / 4)


def test_the_counted_policys_own_chance_by_hand():
    """IPS is linear in the policy's chances: each slope is the clicks over chances of its rows."""
    one = log([0] * 4, [0, 0, 1, 1], [1, 0, 0, 1], [0.5, 0.5, 0.25, 0.5], [0, 1, 2, 3], (1, 2))
    policy = choices.Policy(np.array([[0.8, 0.2]]), np.array([50.0]))
    slope = np.array([1 / 0.5, 1 / 0.5]) / 4
    known = choices.estimate(one, policy._replace(counted=np.array([np.inf])), ope.ips, np.inf)
    assert known.mean == pytest.approx((0.8 / 0.5 + 0.2 / 0.5) / 4)
    same = choices.estimate(one, policy, ope.ips, np.inf)  # both slopes alike: whatever is chosen, the same is had
    assert slope[0] == slope[1]
    assert same.high == pytest.approx(known.high)
    other = one._replace(reward=np.array([1.0, 1.0, 0.0, 0.0]))
    slope = np.array([2 / 0.5, 0.0]) / 4
    variance = (0.8 * slope[0] ** 2 - (0.8 * slope[0]) ** 2) / 50
    both = [
        choices.estimate(other, of, ope.ips, np.inf) for of in (policy, policy._replace(counted=np.array([np.inf])))
    ]
    half = [(found.high - found.low) / 2 / ope.REACH for found in both]
    assert half[0] ** 2 - half[1] ** 2 == pytest.approx(variance, rel=1e-4)


def drawn(rng: np.random.Generator, many: int, chance: np.ndarray, rates: np.ndarray) -> Choices:
    place = rng.integers(0, len(chance), many)
    content = (rng.random(many)[:, None] > chance[place].cumsum(-1)).sum(-1)
    reward = rng.random(many) < rates[place, content]
    return log(place, content, reward, chance[place, content], np.arange(many), chance.shape)


@pytest.mark.parametrize("name", ["ips", "snips", "dr", "switch_dr"])
def test_intervals_hold_the_truth_though_the_policy_is_counted_from_a_short_log(name):
    rng = np.random.default_rng(3)
    rates = np.array([[0.02, 0.1, 0.3], [0.05, 0.2, 0.02]])
    logged, asked = np.full((2, 3), 1 / 3), np.array([[0.2, 0.3, 0.5], [0.1, 0.8, 0.1]])
    truth, held, narrow = float((asked * rates).sum(1).mean()), 0, 0
    for _ in range(200):
        ours, theirs = drawn(rng, 6_000, logged, rates), drawn(rng, 100, asked, rates)
        policy = choices.counted(theirs)
        found = choices.estimate(ours, policy, ope.ESTIMATORS[name], 100.0)
        held += found.low <= truth <= found.high
        known = policy._replace(counted=np.full(2, np.inf))
        found = choices.estimate(ours, known, ope.ESTIMATORS[name], 100.0)
        narrow += found.low <= truth <= found.high
    assert 184 <= held <= 200
    assert narrow < 176, "as if the policy were known, intervals are too short"


@pytest.mark.parametrize("campaign", ["men", "women"])
@pytest.mark.parametrize(("logged", "asked"), [("random", "bts"), ("bts", "random")])
def test_the_real_logs_tell_of_each_other(real, upwell, campaign, logged, asked):
    paths = [real("obd") / policy / campaign / f"{campaign}.csv.gz" for policy in (logged, asked)]
    code, out, _ = upwell("evaluate", paths[0], "--policy", paths[1], "--json")
    assert code == 0
    found = json.loads(out)
    truth = found["policy_logged"]
    assert found["choices"] == 10_000
    for name in ("ips", "snips", "dr", "switch_dr"):
        one = found["estimates"][name]
        assert one["low"] <= truth["high"]
        assert one["high"] >= truth["low"], name
    assert found["overlap"]["unsupported"] < 0.01
    assert found["overlap"]["effective_samples"] < 10_000


def test_for_people_and_against_an_even_policy(real, upwell):
    code, out, _ = upwell("evaluate", real("obd") / "random" / "men" / "men.csv.gz", "--estimators", "ips,dr")
    assert code == 0
    assert "effective samples" in out
    assert "10,000 choices" in out


def test_what_cannot_be_evaluated_is_refused(upwell, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("timestamp,item_id,position,click,propensity_score\n" + "2019-11-24 00:00:01+00:00,1,1,0,\n" * 3)
    code, _, err = upwell("evaluate", path)
    assert (code, "no row has a propensity" in err) == (2, True), err
    code, _, err = upwell("evaluate", path, "--estimators", "magic")
    assert (code, "choose from ips, snips" in err) == (2, True)
    code, _, err = upwell("evaluate", tmp_path / "none.csv")
    assert code == 2
