"""Off-policy estimators: numbers by hand, and the truth of a bandit whose truth is known."""

import numpy as np
import pytest

from upwell.errors import BadRequest
from upwell.experiment import ope, ope_slates


def three() -> ope.Samples:
    return ope.Samples(
        reward=np.array([1.0, 0.0, 1.0]),
        weight=np.array([2.0, 0.5, 0.5]),
        cluster=np.array([0, 1, 1]),
        expected_logged=np.array([0.5, 0.25, 0.5]),
        expected_target=np.array([0.4, 0.4, 0.4]),
    )


def test_by_hand():
    found = {name: ope.estimate(three(), of).mean for name, of in ope.ESTIMATORS.items()}
    assert found == {
        "ips": pytest.approx((2.0 + 0.5) / 3), "snips": pytest.approx(2.5 / 3.0), "dm": pytest.approx(0.4),
        "dr": pytest.approx(0.4 + (2.0 * 0.5 - 0.5 * 0.25 + 0.5 * 0.5) / 3),
        "switch_dr": pytest.approx(0.4 + (2.0 * 0.5 - 0.5 * 0.25 + 0.5 * 0.5) / 3),
    }  # fmt: skip
    assert ope.estimate(three(), ope.ips, most=1.0).mean == pytest.approx(1.5 / 3)
    assert ope.estimate(three(), ope.switch_dr, most=1.0).mean == pytest.approx(0.4 + (-0.125 + 0.25) / 3)
    assert ope.estimate(three(), ope.ips).effective_samples == pytest.approx(9.0 / 4.5)


def test_the_error_goes_by_clusters_by_hand():
    mean, error = ope.mean_by_cluster(np.array([1.0, 2.0, 6.0]), np.array([0, 1, 1]))
    assert mean == 3.0
    # Sums of what is off: -2 and -1 + 3 = 2; two clusters of two.
    assert error == pytest.approx(np.sqrt((4.0 + 4.0) * 2.0 / 1.0) / 3.0)


def bandit(rng: np.random.Generator, many: int, logged: np.ndarray, target: np.ndarray, model: np.ndarray):
    """Choices of three actions by users of two kinds, ten each, the kinds liking different actions."""
    kind = np.repeat(rng.integers(0, 2, many // 10), 10)
    action = (rng.random(many)[:, None] > logged[kind].cumsum(-1)).sum(-1)
    pays = np.array([[0.2, 0.5, 0.8], [0.6, 0.3, 0.1]])
    reward = (rng.random(many) < pays[kind, action]).astype(float)
    return ope.Samples(
        reward, target[kind, action] / logged[kind, action], np.arange(many) // 10,
        model[kind, action], (target * model).sum(-1)[kind],
    ), float((target * pays).sum(-1).mean())  # fmt: skip


LOGGED = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
TARGET = np.array([[0.1, 0.3, 0.6], [0.7, 0.2, 0.1]])
RIGHT = np.array([[0.2, 0.5, 0.8], [0.6, 0.3, 0.1]])
WRONG = np.full((2, 3), 0.4)


@pytest.mark.parametrize("model", [RIGHT, WRONG])
@pytest.mark.parametrize("name", ["ips", "snips", "dr", "switch_dr"])
def test_intervals_hold_the_truth_as_often_as_they_say(name, model):
    rng, held, runs = np.random.default_rng(5), 0, 400
    for _ in range(runs):
        samples, truth = bandit(rng, 2_000, LOGGED, TARGET, model)
        found = ope.estimate(samples, ope.ESTIMATORS[name])
        held += found.low <= truth <= found.high
    assert 0.92 <= held / runs <= 0.98


def test_a_right_model_makes_the_doubly_robust_interval_the_shorter_one():
    samples, truth = bandit(np.random.default_rng(6), 20_000, LOGGED, TARGET, RIGHT)
    wide, short = ope.estimate(samples, ope.ips), ope.estimate(samples, ope.dr)
    assert short.high - short.low < 0.8 * (wide.high - wide.low)
    assert short.low <= truth <= short.high


def test_a_wrong_model_alone_is_wrong():
    samples, truth = bandit(np.random.default_rng(7), 20_000, LOGGED, TARGET, WRONG)
    assert abs(ope.estimate(samples, ope.dm).mean - truth) > 0.15
    assert abs(ope.estimate(samples, ope.dr).mean - truth) < 0.03


def test_a_bound_on_a_difference_knows_who_is_better():
    samples, _ = bandit(np.random.default_rng(8), 20_000, LOGGED, TARGET, RIGHT)
    stay = samples._replace(weight=np.ones_like(samples.weight), expected_target=samples.expected_logged)
    better, worse = ope.dr(samples, 20.0), ope.dr(stay, 20.0)
    mean, low = ope.lower_bound(better, worse, samples.cluster, 0.95)
    assert 0.0 < low < mean
    mean, low = ope.lower_bound(worse, better, samples.cluster, 0.95)
    assert low < mean < 0.0
    assert ope.lower_bound(worse, worse, samples.cluster, 0.95) == (0.0, 0.0)


def test_what_cannot_be_said_is_refused():
    one = three()
    with pytest.raises(BadRequest, match="two users"):
        ope.estimate(one._replace(cluster=np.zeros(3, np.int64)), ope.ips)
    with pytest.raises(BadRequest, match="no logged choice"):
        ope.estimate(one._replace(weight=np.zeros(3)), ope.snips)


def test_slates_by_hand():
    slates = ope_slates.Slates(
        reward=np.array([[1.0, 0.0], [1.0, 1.0]]), weight=np.array([[2.0, 0.5], [0.5, 4.0]]), cluster=np.array([0, 1])
    )
    means = {name: ope_slates.estimate(slates, name).mean for name in ope_slates.WEIGHTS}
    assert means == {
        "sips": pytest.approx((1.0 + 2.0 * 2.0) / 2), "iips": pytest.approx((2.0 + 0.5 + 4.0) / 2),
        "rips": pytest.approx((2.0 + 0.5 + 2.0) / 2),
    }  # fmt: skip
    assert ope_slates.estimate(slates, "iips", most=1.0).mean == pytest.approx((1.0 + 0.5 + 1.0) / 2)
    assert ope_slates.estimate(slates, "rips").effective_samples == pytest.approx(9.0 / 5.0)


def test_slates_whose_places_hang_on_those_above_need_the_cascade():
    """The second of two places is clicked only below a good first one: 0 is good, and asked for more than logged."""
    rng, held = np.random.default_rng(9), dict.fromkeys(ope_slates.WEIGHTS, 0)
    logged, asked = np.array([[0.3, 0.7], [0.5, 0.5]]), np.array([[0.8, 0.2], [0.9, 0.1]])
    truth = 0.8 * 0.5 + 0.8 * 0.9 * 0.6
    for _ in range(200):
        chosen = (rng.random((1_000, 2)) > logged[:, 0]).astype(int)
        rate = np.stack([0.5 * (chosen[:, 0] == 0), 0.6 * ((chosen[:, 0] == 0) & (chosen[:, 1] == 0))], 1)
        places = np.arange(2)
        weight = asked[places, chosen] / logged[places, chosen]
        slates = ope_slates.Slates((rng.random((1_000, 2)) < rate).astype(float), weight, np.arange(1_000))
        for name in held:
            found = ope_slates.estimate(slates, name)
            held[name] += found.low <= truth <= found.high
    assert held["sips"] >= 180
    assert held["rips"] >= 180
    assert held["iips"] < 40
