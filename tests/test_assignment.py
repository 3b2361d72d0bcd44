"""Who is in which arm: even, independent, sticky, and the same for arrays, for one request and in JAX."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from upwell.agents.xp import absorb, absorbed
from upwell.errors import BadRequest
from upwell.regulator import designs
from upwell.regulator.assignment import HOLDOUT_SALT, NONE, Table, assign, below, unit_id
from upwell.regulator.layers import BUCKETS, Arm, Experiment, Layer
from upwell.regulator.targeting import Target, Traits

MILLION = np.arange(1_000_000)
FEW = np.arange(4_000)
HALVES = (Arm(name="control", share=0.5), Arm(name="treated", share=0.5))


def arms(*shares, rooms=None):
    rooms = rooms or [None] * len(shares)
    return tuple(Arm(name=f"arm{n}", share=p, room=room) for n, (p, room) in enumerate(zip(shares, rooms, strict=True)))


def layer(*experiments, name="layer"):
    return Layer(name=name, experiments=experiments)


def even(name):
    return Table(layer(Experiment(name=f"of {name}", arms=arms(*[0.01] * 100)), name=name), 0.0)


buckets = st.integers(0, BUCKETS)


@st.composite
def experiments(draw, name="one", ranges=((0, BUCKETS),)):
    rooms = [high - low for low, high in pairwise(sorted({0, *draw(st.lists(buckets, min_size=1, max_size=4))}))]
    shares = [draw(st.integers(0, room)) / BUCKETS for room in rooms or [BUCKETS]]
    made = arms(*shares, rooms=[room / BUCKETS for room in rooms] or None)
    return Experiment(name=name, arms=made, buckets=draw(st.sampled_from(ranges)))


@st.composite
def layers(draw):
    ends = sorted(draw(st.sets(buckets, min_size=3, max_size=6)))
    return layer(*[draw(experiments(f"in {each}", (each,))) for each in pairwise(ends)])


def test_arms_hold_the_first_part_of_their_lanes():
    one = Experiment(name="x", arms=arms(0.15, 0.2))
    assert (one.lanes, one.widths) == ([0, 5_000, 10_000], [1_500, 2_000])
    other = Experiment(name="x", arms=arms(0.1, 0.1, 0.8, rooms=[None, None, 0.8]))
    assert other.lanes == [0, 1_000, 2_000, 10_000]


def test_the_same_for_ever():
    """A server of another version must not deal anew."""
    table = Table(layer(Experiment(name="x", arms=arms(0.3, 0.3), buckets=(0, 8_000))), 0.05)
    assert table.arms_of(np, np.arange(24)).tolist() == [
        -1, -1, 0, -1, -1, 0, -1, 1, 1, 1, -1, 1, 0, 0, -1, 1, -1, -1, 1, -1, -1, -1, -1, -1,
    ]  # fmt: skip
    assert unit_id("u1") == 3_032_739_940


@pytest.mark.parametrize("name", ["a", "b"])
def test_layers_and_arms_are_even(name):
    cut = [(n, n + 100) for n in range(0, BUCKETS, 100)]
    ranges = layer(*(Experiment(name=f"{name}{r}", arms=arms(1.0), buckets=r) for r in cut), name=name)
    for table in (Table(ranges, 0.0), even(name)):
        assert stats.chisquare(np.bincount(table.arms_of(np, MILLION), minlength=100)).pvalue > 0.01


def test_layers_arms_and_the_holdout_are_independent():
    one, other = (even(name).arms_of(np, MILLION) for name in "ab")
    held = assign(np, MILLION, HOLDOUT_SALT) < 0.05
    halves = [Experiment(name=f"h{n}", arms=HALVES, buckets=(5_000 * n, 5_000 * n + 5_000)) for n in range(2)]
    quarter = Table(layer(*halves, name="a"), 0.0).arms_of(
        np, MILLION
    )  # the experiment by one salt, the arm by another
    for x, y in ((one, other), (one, held), (quarter // 2, quarter % 2), (quarter, other)):
        seen = np.zeros((int(x.max()) + 1, int(y.max()) + 1))
        np.add.at(seen, (x, y.astype(int)), 1)
        assert stats.chi2_contingency(seen).pvalue > 0.01


@given(st.floats(0, 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_share_in_integers(share, salt, unit):
    assert (absorb(absorbed(salt), unit) < below(share)) == (assign(np, np.uint32(unit), salt) < np.float32(share))
    edge = below(share)
    assert edge % 256 == 0
    assert abs(edge / 2**32 - share) < 2**-23


@settings(max_examples=25)
@given(layers())
def test_experiments_of_a_layer_are_disjoint_and_none_knows_of_another(whole):
    together, first, seen = Table(whole, 0.1).arms_of(np, FEW), 0, np.zeros(len(FEW), int)
    for one in whole.experiments:
        alone = Table(layer(one), 0.1).arms_of(np, FEW)
        np.testing.assert_array_equal(
            np.where(alone == NONE, NONE, alone + first)[alone != NONE], together[alone != NONE]
        )
        seen += alone != NONE
        first += len(one.arms)
    np.testing.assert_array_equal(seen, together != NONE)


@settings(max_examples=25)
@given(experiments(), st.data())
def test_a_ramp_moves_nobody_to_another_arm(before, data):
    shares = {arm.name: data.draw(st.integers(0, round((arm.room or 1.0) * BUCKETS))) / BUCKETS for arm in before.arms}
    after = before.ramped(shares)
    was, now = (Table(layer(one), 0.0).arms_of(np, FEW) for one in (before, after))
    for code, arm in enumerate(before.arms):
        if shares[arm.name] >= arm.share:
            assert (now[was == code] == code).all()
        if shares[arm.name] <= arm.share:
            assert (was[now == code] == code).all()
    both = (was != NONE) & (now != NONE)
    np.testing.assert_array_equal(was[both], now[both])
    np.testing.assert_array_equal(
        Table(layer(after.ramped({a.name: a.share for a in before.arms})), 0.0).arms_of(np, FEW), was
    )


def test_a_ramp_keeps_within_the_room():
    one = Experiment(name="x", arms=arms(0.1, 0.1))
    assert [arm.share for arm in one.ramped({"arm1": 0.5}).arms] == [0.1, 0.5]
    with pytest.raises(BadRequest, match="over its room"):
        one.ramped({"arm1": 0.6})
    with pytest.raises(BadRequest, match="no arm other"):
        one.ramped({"other": 0.6})


MIXED = layer(
    Experiment(name="plain", arms=arms(0.2, 0.3), buckets=(0, 3_000)),
    Experiment(
        name="german", arms=HALVES, buckets=(3_000, 6_000), targets=(
            Target(attribute="country", comparison="in", value=("de", "at")),
            Target(of="content", attribute="age_days", comparison="<", value=3.0),
        ),
    ),
    Experiment(name="slots", arms=HALVES, buckets=(7_000, 10_000), design="switchback", slot_s=3_600, washout_s=600),
)  # fmt: skip
CLUSTERS = layer(Experiment(name="co", arms=arms(0.4, 0.4), design="co_diverted"), name="clusters")


def test_one_request_gets_what_arrays_and_jax_get():
    rng = np.random.default_rng(0)
    user, at_s = rng.integers(0, 2**32, 3_000), rng.integers(0, 2**32, 3_000)
    mine, theirs = rng.integers(0, 20, (2, 3_000))
    known = {"country": rng.choice(["de", "at", "fr"], 3_000)}, {"age_days": rng.uniform(0, 6, 3_000)}
    for deal, name in ((MIXED, "mixed"), (CLUSTERS, "clusters")):
        table = Table(deal, 0.1)
        codes = table.arms_of(np, user, at_s, (mine, theirs), Traits(*known))
        singly = [
            table.arm_of(u, t, c, Traits({"country": country}, {"age_days": age}))
            for u, t, c, country, age in zip(
                user.tolist(), at_s.tolist(), zip(mine.tolist(), theirs.tolist(), strict=True),
                known[0]["country"].tolist(), known[1]["age_days"].tolist(), strict=True,
            )
        ]  # fmt: skip
        assert codes.tolist() == singly, name
        assert set(codes.tolist()) == {NONE, *range(len(table.arms))}
        assert (codes[assign(np, user, HOLDOUT_SALT) < 0.1] == NONE).all()
    numbers = [jnp.asarray(x.astype(np.uint32)) for x in (user, at_s, mine, theirs)]
    for deal in (layer(*MIXED.experiments[::2]), CLUSTERS):
        table = Table(deal, 0.1)
        jitted = jax.jit(lambda u, t, a, b, table=table: table.arms_of(jnp, u, t, (a, b)))(*numbers)
        np.testing.assert_array_equal(jitted, table.arms_of(np, user, at_s, (mine, theirs)))


def test_a_switchback_gives_all_of_its_users_one_arm_a_slot():
    experiment = MIXED.experiments[2]
    table = Table(layer(experiment), 0.0)
    inside = FEW[table.arms_of(np, FEW, 0) != NONE]
    assert len(inside) / len(FEW) == pytest.approx(0.3, abs=0.03)
    hours = np.arange(2_000)
    by_hour = table.arms_of(np, inside[:50], hours[:, None] * 3_600 + 3_599)
    np.testing.assert_array_equal(by_hour, table.arms_of(np, inside[:1], hours[:, None] * 3_600).repeat(50, 1))
    assert by_hour[:, 0].mean() == pytest.approx(0.5, abs=0.04)
    assert stats.chi2_contingency(np.histogram2d(by_hour[1:, 0], by_hour[:-1, 0], 2)[0]).pvalue > 0.01
    at_s = np.array([0, 599, 600, 3_599, 3_600, 4_200])
    assert designs.washes_out(experiment, at_s).tolist() == [True, True, False, False, True, False]
    assert not designs.washes_out(MIXED.experiments[0], at_s).any()


def test_co_diverted_arms_decide_within_their_clusters_only():
    table, clusters = Table(CLUSTERS, 0.0), np.arange(50)
    own = table.arms_of(np, np.uint32(7), clusters=(clusters, clusters))
    pairs = table.arms_of(np, np.uint32(7), clusters=(clusters[:, None], clusters))
    np.testing.assert_array_equal(pairs, np.where(own[:, None] == own, own[:, None], NONE))
    assert set(own.tolist()) == {NONE, 0, 1}
    with pytest.raises(BadRequest, match="none are given"):
        table.arm_of(7)


def test_a_pool_is_split_as_users_are():
    one = Experiment(name="x", arms=arms(0.5, 0.25, rooms=[0.6, 0.4]), buckets=(2_000, 7_000), design="budget_split")
    assert designs.parts(np, one, np.int32(10**8), np.uint32(1)).tolist() == [25 * 10**6, 125 * 10**5, 625 * 10**5]
    small = designs.parts(np, one, np.full(100_000, 3), FEW.repeat(25) + 4_000 * np.tile(np.arange(25), 4_000))
    assert (small.sum(-1) == 3).all()
    assert (small >= 0).all()
    assert small.mean(0).tolist() == pytest.approx([0.75, 0.375, 1.875], abs=0.01)
    large = np.array([0, 1, 2**31 - 1])
    np.testing.assert_array_equal(designs.parts(jnp, one, large, large), designs.parts(np, one, large, large))


@pytest.mark.parametrize(
    ("settings", "design"),
    [
        (({}, {"exploration": 0.5}), "user_split"),
        (({"mode": "rules"}, {"mode": "rules"}), "user_split"),
        (({}, {"heating": False}), "budget_split"),
        (({"mode": "rules"}, {"mode": "rules"}, {"mode": "policy"}), "budget_split"),
        (({"mode": "ranker", "ranker": "a"}, {"mode": "ranker", "ranker": "b"}), "budget_split"),
    ],
)
def test_the_design_that_fits_what_arms_change(settings, design):
    arms = tuple(Arm(name=f"{n}", share=0.1, settings=each) for n, each in enumerate(settings))
    experiment = Experiment(name="x", arms=arms)
    assert designs.fitting(experiment) == design
    target = Target(of="user", attribute="country", comparison="==", value="FR")
    assert designs.fitting(msgspec.structs.replace(experiment, targets=(target,))) == "user_split"
