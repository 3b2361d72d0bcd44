"""The search against metrics that are formulas of the weights: it finds their best, within its limits and budget."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upwell.experiment.proof import Candidate
from upwell.experiment.search import BUDGET, Region, array_of, bent, ranked, search, weights_of
from upwell.goals.goal import Aim, Bound, Effect, Goal
from upwell.goals.weights import DEFAULT, USUAL, Limits, shares

NOW = Candidate(DEFAULT)
ANYWHERE = Limits(smallest=0.0, step=1.0, smoothing=1.0)
UP = Goal(id="g", text="…", created_at=0, aims=(Aim(metric="ctr", direction="up"),))


class Formulas:
    """Metrics as functions of shares ``[3]``, measured with noise; counts what is lived."""

    def __init__(self, noise: float = 0.0, **metrics):
        self.metrics, self.noise, self.lived = metrics, noise, []
        self.random = np.random.default_rng(0)

    def __call__(self, candidates):
        self.lived += candidates
        return [{name: self.effect(f, one) for name, f in self.metrics.items()} for one in candidates]

    def effect(self, formula, candidate) -> Effect:
        before = formula(array_of(DEFAULT))
        change = formula(array_of(candidate.weights)) - before + self.noise * self.random.normal()
        return Effect(before=before, after=before + change, change=change, low=change - 0.1, high=change + 0.1)


def peak(*at: float):
    """Best at these shares."""
    return lambda point: 10.0 - 30.0 * float(((point - np.array(at)) ** 2).sum())


@pytest.mark.parametrize("at", [(0.1, 0.3, 0.6), (0.55, 0.15, 0.3), (0.9, 0.05, 0.05), (0.35, 0.4, 0.25)])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_it_finds_the_best_of_the_simplex(at, noise):
    formulas = Formulas(noise, ctr=peak(*at))
    found = search(UP, NOW, ANYWHERE, formulas)
    assert len(formulas.lived) == len(set(formulas.lived)) == len(found) <= BUDGET
    best = array_of(found[0].candidate.weights)
    assert np.abs(best - np.array(at)).max() <= (0.051 if noise == 0.0 else 0.11)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_a_bound_keeps_it_from_where_the_aim_is_best():
    bound = Bound(metric="dau", low=-0.1, relative=True)
    wanted = Goal(id="g", text="…", created_at=0, aims=UP.aims, bounds=(bound,))
    # Click rate rises with revenue's share, daily users fall with it by as much: .1 of a tenth is the most, from .4
    formulas = Formulas(ctr=lambda p: 10.0 * p[1], dau=lambda p: 10.0 * (1.4 - p[1]))
    found = search(wanted, NOW, ANYWHERE, formulas)
    assert found[0].candidate.weights.platform_revenue == pytest.approx(0.5)
    assert found[0].score > 0.0
    free = search(UP, NOW, ANYWHERE, Formulas(ctr=lambda p: 10.0 * p[1]))
    assert free[0].candidate.weights.platform_revenue == pytest.approx(1.0)


def test_where_nothing_helps_nothing_scores():
    found = search(UP, NOW, USUAL, Formulas(ctr=peak(*array_of(DEFAULT))))
    best = array_of(found[0].candidate.weights)
    assert found[0].score <= 0.0
    assert np.allclose(best, array_of(DEFAULT)), "staying is lived too where the surface points there"


def test_the_present_program_stays():
    formulas = Formulas(ctr=peak(0.5, 0.3, 0.2))
    search(UP, NOW._replace(program="0.1"), USUAL, formulas)
    assert {one.program for one in formulas.lived} == {"0.1"}


def test_a_small_budget_holds():
    formulas = Formulas(ctr=peak(0.5, 0.3, 0.2))
    assert len(search(UP, NOW, USUAL, formulas, budget=4)) == len(formulas.lived) == 4


share = st.floats(0.0, 1.0)


@given(st.tuples(share, share, share).filter(lambda v: sum(v) > 0.01), share, st.floats(0.0, 1 / 3), st.floats(0.1, 1))
def test_what_may_be_proposed_is_within_the_limits(now, step, smallest, smoothing):
    here = shares(weights_of(np.array(now)))
    region = Region(weights_of(here), Limits(smallest=smallest, step=step, smoothing=smoothing))
    for weights in (*region.design(), region.nearest(np.array([1.0, 0.0, 0.0]))):
        point = array_of(weights)
        assert point.sum() == pytest.approx(1.0)
        assert np.abs(point - here).max() <= step * smoothing + 1e-9
        assert (point >= np.minimum(smallest, here) - 1e-9).all()


@settings(max_examples=5)
@given(st.integers(0, 1_000))
def test_it_lives_only_what_may_be_proposed(seed):
    random = np.random.default_rng(seed)
    slope, bend = random.normal(size=3), random.normal(size=(3, 3))
    formulas = Formulas(ctr=lambda p: float(5.0 + slope @ p + p @ bend @ p))
    search(UP, NOW, USUAL, formulas, budget=12)
    for one in formulas.lived:
        point = array_of(one.weights)
        assert (point >= USUAL.smallest - 1e-9).all()
        assert np.abs(point - array_of(DEFAULT)).max() <= USUAL.step * USUAL.smoothing + 1e-9


def test_one_measure_of_noise_for_all():
    """Half-widths 3 and 4 become the root of their mean square, 3.5355: luck with one's own is no merit."""
    same = {"before": 1.0, "after": 3.0, "change": 2.0}
    found = {
        NOW: {"ctr": Effect(**same, low=-1.0, high=5.0)},
        NOW._replace(program="0.1"): {"ctr": Effect(**same, low=-2.0, high=6.0)},
    }
    assert [one.score for one in ranked(UP, found)] == [pytest.approx(np.log1p(2.0 / 3.5355), rel=1e-4)] * 2
    assert ranked(UP, {}) == []


def test_the_surface_is_0_at_no_move():
    assert bent(np.zeros((1, 3))).tolist() == [[0.0] * 5]
    assert bent(np.array([[2.0, 3.0, -5.0]])).tolist() == [[2.0, 3.0, 4.0, 6.0, 9.0]]
