"""Formulas of the agents, on numbers worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.agents import content, mind, system, user
from upwell.agents.xp import hash_uniform, quantise, top_k

RULES = mind.MindRules()


def f(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_top_k_breaks_ties_by_the_lower_index():
    values, order = top_k(np, f(1, 3, 3, 2), 3)
    assert order.tolist() == [1, 2, 3]
    assert values.tolist() == [3, 3, 2]


def test_quantise_keeps_thousandths_and_clips():
    assert quantise(np, f(1.0, 0.0004, 5000.0)).tolist() == [1024.0, 0.0, 1024.0 * 1024.0]


def test_hash_uniforms_are_uniform_and_differ_by_key():
    u = hash_uniform(np, 1, np.arange(100_000))
    assert abs(u.mean() - 0.5) < 0.005
    assert abs(u.var() - 1 / 12) < 0.002
    other = hash_uniform(np, 2, np.arange(100_000))
    assert abs(np.corrcoef(u, other)[0, 1]) < 0.02


def test_mind_at_expected_clicks_tends_to_six_tenths():
    start = mind.first_sight(np, (1,))
    after = mind.update(np, start, f(1.0), f(1.0), f(0.0), f(0.0), RULES)
    assert after[0].tolist() == pytest.approx([0.7, 0.5, 0.2, 0.6])


def test_mind_after_a_barren_slate_of_sameness():
    start = mind.first_sight(np, (1,))
    after = mind.update(np, start, f(0.0), f(1.0), f(0.0), f(0.9), RULES)
    # surprise -1: outcome .6 - .25 = .35; satisfaction .9 * .6 + .1 * .35
    assert after[0].tolist() == pytest.approx([0.7, 0.5, 0.4, 0.575])


def test_low_satisfaction_lowers_exploitation():
    after = mind.update(np, np.array([[0.7, 0.5, 0.2, 0.3]], np.float32), f(0.0), f(1.0), f(1.0), f(0.0), RULES)
    assert after[0, mind.EXPLOITATION] == pytest.approx(0.6)
    assert after[0, mind.CURIOSITY] == pytest.approx(0.6)


def test_recovery_halves_the_distance_in_a_half_life():
    tired = np.array([[0.7, 0.5, 1.0, 0.6]], np.float32)
    assert mind.recover(np, tired, f(RULES.fatigue_half_life_h), RULES)[0, mind.FATIGUE] == pytest.approx(0.6)


@given(
    st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4),
    st.floats(0, 10, width=32),
    st.floats(0, 10, width=32),
    st.booleans(),
    st.floats(-1, 1, width=32),
)
def test_mind_stays_within_bounds(state, clicks, expected, new, similarity):
    after = mind.update(np, f(*state)[None], f(clicks), f(expected), f(float(new)), f(similarity), RULES)
    assert ((after >= 0) & (after <= 1)).all()


def test_content_asks_by_the_seed_rules():
    one = f(1.0)
    asked = content.ask(
        np, f(0, 2000, 2000), f(0, 0.06, 0.02), f(0.5, 0.5, 0.5), f(100, 100, 100), one, f(1000.0), f(0.8, 0.65, 0.2)
    )
    assert asked.asks.tolist() == [True, True, False]
    assert asked.impressions.tolist() == [1000, 1000, 1000]
    assert asked.bid.tolist() == pytest.approx([5.5, 8.0, 6.0])


@pytest.mark.parametrize(
    ("had", "time", "needed"),
    [(0.5, 0.5, 0.5), (0.4, 0.5, 1.0), (0.3, 0.5, 1.0), (0.55, 0.5, 0.25), (0.6, 0.5, 0.0), (0.9, 0.5, 0.0)],
)
def test_who_is_ahead_of_its_time_needs_nobody(had, time, needed):
    assert float(content.behind(np, had, time)) == pytest.approx(needed)
    # Of 500·2 impressions within three days; then of 100·2 on the fourth, which counts only after the first.
    assert float(content.need(np, 3.0 * time, 1_000.0 * had, 0.0, 2.0)) == pytest.approx(needed)
    assert float(content.need(np, 3.0 + time, 1_000.0, 200.0 * had, 2.0)) == pytest.approx(needed)
    assert float(content.need(np, 3.0 + time, 999.0, 200.0 * had, 2.0)) == 0.0
    assert float(content.need(np, 4.0 + time, 1_000.0, 200.0 * had, 2.0)) == 0.0


def test_quality_starts_at_a_half_and_bought_clicks_lower_it():
    before = content.quality(np, f(0), f(0), f(0), f(0.02))
    bought = content.quality(np, f(0), f(200), f(1000), f(0.02))
    assert before[0] == pytest.approx(0.5, abs=0.01)
    assert bought[0] < 0.2


def test_system_score_is_one_half_when_all_ask_alike():
    same = f(3, 3, 3)
    score, parts = system.score(np, same, same, same, np.ones(3, bool), (0.4, 0.3, 0.3))
    assert score.tolist() == pytest.approx([0.5] * 3)
    assert {name: part.tolist() for name, part in parts.items()} == {
        "match": pytest.approx([0.2] * 3), "bid": pytest.approx([0.15] * 3), "retention": pytest.approx([0.15] * 3),
    }  # fmt: skip


def test_system_score_does_not_let_the_scale_of_bids_win():
    match, bid, boost = f(0, 1), f(1000, 0), f(0, 0)
    score, _ = system.score(np, match, bid, boost, np.ones(2, bool), (0.5, 0.3, 0.2))
    assert score[1] > score[0]


def test_an_unhappy_user_is_not_explored_on():
    minds = np.array([[0.2, 1.0, 0.2, 0.2], [0.2, 1.0, 0.2, 0.7]], np.float32)
    chance = user.explore_probability(np, minds)
    assert chance[0] == 0.0
    assert 0.0 < chance[1] <= user.MOST
