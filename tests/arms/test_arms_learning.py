"""The learning baselines against hand-worked numbers and brute force."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from upwell.arms import fm, linucb, meta, nets, thompson
from upwell.world.config import Sizes

SIZES = Sizes(users=8, contents=20, creators=3, tags=5, segments=2)


def test_log_odds_have_the_moments_of_the_posterior():
    # Prior of 2 valid views at 10%: Beta(2, 18); after 3 of 10: Beta(5, 25).
    mean, spread = thompson.log_odds(jnp.array([0.0, 3.0]), jnp.array([0.0, 10.0]), 0.1, 2.0)
    rates = [stats.beta(2, 18), stats.beta(5, 25)]
    for i, rate in enumerate(rates):
        drawn = rate.rvs(400_000, random_state=np.random.default_rng(i))
        odds = np.log(drawn / (1 - drawn))
        assert float(mean[i]) == pytest.approx(odds.mean(), abs=0.01)
        assert float(spread[i]) == pytest.approx(odds.std(), abs=0.01)


def test_more_clicks_than_views_break_nothing():
    mean, spread = thompson.log_odds(jnp.array([5.0]), jnp.array([2.0]), 0.1, 1.0)
    assert np.isfinite(mean).all()
    assert (np.asarray(spread) > 0).all()


def test_the_first_step_of_adam_is_the_rate():
    params = {"a": jnp.array([1.0, -2.0]), "b": jnp.float32(3.0)}
    gradient = {"a": jnp.array([0.3, -40.0]), "b": jnp.float32(1e-3)}
    after, moments = nets.adam(params, gradient, nets.at_rest(params), jnp.float32(0.1))
    np.testing.assert_allclose(after["a"], [0.9, -1.9], rtol=1e-4)
    assert float(after["b"]) == pytest.approx(2.9, rel=1e-4)
    # A second step with the same gradient is as long: both means are corrected for their start.
    again, _ = nets.adam(after, gradient, moments, jnp.float32(0.1))
    np.testing.assert_allclose(again["a"], [0.8, -1.8], rtol=1e-4)


def machine_of(deep: bool) -> fm.Machine:
    """A machine with every number at random."""
    made = fm.machine(SIZES, 900, deep)
    leaves, tree = jax.tree.flatten(made)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return tree.unflatten([jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)])


VIEWER = fm.Viewer(jnp.int32(1), jnp.array([2, 4, 0, 0]), jnp.array([True, True, False, False]))
ITEM = fm.Item(jnp.array([3, 3, 1]), jnp.int32(2), jnp.int32(1), jnp.int32(4), jnp.float32(0.7))
PAIR = jnp.array([0.5, 0.2, 1.0])


@pytest.mark.parametrize("by_record", [True, False])
@pytest.mark.parametrize("deep", [True, False])
def test_a_machine_is_the_sum_over_all_pairs_of_fields(by_record, deep):
    m = machine_of(deep and by_record)
    user = [m.segment[1], (m.taste[2] + m.taste[4]) / 2]
    item = [(2 * m.tag[3] + m.tag[1]) / 3, m.creator[2], m.age[1]]
    item += [m.exposure[4], 0.7 * m.record] if by_record else []
    rows = np.array([*user, *item, *(PAIR[:, None] * m.pair)], np.float64)
    v, w = rows[:, : fm.K], rows[:, fm.K]
    wanted = float(m.bias) + w.sum() + sum(v[i] @ v[j] for i in range(len(v)) for j in range(i))
    if m.deep is not None:
        first = np.concatenate(v[:2]) @ m.deep.user + np.concatenate(v[2:7]) @ m.deep.item + PAIR @ m.deep.pair
        second = np.maximum(first + m.deep.first, 0) @ m.deep.inner + m.deep.second
        wanted += np.maximum(second, 0) @ m.deep.out
    got = fm.logit(m, fm.user_side(m, VIEWER), fm.item_side(m, ITEM, by_record), PAIR)
    assert float(got) == pytest.approx(float(wanted), rel=1e-3)


def start_of(**changes) -> meta.Start:
    base = meta.Start(
        jnp.array([0.0, 0.0]), jnp.zeros((5, 2)), jnp.zeros((3, 2)), jnp.full(2, -jnp.inf), jnp.float32(0.0)
    )
    return base._replace(**changes)


def test_a_head_starts_from_its_tags_and_its_creator():
    tag, creator = jnp.zeros((5, 2)).at[1, 0].set(3.0), jnp.zeros((3, 2)).at[2, 1].set(0.5)
    start = start_of(everyone=jnp.array([-3.0, 1.0]), tag=tag, creator=creator)
    heads = meta.unadapted(start, jnp.array([[1, 1, 0]]), jnp.array([2]))
    assert heads[0].tolist() == pytest.approx([-1.0, 1.5])


def test_an_inner_step_by_hand(monkeypatch):
    monkeypatch.setattr(meta, "INNER", 1)
    # 10 impressions at fit .4, 8 valid, from even odds: gradient 10·.5 - 8 = -3, times fit -1.2. Expected valid views
    # 10 · .1 and a prior of 1 divide it by 2.
    seen = jnp.zeros((1, 4, 2)).at[0, 2].set(jnp.array([10.0, 8.0]))
    head = meta.adapted(start_of(log_step=jnp.zeros(2)), jnp.zeros((1, 2)), seen, 0.1)
    assert head[0].tolist() == pytest.approx([1.5, 0.6])


def test_without_impressions_a_head_stays_where_it_starts():
    heads = jnp.array([[-2.0, 1.0]])
    assert meta.adapted(start_of(log_step=jnp.zeros(2)), heads, jnp.zeros((1, 4, 2)), 0.1).tolist() == heads.tolist()


def test_the_start_learns_who_makes_good_contents():
    """Two creators, one ten times as good: from their contents' first day and later, the start tells them apart."""
    rng = np.random.default_rng(0)
    creator = np.arange(60) % 2
    rate = np.where(creator == 1, 0.2, 0.02)
    seen = np.zeros((60, 2, 4, 2), np.float32)
    for day in (0, 1):
        seen[:, day, 1, 0] = 20
        seen[:, day, 1, 1] = rng.binomial(20, rate)
    start = start_of(everyone=jnp.array([-2.0, 0.0]), log_step=jnp.full(2, -1.0))
    moments, tags = nets.at_rest(start), jnp.zeros((60, 3), jnp.int32)
    step = jax.jit(jax.grad(meta.loss))
    first = meta.loss(start, tags, creator, seen, 0.1, 0.001)
    for _ in range(80):
        gradient = step(start, tags, jnp.asarray(creator), jnp.asarray(seen), 0.1, 0.001)
        start, moments = nets.adam(start, gradient, moments, jnp.float32(0.05))
    assert meta.loss(start, tags, creator, seen, 0.1, 0.001) < first
    bad, good = (float(meta.unadapted(start, tags[:1], jnp.array([c]))[0, 0]) for c in (0, 1))
    assert good - bad > 1.0


def test_a_bound_by_hand():
    """One feature alone: theta, width and the own term of a content with 4 valid views where 2 were expected."""
    d = len(linucb.FEATURES)
    own = linucb.Own(
        linucb.Tuned(alpha=0.5, own=6.0), jnp.eye(d), jnp.zeros(d), jnp.zeros(d).at[0].set(0.1), 0.04 * jnp.eye(d),
        jnp.array([2.0]),
    )  # fmt: skip
    stats_row = jnp.zeros((1, 14)).at[0, 0].set(10.0).at[0, 2].set(4.0)
    view = SimpleNamespace(arm=own, contents=SimpleNamespace(stats=stats_row))
    x = jnp.zeros((1, 1, 1, d)).at[..., 0].set(1.0)
    rate = 5.0 / 110.0  # (4 + 1) / (10 + 100)
    # mean .1 + (4 - 2)/(10 + 6); variance .04 + 1/16.
    wanted = (0.1 + 0.125) / rate + 0.5 * np.sqrt((0.04 + 1 / 16) * (1 - rate) / rate)
    assert float(linucb.bound(view, x, jnp.zeros((1, 1), jnp.int32))[0, 0, 0]) == pytest.approx(wanted, rel=1e-5)
