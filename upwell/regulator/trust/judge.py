"""How likely each content, creator and account is to cheat: logistic heads over evidence, and what follows from it.

Each trait is a log ratio to what is usual on the platform, or a share less the usual one, shrunk by pseudo-counts:
where little is known it is near 0, and so the probability stays at what is common until the evidence says otherwise.
The heads add up their traits, so each judgement can tell its reasons. Their weights are fitted on simulated platforms
(``learn.trust``); how unsure they are is the weights' own uncertainty carried to the logit (the delta method).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import NamedTuple

import msgspec

from upwell.agents.xp import Array, Namespace, sigmoid
from upwell.regulator.trust.evidence import AccountEvidence, ContentEvidence, added, by_creator

PSEUDO = 5.0
"""Events that a content or an account is taken to have had as everybody else has them."""
Z = 1.64
"""Of the bound from which anything follows: nineteen of twenty such logits lie above it."""

CONTENT_TRAITS = (
    "feed_watched", "feed_watched_surely", "watched", "watched_known", "watched_surely", "direct", "feed_clicked",
    "doubted", "doubted_surely", "visitors", "strangers", "together", "again", "engaged", "much", "ring", "creator",
)  # fmt: skip
ACCOUNT_TRAITS = (
    "feed_watched", "direct_watched", "engaged", "direct", "guilty", "together", "alike", "new", "much", "ring",
)  # fmt: skip

DOUBTS_SPREAD = 0.05
"""Standard deviation of how doubted the visitors of honest contents are: fans and regulars look somewhat like bots."""
MOST_DOUBT = 0.1
"""Of visitors that is ever taken for usual."""
LOUDEST = 10.0
"""Times as many direct visits as the median content has: no content says more of what is usual."""
NARROWED, FROZEN, ZEROED = 0.3, 0.7, 0.95
"""Lower bounds of the probability from which a content is heated to trusted users only, not at all, and loses its
budget."""
TRUSTED = 0.5
"""Probability under which an account is a trusted user."""


class Usual(NamedTuple):
    """What is usual on the platform. f32 scalars."""

    click_rate: Array  # clicks an impression in the feed
    watch_rate: Array  # valid views a click
    direct_rate: Array  # direct visits a valid view of the feed
    engaged_rate: Array  # shares and purchases a watched direct visit
    strangers: Array  # share of direct visits by accounts that never clicked in the feed
    together: Array  # share of direct visits in the hour of the one before
    again: Array  # share of them by a visitor who came from the same creator
    doubt: Array  # of a direct visitor, in the mean


class Head(NamedTuple):
    """A fitted logistic regression of F traits."""

    bias: Array
    weights: Array  # f32 [F]
    covariance: Array  # f32 [F + 1, F + 1], of bias and weights
    least: Array  # f32 [F], of the traits that it was fitted on; what lies beyond is taken for that
    most: Array


class Heads(NamedTuple):
    """Of contents (and creators), and of accounts."""

    content: Head
    account: Head


class Judgement(NamedTuple):
    """Of contents, creators or accounts, f32 ``[n]`` each."""

    probability: Array
    low: Array  # its lower bound
    high: Array


def usual(xp: Namespace, contents: ContentEvidence, visitors: Visitors, doubt: Array) -> Usual:
    """What is usual, by evidence weighted with trust: who is doubted does not say what is normal, nor does a content to
    which most direct visits go, as in a flood before anybody is doubted."""
    trusted, direct = 1.0 - doubt[:-1], contents.direct[:-1]
    most = LOUDEST * (xp.median(direct) + 1.0)
    weight = trusted * xp.minimum(most / xp.maximum(direct, 1.0), 1.0)

    def fed(column: Array) -> Array:
        return (column[:-1] * trusted).sum()

    def come(column: Array) -> Array:
        return (column[:-1] * weight).sum()

    def share(part: Array, of: Array, prior: float) -> Array:
        return (part + 20.0 * prior) / (of + 20.0)

    visits = come(contents.direct)
    return Usual(
        share(fed(contents.clicks), fed(contents.shown), 0.05),
        share(fed(contents.valid), fed(contents.clicks), 0.6),
        share(visits, fed(contents.valid), 0.1),
        share(come(contents.direct_engaged), come(contents.direct_valid), 0.1),
        share(come(contents.strangers), visits, 0.1),
        share(come(contents.together), visits, 0.1),
        share(come(contents.again), visits, 0.05),
        # Where hardly anyone else comes, a flood is all there is; it says nothing of who comes to honest contents.
        xp.minimum(share(come(visitors.doubts), come(visitors.visits), 0.05), MOST_DOUBT),
    )


class Visitors(NamedTuple):
    """Direct visits and how doubted who made them is, as they are thought of now: most of a farm's come before it is
    found out. Fading sums, f32 ``[n]`` each."""

    visits: Array
    doubts: Array  # visitors' probabilities to cheat, over these


def content_traits(
    xp: Namespace, of: ContentEvidence, own: Usual, ring: Array, creator: Array, its: Visitors, creators: Visitors
) -> Array:
    """Traits ``[n, F]``.

    Args:
        ring: depth in a ring, in [0, 1] (``rings``).
        creator: log odds of the creator, less the prior's, f32 ``[n]``.
        its, creators: its own visitors, and all those of its creator.
    """

    def ratio(count: Array, expected: Array) -> Array:
        return xp.log((count + PSEUDO) / (expected + PSEUDO))

    def excess(part: Array, whole: Array, rate: Array) -> Array:
        return (part - whole * rate) / (whole + PSEUDO)

    # A content is held against itself: those who came by the feed watch it as it deserves.
    deserved = (of.valid + 2.0 * PSEUDO * own.watch_rate) / (of.clicks + 2.0 * PSEUDO)
    # What that rate is not sure of, a surplus of direct visits cannot be sure of either.
    known = of.direct * of.clicks / (of.direct + of.clicks + 1.0) + 1e-6
    watched = ratio(of.direct_valid, of.direct * deserved)
    return xp.stack(
        [
            ratio(of.valid, of.clicks * own.watch_rate),
            surely(xp, of.valid, of.clicks, own.watch_rate, of.clicks),
            watched,
            watched * of.clicks / (of.clicks + 2.0 * PSEUDO),
            surely(xp, of.direct_valid, of.direct, deserved, known + PSEUDO),
            ratio(of.direct, of.valid * own.direct_rate),
            ratio(of.clicks, of.shown * own.click_rate),
            excess(its.doubts, its.visits, own.doubt),
            surely(xp, its.doubts, its.visits, own.doubt, its.visits, DOUBTS_SPREAD),
            excess(creators.doubts, creators.visits, own.doubt),
            excess(of.strangers, of.direct, own.strangers),
            excess(of.together, of.direct, own.together),
            excess(of.again, of.direct, own.again),
            ratio(of.direct_engaged, of.direct_valid * own.engaged_rate),
            xp.log1p(of.direct / PSEUDO),
            ring,
            creator,
        ],
        axis=-1,
    )


def surely(xp: Namespace, part: Array, whole: Array, rate: Array, n: Array, spread: float = 0.0) -> Array:
    """How surely a share differs from ``rate``, in standard deviations of ``n`` events, within ±8 (a fifth of them).

    ``spread``: standard deviation of true shares between honest contents, beside those of chance.
    """
    share = part / xp.maximum(whole, 1.0)
    error = xp.sqrt(rate * (1.0 - rate) / xp.maximum(n, 1.0) + spread**2 + 1e-9)
    return xp.where(whole > 0.0, xp.clip((share - rate) / error, -8.0, 8.0), 0.0) / 5.0


def account_traits(xp: Namespace, of: AccountEvidence, own: Usual, age_days: Array, ring: Array, doubt: Array) -> Array:
    """Traits of accounts ``[n, F]``.

    ``doubt``: their probabilities as they stood, f32 ``[n]``: who is doubted does not say what is usual.
    """
    n = of.clicks + PSEUDO
    trusted = 1.0 - doubt

    def total(part: Array) -> Array:
        return (part * trusted)[:-1].sum()

    everybody = total(of.clicks) + 20.0

    def usual_share(part: Array) -> Array:
        return (total(part) + 1.0) / everybody

    def ratio(count: Array, expected: Array) -> Array:
        return xp.log((count + PSEUDO) / (expected + PSEUDO))

    def excess(part: Array) -> Array:
        return (part - of.clicks * usual_share(part)) / n

    return xp.stack(
        [
            # What the feed brings an account it watches as people do, however bad what a creator sends it to.
            ratio(of.valid - of.direct_valid, (of.clicks - of.direct) * own.watch_rate),
            ratio(of.direct_valid, of.direct * own.watch_rate),
            ratio(of.engaged, of.valid * (total(of.engaged) + 1.0) / (total(of.valid) + 20.0)),
            excess(of.direct),
            excess(of.guilt),
            excess(of.together),
            excess(of.alike),
            xp.exp(-xp.maximum(age_days, 0.0) / 30.0),
            xp.log1p(of.clicks / PSEUDO),
            ring,
        ],
        axis=-1,
    )


def judged(xp: Namespace, head: Head, traits: Array) -> Judgement:
    """Probabilities with their bounds, f32 ``[n]``, of traits ``[n, F]``.

    A flood's traits go far beyond any that were fitted on, where a line says nothing: they count as the farthest seen.
    """
    traits = xp.clip(traits, head.least, head.most)
    logit = head.bias + traits @ head.weights
    ones = xp.concatenate([xp.ones_like(traits[:, :1]), traits], axis=1)
    error = xp.sqrt(xp.maximum(((ones @ head.covariance) * ones).sum(-1), 0.0))
    return Judgement(*(sigmoid(xp, logit + z * error) for z in (0.0, -Z, Z)))


class Standing(NamedTuple):
    """Everybody's judgement, each with a row for nobody at its end."""

    content: Judgement  # [M + 1]
    creator: Judgement  # [K + 1]
    account: Judgement  # [A + 1]


def unjudged(xp: Namespace, contents: int, creators: int, accounts: int) -> Standing:
    """Before any evidence: nobody is doubted."""
    return Standing(*(Judgement(*(xp.zeros(n + 1, dtype=xp.float32),) * 3) for n in (contents, creators, accounts)))


class Traits(NamedTuple):
    """Everybody's traits, with a row for nobody at the end of each."""

    content: Array  # f32 [M + 1, F]
    creator: Array  # f32 [K + 1, F]
    account: Array  # f32 [A + 1, F]


def traits(
    xp: Namespace,
    heads: Heads,
    contents: ContentEvidence,
    accounts: AccountEvidence,
    creator: Array,
    age_days: Array,
    creator_ring: Array,
    account_ring: Array,
    visitors: Visitors,
    doubt: Array,
    account_doubt: Array,
) -> Traits:
    """What is judged.

    Args:
        creator: of each content, i32 ``[M]``.
        age_days: of accounts, f32 ``[A + 1]``.
        creator_ring, account_ring: depths in rings, f32 ``[K + 1]`` and ``[A + 1]``.
        visitors: of contents ``[M + 1]``.
        doubt, account_doubt: contents' and accounts' probabilities as they stood, f32 ``[M + 1]`` and ``[A + 1]``.
    """
    own = usual(xp, contents, visitors, doubt)
    creators = creator_ring.shape[0] - 1
    theirs = by_creator(xp, contents, creator, creators)
    at = xp.concatenate([creator, xp.full((1,), creators, dtype=creator.dtype)])
    empty = tuple(xp.zeros(creators + 1, dtype=xp.float32) for _ in visitors)
    their = Visitors._make(added(xp, empty, at, visitors))
    of_creator = content_traits(xp, theirs, own, creator_ring, xp.zeros_like(creator_ring), their, their)
    beyond = log_odds_beyond(
        xp, judged(xp, heads.content, of_creator).probability, sigmoid(xp, heads.content.bias)
    )  # fmt: skip
    return Traits(
        content_traits(xp, contents, own, creator_ring[at], beyond[at], visitors, Visitors(*(x[at] for x in their))),
        of_creator,
        account_traits(xp, accounts, own, age_days, account_ring, account_doubt),
    )


def stand(xp: Namespace, heads: Heads, of: Traits) -> Standing:
    """Everybody judged. Nobody's row, which holds what was left out, stays at 0."""
    which = heads.content, heads.content, heads.account
    each = (judged(xp, head, t) for head, t in zip(which, of, strict=True))
    return Standing(*(Judgement(*(cleared(xp, x) for x in one)) for one in each))


def cleared(xp: Namespace, values: Array) -> Array:
    """``values`` with 0 in the last place."""
    return xp.concatenate([values[:-1], xp.zeros_like(values[:1])])


def reasons(head: Head, names: tuple[str, ...], traits: Array) -> Mapping[str, Array]:
    """What each trait adds to the logit ``[n]``: with the bias they add up to it."""
    within = traits.clip(head.least, head.most)
    return {name: within[:, i] * head.weights[i] for i, name in enumerate(names)}


def log_odds_beyond(xp: Namespace, probability: Array, prior: Array) -> Array:
    """Log odds less those of the prior, f32, clipped to ±4."""
    clipped = xp.clip(probability, 1e-4, 1.0 - 1e-4)
    return xp.clip(xp.log(clipped / (1.0 - clipped)) - xp.log(prior / (1.0 - prior)), -4.0, 4.0)


def shipped() -> Heads:
    """The heads that come with the package, as NumPy arrays."""
    import numpy as np

    kept = msgspec.json.decode((files("upwell.policies") / "trust.json").read_bytes())
    return Heads(*(Head(*(np.asarray(kept[who][name], np.float32) for name in Head._fields)) for who in Heads._fields))
