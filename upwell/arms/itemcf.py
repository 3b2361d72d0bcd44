"""Item-to-item collaborative filtering, with manual heating of new contents: how platforms did it before Upwell.

Two contents are alike when the same users viewed them: the cosine of their columns in the matrix of users × contents
(Sarwar, Karypis, Konstan & Riedl 2001), each user's row divided by the root of its length, so that those who view
everything say less of each (Deshpande & Karypis 2004). The columns are never formed. Each user has a fixed vector of
random signs, a content's sketch is the sum of its viewers', and the cosine of two sketches estimates that of the
columns with a standard error below 1/sqrt(DIMS) (Johnson & Lindenstrauss 1984; with signs: Achlioptas 2003).

Tuned on 2026-11-26: the best of twelve settings, +.044 over raw's objective on development seeds
(`upwell tune itemcf --trials 12 --seeds 100,101,102 --users 1000 --contents 2500 --burn-in 56 --days 10`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri

from upwell.agents.xp import hash_uniform
from upwell.arms import features
from upwell.arms.tuning import Range
from upwell.regulator.tick import Requests
from upwell.world import ranker
from upwell.world.arm import Arm, Batch, View, ranker_scores
from upwell.world.config import WorldConfig
from upwell.world.state import HISTORY, Array, Contents

SIGNS, TURN, RATING, SEGMENT, PUSH = 521, 522, 523, 524, 525
DIMS = 64
EDITORS_ERROR = 1.0
"""Standard deviation, in log quality, of an editor's rating of a content: that of quality itself is 1 to 2."""


class Tuned(NamedTuple):
    """Tunables; the defaults are the best found."""

    fit: float = 0.48  # factor on the ranker's weight of similarity, here to the history
    record: float = 1.3  # factor on its logits of popularity and click rate
    variety: float = 9.97  # logits that a content loses at full similarity to what the user was lately shown


RANGES = {"fit": Range(0.2, 2.0, log=True), "record": Range(0.2, 2.0, log=True), "variety": Range(0.0, 16.0)}


class Model(NamedTuple):
    """Made anew each morning, as such models are in practice."""

    tuned: Tuned
    sketch: Array  # f32 [M, DIMS], unit length, or 0 for a content that nobody viewed
    centre: Array  # f32 [S, DIMS], mean of a segment's users
    popularity: Array  # f32 [M], the platform's own logits of popularity and click rate


def signs(seed: Array, users: Array) -> Array:
    """Each user's fixed vector of ±1, f32 ``[..., DIMS]``."""
    return jnp.where(hash_uniform(jnp, seed, SIGNS, users[..., None], jnp.arange(DIMS)) < 0.5, -1.0, 1.0)


def unit(x: Array) -> Array:
    """Vectors of the last axis at unit length; 0 stays 0."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)


def live(contents: Contents, history: Array) -> tuple[Array, Array]:
    """Places of a history's contents, and whether each is still the content that was viewed."""
    many = contents.generation.shape[0]
    place = jnp.maximum(history, 0) % many
    return place, (history >= 0) & (history // many == contents.generation[place])


def sketches(seed: Array, contents: Contents, history: Array) -> Array:
    """Unit sketches of all contents, f32 ``[M, DIMS]``, from the users' histories i32 ``[S, U, HISTORY]``."""
    user = jnp.arange(history.shape[0] * history.shape[1]).reshape(history.shape[:2])
    place, alive = live(contents, history)
    row = signs(seed, user) / jnp.sqrt(jnp.maximum(alive.sum(-1), 1))[..., None]

    def add(h: int, total: Array) -> Array:
        return total.at[place[..., h]].add(row * alive[..., h, None])

    # One view of everybody at a time: all at once would take HISTORY times the memory.
    return unit(jax.lax.fori_loop(0, HISTORY, add, jnp.zeros((contents.generation.shape[0], DIMS))))


def tastes(contents: Contents, sketch: Array, history: Array) -> Array:
    """Unit sum of the sketches of each user's history, f32 ``[..., DIMS]``: its product with a content's sketch is
    the content's mean similarity to the history, up to a factor of the user's own."""
    place, alive = live(contents, history)
    return unit((sketch[place] * alive[..., None]).sum(-2))


def begin(config: WorldConfig, tuned: Tuned) -> Model:
    """Before the first morning."""
    sizes = config.sizes
    none = jnp.zeros((sizes.contents, DIMS))
    return Model(tuned, none, jnp.zeros((sizes.cells, DIMS)), none[:, 0])


def morning(view: View) -> Model:
    sketch = sketches(view.seed, view.contents, view.users.history)
    # Segment by segment: the sketches of all histories at once would be HISTORY times as large as those of users.
    centre = jax.lax.map(lambda history: tastes(view.contents, sketch, history).mean(0), view.users.history)
    record = ranker.popularity(view.config, view.scale, view.platform_ctr, view.day, view.contents)
    return Model(view.arm.tuned, sketch, centre, record)


def scores(view: View, batch: Batch) -> Array:
    """The platform's own order, with similarity to the user's history in place of the ranker's picture of the user."""
    taste, tuned = tastes(view.contents, view.arm.sketch, batch.users.history), view.arm.tuned
    similarity = jnp.einsum("srd,scd->src", taste, view.arm.sketch[batch.ids])
    own = ranker_scores(view, batch._replace(similarity=tuned.fit * similarity, bias=tuned.record * batch.bias))
    return own - tuned.variety * features.satiety(view, batch.users, batch.ids)


def retrieval(view: View) -> Array:
    tuned, config = view.arm.tuned, view.config.ranker
    fit = config.personal * view.arm.centre @ view.arm.sketch.T
    wide = config.feedback * (tuned.fit * fit + tuned.record * view.arm.popularity)
    return wide - tuned.variety * features.segment_satiety(view)


def match(view: View, ids: Array) -> Array:
    """No audience: segments get hand-pushed contents by lot."""
    cells = jnp.arange(view.arm.centre.shape[0])[:, None]
    return hash_uniform(jnp, view.seed, SEGMENT, view.tick_key, cells, ids)


def heat(view: View, batch: Batch, grants: Array) -> Array:
    """Pushed to everyone alike, f32 ``[S, R, G]``."""
    lot = hash_uniform(jnp, view.seed, PUSH, view.tick_key, grants)
    return jnp.broadcast_to(lot[:, None, :], (*batch.place.shape, grants.shape[1]))


def by_hand(wanted: Callable[[View], tuple[Array, Array]], view: View) -> Requests:
    """Manual heating: each content ``wanted`` (bool, rank in [0, 1]) is pushed by one size, while it is new."""
    return features.ask_once(view, *wanted(view))


def everyone(view: View) -> tuple[Array, Array]:
    """Every new content, served in random order."""
    lot = hash_uniform(jnp, view.seed, TURN, view.tick_key, jnp.arange(view.contents.generation.shape[0]))
    return lot >= 0.0, lot


def rating(view: View) -> Array:
    """What an editor sees of each content before any user did, f32 ``[M]``: true log quality with an error.

    The one look at the truth outside the oracle: a person can watch the content, and no figure of ours can.
    """
    place = jnp.arange(view.contents.generation.shape[0])
    u = hash_uniform(jnp, view.seed, RATING, place, view.contents.generation)
    return view.contents.log_quality + EDITORS_ERROR * ndtri(u)


def picks(view: View) -> tuple[Array, Array]:
    """What the operators rate above the average, best first."""
    seen = rating(view)
    return seen > 0.0, jax.nn.sigmoid(seen)


def member(name: str, wanted: Callable[[View], tuple[Array, Array]]) -> Arm:
    return Arm(
        name, scores=scores, requests=partial(by_hand, wanted), match=match, heat=heat, retrieval=retrieval,
        morning=morning, begin=begin, tuned=Tuned(),
    )  # fmt: skip


FAMILY = (member("itemcf:uniform", everyone), member("itemcf:picks", picks))
"""Two ways to heat by hand; like the oracle's planners, judged by the better of them on each seed."""
