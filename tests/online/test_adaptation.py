"""Per-user adaptation: who is moved more than others gets more of it, after a hundred interactions, and no sooner."""

import msgspec
import numpy as np
import pytest

from upwell.online.adaptation import DEVIATION, EVERY, KEPT, LEAST, MOST, WIDTH, Adaptation, matrix, vector

TASTE = 0


def lives(adaptation: Adaptation, rng, user: str, own: float, slates: int) -> list[bool]:
    """Slates of ten places, watched by the parts of their score; by the first one as this user is moved by it."""
    told = []
    for _ in range(slates):
        parts = rng.normal(size=(10, WIDTH))
        logit = -1.5 + 0.5 * parts[:, 1] + (0.3 + own) * parts[:, TASTE] - 0.1 * np.arange(10)
        watched = (rng.random(10) < 1.0 / (1.0 + np.exp(-logit))).astype(float)
        told.append(adaptation.learn(user, range(10), parts, watched, int(watched.sum())))
    return told


def test_a_user_by_hand():
    """Two places of a new user, one watched: the chance was 1/20, so the slope is x·(y - 1/20) off the mean part."""
    adaptation = Adaptation()
    parts = np.zeros((2, WIDTH))
    parts[:, TASTE] = 1.0, -1.0
    assert not adaptation.learn("u", [0, 1], parts, np.array([1.0, 0.0]), EVERY - 1)
    own = adaptation.users["u"]
    assert vector(own.slope)[TASTE] == pytest.approx(0.95 + 0.05)
    assert matrix(own.bend)[TASTE, TASTE] == pytest.approx(2 * 0.05 * 0.95)
    assert adaptation.factors("u").tolist() == [1.0] * WIDTH  # a hundred interactions it takes
    assert adaptation.learn("u", [], np.zeros((0, WIDTH)), np.zeros(0), 1)
    prior = KEPT / DEVIATION**2 + (1.0 - KEPT) / DEVIATION**2
    assert adaptation.factors("u")[TASTE] == pytest.approx(1.0 + 1.0 / (prior + 0.095), rel=1e-5)
    assert own.interactions == 0


def test_who_is_moved_by_something_gets_more_of_it():
    adaptation, rng = Adaptation(), np.random.default_rng(0)
    for _ in range(150):
        for n in range(10):
            lives(adaptation, rng, f"like{n}", 0.6, 1)
            lives(adaptation, rng, f"unlike{n}", -0.6, 1)
            lives(adaptation, rng, f"all{n}", 0.0, 1)
    found = {
        kind: np.array([adaptation.factors(f"{kind}{n}") for n in range(10)]) for kind in ("like", "unlike", "all")
    }
    assert found["like"][:, TASTE].mean() > 1.25
    assert found["unlike"][:, TASTE].mean() < 0.75
    assert abs(found["all"][:, TASTE].mean() - 1.0) < 0.1
    others = np.concatenate([of[:, 1:] for of in found.values()])
    assert abs(others.mean() - 1.0) < 0.03  # what moves all alike is no user's own
    assert others.std() < 0.2
    shared = vector(adaptation.shared.mean)
    assert shared[TASTE] == pytest.approx(0.3, abs=0.1)
    assert shared[1] == pytest.approx(0.5, abs=0.1)


def test_after_each_hundred_interactions_and_no_sooner():
    adaptation, rng = Adaptation(), np.random.default_rng(1)
    told = lives(adaptation, rng, "u", 0.0, 400)
    interactions = sum(one.interactions for one in adaptation.users.values())
    assert 5 <= sum(told) <= 10
    assert interactions < EVERY
    first = told.index(True)
    assert not any(told[:first])


def test_however_much_is_told_factors_stay_within_bounds():
    adaptation = Adaptation()
    parts = np.full((10, WIDTH), 50.0) * np.where(np.arange(10) < 5, 1.0, -1.0)[:, None]
    for sign in (1.0, 0.0):
        watched = np.where(np.arange(10) < 5, sign, 1.0 - sign)
        for _ in range(50):
            adaptation.learn("u", range(10), parts, watched, EVERY)
            factors = adaptation.factors("u")
            assert np.isfinite(factors).all()
            assert (factors >= LEAST).all()
            assert (factors <= MOST).all()


def test_it_is_plain_data():
    adaptation = Adaptation()
    lives(adaptation, np.random.default_rng(2), "u", 0.5, 100)
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(adaptation), type=Adaptation)
    assert again == adaptation
    one, two = (lives(each, np.random.default_rng(3), "u", 0.5, 50) for each in (adaptation, again))
    assert one == two
    assert again == adaptation
