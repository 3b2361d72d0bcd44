"""Networks are numbers: the same over NumPy and JAX, silent at first, and read from a file or refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from upwell.agents import arrays, observe
from upwell.agents.dials import TURNS, Dials
from upwell.agents.network import VERSION, Layer, dials, first_policy, forward, load_policy, save_policy
from upwell.errors import BadRequest


def test_forward_by_hand():
    network = (
        Layer(np.array([[1.0, -1.0]], np.float32), np.array([0.0, 0.5], np.float32)),
        Layer(np.array([[2.0], [1.0]], np.float32), np.array([0.25], np.float32)),
    )
    # tanh(0.5) · 2 + tanh(0) · 1 + 0.25
    assert forward(np, network, np.array([[0.5]], np.float32))[0, 0] == pytest.approx(2 * np.tanh(0.5) + 0.25)


@pytest.mark.parametrize("role", TURNS)
def test_a_first_policy_plays_by_the_rules(role):
    seen = np.random.default_rng(0).normal(size=(50, len(observe.SEES[role]))).astype(np.float32)
    turned = dials(np, role, getattr(first_policy(3), role), seen)
    for name, rule in getattr(Dials(), role)._asdict().items():
        np.testing.assert_array_equal(turned[name], np.full(50, rule, np.float32))


def test_numpy_and_jax_see_and_turn_alike():
    random = np.random.default_rng(1)
    platform = observe.Platform(
        np.float32(0.05), np.float32(0.07), np.float32(1), np.float32(0.3), np.float32(0.5), (0.4, 0.3, 0.3)
    )
    n = 200
    of_user = (
        random.random((n, 4)).astype(np.float32), random.random(n).astype(np.float32) / 5, random.integers(0, 30, n),
        random.normal(size=(n, 8)).astype(np.float32) / 8, random.normal(size=(n, 8)).astype(np.float32) / 8,
        random.integers(0, 40, n).astype(np.float32),
    )  # fmt: skip
    impressions = random.integers(0, 400, n).astype(np.float32)
    of_content = (
        impressions, impressions // 9, impressions // 20, impressions // 3, random.integers(0, 9, n).astype(np.float32),
        random.random(n).astype(np.float32) * 1e4, random.random(n).astype(np.float32) * 100, 100.0,
        random.random(n).astype(np.float32),
    )  # fmt: skip
    policy = first_policy(0)
    layers = [Layer(layer.weight + 0.1, layer.bias - 0.2) for layer in policy.user]
    for see, args, role in ((observe.of_user, of_user, "user"), (observe.of_content, of_content, "content")):
        ours, theirs = see(np, *args, platform), see(jnp, *args, platform)
        assert ours.dtype == np.float32
        assert ours.shape == (n, len(observe.SEES[role]))
        assert (np.abs(ours) <= observe.LIMIT).all()
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        if role == "user":
            a, b = (dials(xp, role, tuple(layers), seen) for xp, seen in ((np, ours), (jnp, theirs)))
            for name in a:
                np.testing.assert_allclose(a[name], b[name], atol=1e-4)


def test_what_is_seen_by_hand():
    platform = observe.Platform(0.05, 0.07, 0.5, 0.25, 1.0, (0.4, 0.4, 0.2))
    one = np.ones(1, np.float32)
    seen = observe.of_content(
        np, one * 25, one * 0, one * 0, one * 0, one * 0, one * 0, one * 50, 100.0, one * 0.5, platform
    )
    named = dict(zip(observe.CONTENT, seen[0].tolist(), strict=True))
    assert named["young"] == 1.0
    assert named["exposure"] == pytest.approx(0.5 * np.log(1 + 25 / 2.5) - 1)
    assert named["started"] == pytest.approx(2 * 25 / 25 - 1)
    assert named["coins"] == pytest.approx(-0.5)
    assert named["promise"] == pytest.approx(np.log(5 / (25 * 0.07 + 5)))
    assert (named["throttle"], named["load"], named["pool_left"]) == (0.0, -0.5, 1.0)
    assert named["weight_user"] == pytest.approx(0.2)
    assert named["weight_long_term"] == pytest.approx(-0.4)


def test_a_policy_file_comes_back_and_others_are_refused(tmp_path):
    policy, path = first_policy(7), tmp_path / "policy.npz"
    save_policy(path, policy, {"note": "中文"})
    for a, b in zip(policy, load_policy(path), strict=True):
        for one, two in zip(a, b, strict=True):
            np.testing.assert_array_equal(one.weight, two.weight)
            np.testing.assert_array_equal(one.bias, two.bias)
    smaller = policy._replace(user=policy.user[:1])
    save_policy(path, smaller, {})
    with pytest.raises(BadRequest, match="its user network goes from 12 numbers to 32"):
        load_policy(path)
    arrays.save(path, "policy", VERSION + 1, {}, {})
    with pytest.raises(BadRequest, match="version"):
        load_policy(path)
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(BadRequest, match="not a file of arrays"):
        load_policy(path)
    with pytest.raises(BadRequest, match="no such"):
        load_policy(tmp_path / "none.npz")
