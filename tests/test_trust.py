"""Trust: evidence counted by hand, the same in both backends and however it is cut; rings; heads that add up."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from upwell.regulator.trust import evidence, judge, rings
from upwell.regulator.trust.evidence import Events

CONTENTS, ACCOUNTS, CREATORS = 5, 4, 3
OF = np.array([0, 0, 1, 1, 2])  # creators of contents


def events(rows) -> Events:
    """Rows of (account, content, tag, hour, direct, clicked, valid, engaged)."""
    account, content, tag, hour, *flags = (np.array(column) for column in zip(*rows, strict=True))
    direct, *rest = (flag.astype(bool) for flag in flags)
    return Events(account, content, OF[content], tag, hour, direct, ~direct, *rest)


def learnt(xp, batches, content_doubt=None):
    contents, accounts = evidence.none_of_contents(xp, CONTENTS), evidence.none_of_accounts(xp, ACCOUNTS)
    doubt = xp.zeros(CONTENTS + 1) if content_doubt is None else xp.asarray(content_doubt)
    for batch in batches:
        own = Events(*(xp.asarray(column) for column in batch))
        contents, accounts = evidence.learn(xp, contents, accounts, own, doubt)
    return contents, accounts


def test_counted_by_hand():
    batch = events([
        (0, 0, 7, 1, 0, 0, 0, 0),  # shown in the feed, not clicked
        (0, 0, 7, 1, 0, 1, 1, 0),  # clicked and watched
        (1, 1, 7, 2, 1, 1, 1, 1),  # a direct visit, watched and shared
        (1, 0, 8, 2, 1, 1, 0, 0),  # the same account, the same creator, the same hour
        (2, 1, 7, 2, 1, 1, 0, 0),  # another's, of the same hour as the visit before to this content
        (2, 4, 7, 3, 1, 1, 0, 0),  # the same tag as the click before, another creator
    ])  # fmt: skip
    contents, accounts = learnt(np, [batch], content_doubt=[0.1] * 6)
    assert contents.shown.tolist() == [2, 0, 0, 0, 0, 0]
    assert contents.clicks.tolist() == [1, 0, 0, 0, 0, 0]
    assert contents.valid.tolist() == [1, 0, 0, 0, 0, 0]
    assert contents.direct.tolist() == [1, 2, 0, 0, 1, 0]
    assert contents.direct_valid.tolist() == [0, 1, 0, 0, 0, 0]
    assert contents.direct_engaged.tolist() == [0, 1, 0, 0, 0, 0]
    assert contents.strangers.tolist() == [1, 2, 0, 0, 1, 0]
    assert contents.together.tolist() == [0, 1, 0, 0, 0, 0]
    assert contents.again.tolist() == [1, 0, 0, 0, 0, 0]
    assert accounts.clicks.tolist()[:4] == [1, 2, 2, 0]
    assert accounts.valid.tolist()[:4] == [1, 1, 0, 0]
    assert accounts.engaged.tolist()[:4] == [0, 1, 0, 0]
    assert accounts.direct.tolist()[:4] == [0, 2, 2, 0]
    assert accounts.direct_valid.tolist()[:4] == [0, 1, 0, 0]
    np.testing.assert_allclose(accounts.guilt[:4], [0.1, 0.2, 0.2, 0.0], rtol=1e-6)
    assert accounts.together.tolist()[:4] == [0, 1, 0, 0]
    assert accounts.alike.tolist()[:4] == [0, 0, 1, 0]


def test_who_clicked_in_the_feed_before_is_no_stranger():
    feed, direct = (0, 2, 1, 5, 0, 1, 0, 0), (0, 1, 1, 6, 1, 1, 0, 0)
    contents, _ = learnt(np, [events([feed]), events([direct]), events([direct])])
    assert contents.strangers.tolist() == [0] * 6


row = st.tuples(
    st.integers(0, ACCOUNTS - 1), st.integers(0, CONTENTS - 1), st.integers(0, 3), st.integers(0, 3), st.booleans(),
    st.booleans(), st.booleans(), st.booleans(),
).map(lambda r: (*r[:5], r[4] or r[5], r[6] and (r[4] or r[5]), r[7] and r[6] and (r[4] or r[5])))  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(row, min_size=2, max_size=24), st.data())
def test_however_it_is_cut(rows, data):
    """But for who is a stranger, which is as it stood before each batch."""
    rows = sorted(rows, key=lambda r: r[3])
    cut = data.draw(st.integers(1, len(rows) - 1))
    whole, parts = learnt(np, [events(rows)]), learnt(np, [events(rows[:cut]), events(rows[cut:])])
    for one, other in zip(whole, parts, strict=True):
        for name in one._fields:
            if name != "strangers":
                # The last row is nobody's, and holds whatever was left out.
                np.testing.assert_array_equal(getattr(one, name)[:-1], getattr(other, name)[:-1], err_msg=name)


@settings(max_examples=10, deadline=None)
@given(st.lists(row, min_size=8, max_size=8))
def test_backends_agree(rows):
    theirs, ours = learnt(jnp, [events(rows)]), learnt(np, [events(rows)])
    for one, other in zip(ours, theirs, strict=True):
        for name in one._fields:
            np.testing.assert_allclose(getattr(one, name)[:-1], np.asarray(getattr(other, name))[:-1], atol=1e-6)


def test_newcomers_begin_with_nothing():
    contents, accounts = learnt(np, [events([(0, 0, 1, 5, 1, 1, 1, 0), (1, 1, 1, 5, 1, 1, 1, 0)])])
    who = np.array([True, False, False, False, False, False])
    after = evidence.forgotten(np, contents, who)
    assert after.direct.tolist() == [0, 1, 0, 0, 0, 0]
    assert after.last_h[0] == evidence.NEVER_H
    assert evidence.forgotten(np, accounts, who[:5]).last_creator[:2].tolist() == [-1, 0]


def test_sums_by_creator():
    contents, _ = learnt(np, [events([(0, c, 1, c, 1, 1, 0, 0) for c in (0, 1, 1, 2, 4)])])
    theirs = evidence.by_creator(np, contents, OF, CREATORS)
    assert theirs.direct.tolist() == [3, 1, 1, 0]


# ---- rings


def public(rng, accounts=2_000, creators=200, topics=20):
    """Ordinary people: each is a regular of a few creators of the topic that they like."""
    topic = np.arange(creators) % topics
    rows, columns = [], []
    for account in range(accounts):
        own = np.flatnonzero(topic == rng.integers(topics))
        for creator in rng.choice(own, rng.integers(1, 4), replace=False):
            rows.append(account)
            columns.append(creator)
    return rows, columns, topic


def matrix(rows, columns, accounts=2_000, creators=200):
    return sparse.coo_matrix((np.full(len(rows), 3.0), (rows, columns)), (accounts, creators)).tocsr()


@pytest.mark.parametrize("seed", range(4))
def test_a_ring_is_found_and_nobody_else(seed):
    rng = np.random.default_rng(seed)
    rows, columns, topic = public(rng)
    ring, members = rng.choice(200, 6, replace=False), rng.choice(2_000, 10, replace=False)
    for member in members:
        for creator in rng.choice(ring, 5, replace=False):
            rows.append(member)
            columns.append(creator)
    found = rings.find(matrix(rows, columns), topic)
    assert set(np.flatnonzero(found.creators)) == set(ring)
    assert (found.creators[ring] > 0.5).all()
    deep = np.flatnonzero(found.accounts > 0.5)
    assert set(deep) == set(members)


@pytest.mark.parametrize("seed", range(4))
def test_honest_people_are_no_ring(seed):
    rows, columns, topic = public(np.random.default_rng(seed))
    found = rings.find(matrix(rows, columns), topic)
    assert not found.creators.any()
    assert not found.accounts.any()


def test_nobody_at_all():
    found = rings.find(sparse.csr_matrix((3, 2)), np.zeros(2, int))
    assert found.accounts.tolist() == [0, 0, 0]
    assert found.creators.tolist() == [0, 0]


# ---- judgements


def test_a_head_by_hand():
    head = by_hand()
    judged = judge.judged(np, head, np.array([[0.0, 0.0], [1.0, 0.0]], np.float32))
    np.testing.assert_allclose(judged.probability, [1 / (1 + np.e), 1 / (1 + np.exp(-1.0))], rtol=1e-6)
    # The second's logit is 1 with a standard error of .5.
    np.testing.assert_allclose(judged.low[1], 1 / (1 + np.exp(-(1.0 - 1.64 * 0.5))), rtol=1e-6)
    np.testing.assert_allclose(judged.high[1], 1 / (1 + np.exp(-(1.0 + 1.64 * 0.5))), rtol=1e-6)
    assert judged.low[0] == judged.high[0] == judged.probability[0]


def by_hand() -> judge.Head:
    """Fitted on a first trait within ±3 and a second one from -1 to 2."""
    return judge.Head(
        np.float32(-1.0), np.array([2.0, 1.0], np.float32), np.diag([0.0, 0.25, 0.0]).astype(np.float32),
        np.array([-3.0, -1.0], np.float32), np.array([3.0, 2.0], np.float32),
    )  # fmt: skip


def test_beyond_what_was_fitted_on_a_line_says_nothing():
    """A flood's traits count as the farthest that were seen, in what is judged and in its reasons."""
    head, flood = by_hand(), np.array([[3.0, -400.0], [90.0, -1.0]], np.float32)
    judged, edge = (judge.judged(np, head, x) for x in (flood, np.array([[3.0, -1.0]], np.float32)))
    for mine, farthest in zip(judged, edge, strict=True):
        np.testing.assert_array_equal(mine, np.repeat(farthest, 2))
    assert judge.reasons(head, ("one", "other"), flood)["other"].tolist() == [-1.0, -1.0]


def test_a_doubt_that_honest_contents_know_is_no_certainty():
    """Of ever so many visitors, a twentieth more doubted than usual is one standard deviation between contents."""
    many = np.array([1e9])
    of = judge.surely(np, 0.1 * many, many, np.float64(0.05), many, judge.DOUBTS_SPREAD)
    np.testing.assert_allclose(of, 1.0 / 5.0, rtol=1e-4)


def test_what_the_feed_brought_an_account_is_judged_apart():
    """Two accounts watched six of ten in the feed, as is usual; the second watched none of ten direct visits."""
    of = evidence.none_of_accounts(np, 2)
    of.clicks[:] = 10.0, 20.0, 0.0
    of.valid[:] = 6.0, 6.0, 0.0
    of.direct[1] = 10.0
    own = judge.Usual(*(np.float32(0.6),) * len(judge.Usual._fields))
    found = judge.account_traits(np, of, own, np.zeros(3), np.zeros(3), np.zeros(3))
    by = {name: found[:, i] for i, name in enumerate(judge.ACCOUNT_TRAITS)}
    np.testing.assert_allclose(by["feed_watched"][:2], 0.0, atol=1e-6)
    np.testing.assert_allclose(by["direct_watched"][:2], [0.0, np.log(5.0 / 11.0)], atol=1e-6)


def test_how_doubted_visitors_are_by_hand():
    """The first content of two by one creator: of its ten visits three are doubted, of thirty in all a tenth."""
    of = evidence.none_of_contents(np, 2)
    visitors = judge.Visitors(np.array([10.0, 20.0, 0.0]), np.array([3.0, 0.0, 0.0]))
    nothing = np.zeros(2), np.zeros(2)
    heads = judge.shipped()
    found = judge.traits(
        np, heads, of, evidence.none_of_accounts(np, 1), np.array([0, 0]), np.zeros(2), *nothing, visitors, np.zeros(3),
        np.zeros(2),
    )  # fmt: skip
    usual = (3.0 + 20.0 * 0.05) / (30.0 + 20.0)
    by = {name: found.content[:, i] for i, name in enumerate(judge.CONTENT_TRAITS)}
    np.testing.assert_allclose(by["doubted"][:2], [(3 - 10 * usual) / 15, (0 - 20 * usual) / 25], rtol=1e-5)
    np.testing.assert_allclose(by["visitors"][:2], (3 - 30 * usual) / 35, rtol=1e-5)
    assert by["doubted_surely"][0] > 0 > by["doubted_surely"][1]


def test_visits_to_contents_are_visits_to_their_creators():
    visits = sparse.csr_matrix(np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 4.0]]))
    np.testing.assert_array_equal(rings.to_creators(visits, np.array([1, 1, 0]), 2).toarray(), [[0, 3], [4, 0]])


def test_reasons_add_up():
    heads, rng = judge.shipped(), np.random.default_rng(0)
    traits = rng.normal(size=(7, len(judge.CONTENT_TRAITS))).astype(np.float32)
    named = judge.reasons(heads.content, judge.CONTENT_TRAITS, traits)
    logit = heads.content.bias + sum(named.values())
    told = judge.judged(np, heads.content, traits).probability
    np.testing.assert_allclose(1 / (1 + np.exp(-logit)), told, rtol=1e-4, atol=1e-6)


def standing(rows, xp=np):
    heads = judge.shipped()
    contents, accounts = learnt(xp, [events(rows)] * 4)
    nothing = xp.zeros(CREATORS + 1), xp.zeros(ACCOUNTS + 1)
    visitors = judge.Visitors(contents.direct, 0.5 * contents.direct)
    of = judge.traits(
        xp, heads, contents, accounts, xp.asarray(OF), xp.full(ACCOUNTS + 1, 100.0), *nothing, visitors,
        xp.zeros(CONTENTS + 1), xp.zeros(ACCOUNTS + 1),
    )  # fmt: skip
    return judge.stand(xp, heads, of)


ROWS = [(a % 4, a % 5, a % 3, a // 6, a % 2, True, a % 3 > 0, a % 6 == 1) for a in range(24)]


def test_judgements_agree_between_backends():
    ours, theirs = standing(ROWS), standing(ROWS, jnp)
    for one, other in zip(ours, theirs, strict=True):
        for name in one._fields:
            np.testing.assert_allclose(getattr(one, name), np.asarray(getattr(other, name)), rtol=1e-4, atol=1e-6)


def test_bought_clicks_are_doubted_more_than_honest_ones():
    feed = [(a % 4, c, 1, a, False, True, True, False) for a in range(20) for c in (0, 3)]
    bought = [(0, 0, 1, 30, True, True, False, False)] * 30
    judged = standing(feed + bought).content
    assert judged.probability[0] > 0.5 > judged.probability[3]
    assert (judged.low[:-1] <= judged.probability[:-1]).all()
    assert (judged.probability[:-1] <= judged.high[:-1]).all()
    assert judged.probability[-1] == 0.0


# ---- a flood

CROWD, BOTS, HONEST, FLOODED = 400, 5_000, 195, 5


def flood(visits: float, before: judge.Standing) -> judge.Standing:
    """The platform judged twice after so many direct visits to each of five new contents, by bots who watch six of ten
    and have never been in the feed; nobody else comes to anything directly."""
    many, everybody = FLOODED + HONEST, CROWD + BOTS
    contents, accounts = evidence.none_of_contents(np, many), evidence.none_of_accounts(np, everybody)
    bad = np.arange(many) < FLOODED
    contents.shown[:-1], contents.clicks[:-1] = np.where(bad, 20, 500), np.where(bad, 0, 60)
    contents.valid[:-1] = np.where(bad, 0, 48)
    contents.direct[:-1], contents.direct_valid[:-1] = np.where(bad, visits, 0), np.where(bad, 0.6 * visits, 0)
    contents.strangers[:-1], contents.together[:-1] = contents.direct[:-1], np.where(bad, visits - 1.0, 0)
    accounts.clicks[:CROWD], accounts.valid[:CROWD], accounts.alike[:CROWD] = 30.0, 24.0, 3.0
    # Each bot goes through all five, then the next one.
    each = max(visits * FLOODED / BOTS, FLOODED)
    came = slice(CROWD, CROWD + min(round(visits * FLOODED / each), BOTS))
    for name, value in {"clicks": each, "valid": 0.6 * each, "direct": each, "direct_valid": 0.6 * each}.items():
        getattr(accounts, name)[came] = value
    accounts.together[came] = each - 1.0
    age_days = np.zeros(everybody + 1)
    age_days[:CROWD] = 300.0
    now, heads = before, judge.shipped()
    for _ in range(2):
        doubts = np.zeros(many + 1, np.float32)
        doubts[:FLOODED] = visits * now.account.probability[came].mean()
        its = judge.Visitors(np.append(contents.direct[:-1], np.float32(0.0)), doubts)
        traits = judge.traits(
            np, heads, contents, accounts, np.arange(many), age_days, np.zeros(many + 1), np.zeros(everybody + 1), its,
            now.content.probability, now.account.probability,
        )  # fmt: skip
        now = judge.stand(np, heads, traits)
    return now


def test_a_flood_is_frozen_and_stays_so():
    """A hundred times what an honest content ever gets, on a platform where a flood is most of what comes directly:
    it was let go again when its own visits had become the usual ones."""
    now = judge.unjudged(np, FLOODED + HONEST, FLOODED + HONEST, CROWD + BOTS)
    for visits in (33.0, 66.0, 130.0, 260.0, 500.0, 1_000.0, 4_000.0, 20_000.0, 50_000.0):
        now = flood(visits, now)
        assert now.content.low[:FLOODED].min() >= judge.FROZEN, visits
        assert now.content.probability[FLOODED:-1].max() < judge.NARROWED
