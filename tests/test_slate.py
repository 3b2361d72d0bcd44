"""Slates: what must hold of every one, and NumPy against JAX on 10,000 random requests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upwell.agents.xp import BLOCKED, quantise
from upwell.regulator import slate

S, R, C, G, K = 10, 1_000, 60, 6, 10


def request(seed: int, requests: int = R) -> dict:
    rng = np.random.default_rng(seed)
    ids = np.sort(np.stack([rng.choice(5_000, C + G, replace=False) for _ in range(S)]), axis=1).astype(np.int32)
    grants = ids[:, rng.permutation(C + G)[:G]]
    ids = np.stack([np.setdiff1d(row, g)[:C] for row, g in zip(ids, grants, strict=True)]).astype(np.int32)
    places, wide = len(slate.explored_places(K)), (S, requests, G)
    # Few distinct scores, so that ties are everywhere.
    return {
        "ids": ids,
        "scores": quantise(np, rng.integers(-8, 8, (S, requests, C)).astype(np.float32) / 4),
        "blocked": rng.random((S, requests, C)) < 0.2,
        "grants": slate.Grants(
            grants,
            np.where(rng.random(wide) < 0.3, BLOCKED, rng.integers(-4, 4, wide)).astype(np.float32),
            rng.integers(0, 200, (S, G)).astype(np.int32),
        ),
        "slots": rng.integers(0, 3, (S, requests)).astype(np.int32),
        "exploration": slate.Exploration(
            rng.random((S, requests)).astype(np.float32) * 0.6,
            rng.normal(size=(S, requests, C)).astype(np.float32),
            rng.random((S, requests, places)).astype(np.float32),
            rng.random((S, requests, places, C)).astype(np.float32) * 0.998 + 0.001,
        ),
    }  # fmt: skip


@pytest.fixture(scope="module")
def shown() -> tuple[dict, slate.Slate]:
    given = request(0, 200)
    return given, slate.build(np, size=K, **given)


def test_numpy_and_jax_build_identical_slates_on_ten_thousand_requests():
    given = request(1)
    ours = slate.build(np, size=K, **given)
    theirs = jax.jit(lambda g: slate.build(jnp, size=K, **g))(jax.tree.map(jnp.asarray, given))
    assert ours.ids.shape == (S, R, K)
    np.testing.assert_array_equal(ours.ids, np.asarray(theirs.ids))
    np.testing.assert_array_equal(ours.kind, np.asarray(theirs.kind))
    np.testing.assert_allclose(ours.propensity, np.asarray(theirs.propensity), rtol=1e-4)


def test_no_content_twice_and_no_blocked_content_organically(shown):
    given, s = shown
    assert (np.sort(s.ids, -1)[..., 1:] != np.sort(s.ids, -1)[..., :-1]).all()
    for cell in range(S):
        position = {int(c): i for i, c in enumerate(given["ids"][cell])}
        for r in range(200):
            for content, kind in zip(s.ids[cell, r], s.kind[cell, r], strict=True):
                if kind != slate.HEATED:
                    assert not given["blocked"][cell, r, position[int(content)]]


def test_heated_places_hold_grants_within_slots_and_leases(shown):
    given, s = shown
    heated = s.kind == slate.HEATED
    assert heated.any()
    assert (heated.sum(-1) <= given["slots"]).all()
    for cell in range(S):
        for g, content in enumerate(given["grants"].ids[cell]):
            assert (heated[cell] & (s.ids[cell] == content)).sum() <= given["grants"].lease[cell, g]
        assert np.isin(s.ids[cell][heated[cell]], given["grants"].ids[cell]).all()


def test_organic_contents_keep_the_rankers_order(shown):
    given, s = shown
    for cell in range(S):
        order = given["ids"][cell]
        for r in range(50):
            organic = s.ids[cell, r][s.kind[cell, r] == slate.ORGANIC]
            keys = [(-given["scores"][cell, r, np.searchsorted(order, c)], c) for c in organic]
            assert keys == sorted(keys)


def test_without_chance_every_propensity_is_one_and_flagged():
    given = request(2, 50)
    s = slate.build(np, given["ids"], given["scores"], given["blocked"], K)
    assert (s.propensity == 1.0).all()
    assert not s.stochastic.any()
    assert (s.kind == slate.ORGANIC).all()


def test_propensities_are_the_frequencies_of_the_draws():
    rng = np.random.default_rng(3)
    draws, width = 40_000, 4
    logits = np.broadcast_to(np.array([0.0, 1.0, -1.0, 0.5], np.float32), (1, draws, width))
    index, explored, p = slate.choose_explored(
        np,
        slate.Exploration(
            np.ones((1, draws), np.float32), logits, np.zeros((1, draws, 1), np.float32),
            rng.random((1, draws, 1, width)).astype(np.float32) * 0.99998 + 1e-5,
        ),
        np.ones((1, draws, width), bool), 0.1, 1,
    )  # fmt: skip
    assert explored.all()
    for c in range(width):
        chosen = index[0, :, 0] == c
        assert chosen.mean() == pytest.approx(float(p[0, chosen, 0][0]), abs=0.01)


def test_explored_propensities_never_fall_below_the_floor():
    logits = np.full((1, 1, C), -30.0, np.float32)
    logits[..., 0] = 30.0
    u = np.full((1, 1, 1, C), 0.5, np.float32)
    u[..., 0] = 1e-30
    u[..., 1] = 1 - 1e-7
    one = np.ones((1, 1), np.float32)
    index, _, p = slate.choose_explored(
        np, slate.Exploration(one, logits, one[..., None] * 0, u), np.ones((1, 1, C), bool), 0.02, 1
    )
    assert index[0, 0, 0] == 1
    assert p[0, 0, 0] == pytest.approx(0.02 / C)


def test_places_of_small_slates():
    assert slate.heated_places(1) == (0,)
    assert len(slate.heated_places(10)) == 2
    assert not set(slate.heated_places(10)) & set(slate.explored_places(10))
