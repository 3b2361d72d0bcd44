"""The bench of trust: its figures by hand, its rivals on a made-up sample, and the whole of it on tiny platforms."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from upwell.bench import trust, trust_cost, trust_rivals
from upwell.cli import app
from upwell.errors import BadRequest
from upwell.learn import cheats
from upwell.learn import trust as fitting
from upwell.learn.trust import Sample, fitted
from upwell.regulator.trust import judge
from upwell.world import visits
from upwell.world.config import SCENARIOS, load_world

TINY = [
    "--set", "sizes.users=300", "--set", "sizes.contents=600", "--set", "sizes.creators=60", "--set", "sizes.bots=200",
    "--set", "sizes.visits=128", "--seeds", "2", "--days", "16",
]  # fmt: skip


def test_auc_by_hand():
    assert trust.auc(np.array([3.0, 2.0]), np.array([1.0, 0.0])) == 1.0
    assert trust.auc(np.array([1.0]), np.array([1.0])) == 0.5
    assert trust.auc(np.array([2.0, 0.0]), np.array([1.0, 3.0])) == 0.25


def test_no_more_than_one_in_a_hundred_exceeds_the_threshold():
    honest = np.random.default_rng(0).random(1_000)
    assert (honest > trust.threshold(honest)).sum() <= 10
    assert trust.threshold(np.zeros(50)) == 0.0


def test_calibration_error_by_hand():
    told, cheats = np.array([0.05, 0.05, 0.95, 0.95]), np.array([False, False, True, False])
    # Of the first two .05 was told and none cheats; of the last two .95, and half do.
    assert trust.calibration_error(told, cheats) == pytest.approx((2 * 0.05 + 2 * 0.45) / 4)


def test_what_a_threshold_finds_by_hand():
    kind = np.array([visits.PLAIN, visits.FANS, visits.RING, visits.RING, trust.CLICKBAIT])
    found = trust.of_score(np.array([0.1, 0.9, 0.8, 0.2, 0.7]), 0.5, kind)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"]["mean"] == pytest.approx(2 / 3)
    assert found["recall_at_1pct_fpr"] == {"ring": 0.5, "clickbait": 1.0}
    assert found["false_positives"] == {"fans": 1.0}
    assert found["accused"]["plain"]["mean"] == 0.0
    assert found["accused"]["ring"]["low"] < 0.5 < found["accused"]["ring"]["high"]
    assert found["auc_of"]["clickbait"] == 0.5


def sample(rng, many=3_000) -> Sample:
    """Cheats whose direct visits are watched less, and who get more of them."""
    cheats = rng.random(many) < 0.1
    traits = rng.normal(size=(many, len(judge.CONTENT_TRAITS))).astype(np.float32)
    traits[cheats, judge.CONTENT_TRAITS.index("watched")] -= 3.0
    traits[cheats, judge.CONTENT_TRAITS.index("direct")] += 3.0
    return Sample(traits, cheats, np.ones(many))


@pytest.mark.parametrize("name", ["fixed thresholds", "isolation forest", "logistic regression"])
def test_rivals_find_what_is_easy_to_find(name):
    rng = np.random.default_rng(0)
    score = trust_rivals.fitted(sample(rng))[name]
    other = sample(rng)
    found = score(other.traits)
    assert trust.auc(found[other.cheats], found[~other.cheats]) > 0.8


def test_rivals_see_nothing_of_the_detectors_own_judgements():
    rng = np.random.default_rng(0)
    made = sample(rng)
    for name, score in trust_rivals.fitted(made).items():
        changed = made.traits.copy()
        for own in trust_rivals.OWN:
            changed[:, judge.CONTENT_TRAITS.index(own)] = 9.0
        np.testing.assert_array_equal(score(changed), score(made.traits), err_msg=name)


def test_a_head_is_fitted_to_what_made_the_data():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=3)
    traits = rng.normal(size=(40_000, 3)).astype(np.float32)
    cheats = rng.random(len(traits)) < 1 / (1 + np.exp(1.0 - traits @ weights))
    names = "watched", "engaged", "feed_clicked"
    head = fitted(Sample(traits, cheats, np.ones(len(traits))), names)
    errors = np.sqrt(np.diag(head.covariance))
    assert (np.abs(head.weights - weights) < 4 * errors[1:]).all()
    assert abs(head.bias + 1.0) < 4 * errors[0]
    assert errors.max() < 0.05
    half = fitted(Sample(traits, cheats, np.full(len(traits), 0.5)), names)
    np.testing.assert_allclose(np.diag(half.covariance), 2 * np.diag(head.covariance), rtol=0.02)


def test_what_accuses_never_clears():
    rng = np.random.default_rng(0)
    traits = rng.normal(size=(4_000, 2)).astype(np.float32)
    cheats = rng.random(len(traits)) < 1 / (1 + np.exp(1.0 + traits @ np.array([1.0, 1.0])))
    head = fitted(Sample(traits, cheats, np.ones(len(traits))), ("much", "watched"))
    assert head.weights[0] == 0.0
    assert head.weights[1] < -0.7


def test_heads_come_back_as_they_went(tmp_path, monkeypatch):
    heads = judge.shipped()
    fitting.write(heads, tmp_path / "trust.json")
    monkeypatch.setattr("upwell.regulator.trust.judge.files", lambda package: tmp_path)
    for one, other in zip(judge.shipped(), heads, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_training_platforms_hold_out_kinds_and_tested_ones_do_not():
    config = load_world(SCENARIOS / "trust.toml")
    for seed in range(3):
        direct = fitting.platform(config, seed).direct
        assert direct.slow_drip == 0.0
        judged = trust.platform(config, seed).direct
        assert judged.slow_drip == config.direct.slow_drip
        for name in ("per_day", "days", "cover", "pool", "watch", "engaged", "spread"):
            assert getattr(judged, f"{name}_adaptive") == getattr(config.direct, f"{name}_adaptive")
        assert (judged.skill, judged.budget) == (direct.skill, direct.budget)
    assert len({fitting.platform(config, seed).direct.skill for seed in range(5)}) == 5


def test_strategies_move_as_the_regression_says():
    rng = np.random.default_rng(0)
    strays = rng.normal(size=(2_000, 6))
    slope, error = cheats.regressed(strays @ np.array([1.0, 0, 0, 0, -1.0, 0]) + rng.normal(size=2_000), strays)
    assert slope[0] == pytest.approx(1.0, abs=4 * error[0])
    config = load_world(SCENARIOS / "trust.toml")
    moved = cheats.moved(config, np.array([np.log(2.0), 0, 0, 0, -np.log(2.0), 0]))
    assert moved["direct.per_day_adaptive"] == pytest.approx(2.0 * config.direct.per_day_adaptive)
    watch = config.direct.watch_adaptive
    assert moved["direct.watch_adaptive"] == pytest.approx(watch / (watch + 2.0 * (1.0 - watch)))
    assert moved["direct.days_adaptive"] == pytest.approx(config.direct.days_adaptive)


def test_too_few_contents_are_told_of():
    with pytest.raises(BadRequest, match="too few for cheats to adapt by"):
        cheats.regressed(np.zeros(5), np.zeros((5, 6)))


def test_gains_are_of_the_same_contents():
    kind = np.array([visits.ADAPTIVE, visits.PLAIN, visits.ADAPTIVE])
    cheating = cheats.Earned(np.array([7, 8, 9]), kind, np.array([15.0, 1, 5]), np.zeros(3), np.eye(3, 6))
    honest = cheats.Earned(np.array([9, 8, 7]), kind, np.array([0.0, 1, 5]), np.zeros(3), np.eye(3, 6))
    gain, strays = cheats.gains(cheating, honest)
    np.testing.assert_allclose(gain, np.log([20 / 10, 10 / 5]))
    np.testing.assert_array_equal(strays, np.eye(3, 6)[[0, 2]])


def test_cost_of_a_small_platform():
    found = trust_cost.cost(4_000, 2_000, 1_000, 512, 3, 0)
    assert 0.0 < found["us_an_event"] < 1_000.0
    assert found["ring_found"] > 0.8
    assert found["bytes_a_content"] == 40


def run(*given: str):
    done = CliRunner().invoke(app, ["bench", "trust", *given, "--json"])
    assert done.exit_code == 0, done.output
    return msgspec.json.decode(done.stdout)


def test_what_it_is_asked_must_make_sense():
    wrong = CliRunner().invoke(app, ["bench", "trust", "nothing"])
    assert "give one of detection" in str(wrong.exception)
    blind = CliRunner().invoke(app, ["bench", "trust", "--set", "sizes.visits=0"])
    assert "nobody is judged there" in str(blind.exception)


@pytest.mark.slow
def test_detection_money_and_incentive_on_tiny_platforms(tmp_path):
    found = run("detection", "--adapt", "1", *TINY)
    assert found["auc"] > 0.7
    assert set(found["rivals"]) == {"fixed thresholds", "isolation forest", "logistic regression"}
    kinds = {"bought_clicks", "clickbait", "farm", "ring", "slow_drip", "adaptive"}
    assert {"bought_clicks", "slow_drip"} <= set(found["recall_at_1pct_fpr"]) <= kinds
    assert len(found["adapted"]) == 1
    money = run("money", *TINY)
    assert money["share_with_trust"]["mean"] < money["share_without_trust"]["mean"]
    assert set(money["by_kind"]) == {*kinds}
    shares = [of["share_with_trust"]["mean"] for of in money["by_kind"].values()]
    assert sum(shares) == pytest.approx(money["share_with_trust"]["mean"])
    pays = run("incentive", "--adapt", "0", *TINY)
    assert set(pays) >= {"0.3", "1", "3", "10"}
    heads = tmp_path / "heads.json"
    run("fit", "--out", str(heads), *TINY)
    assert set(msgspec.json.decode(heads.read_bytes())) == {"content", "account"}


@pytest.mark.slow
def test_a_farm_against_the_running_service():
    found = run("live", "--seconds", "30", "--rate", "6000")
    assert found["farm, judged"]["fake_events"] > 500
    assert found["farm, judged"]["alarm_s"] is not None
    assert found["quiet"]["alarm_s"] is None
    assert found["quiet"]["honest_frozen"] == 0
