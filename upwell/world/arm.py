"""What an arm is to the world: a few pure functions. Guards, ledger and slate are the same for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from upwell.regulator import guards, slate
from upwell.regulator.ledger import COIN
from upwell.regulator.tick import Requests
from upwell.world.config import WorldConfig
from upwell.world.ranker import with_trials
from upwell.world.state import CLICKS, HEATED, IMPRESSIONS, VALID, Array, Contents, Users, WorldState

if TYPE_CHECKING:
    from upwell.world.response import Outcome
    from upwell.world.serve import Shown

T = TypeVar("T")


class View(NamedTuple):
    """What an arm sees at a tick. The oracle alone may look at the truth in ``users`` and ``contents``."""

    config: WorldConfig
    seed: Array
    tick_key: Array  # u32, differs from tick to tick
    day: Array
    scale: Array
    platform_ctr: Array
    users: Users  # [S, U]
    contents: Contents  # [M]
    coins: Array  # f32 [M], each content's own budget
    outstanding: Array  # i32 [M]
    throttle: Array  # in [0, 1], what the click rate lost to the holdout leaves of exploration
    load: Array  # this hour's heated share over the cap
    pool_left: Array  # share of the day's pool
    arm: Any

    @property
    def age_days(self) -> Array:
        return self.day - self.contents.born_day


def pool_today(config: WorldConfig, state: WorldState) -> Array:
    """Impressions of a full pool: a share of the day's expected impressions."""
    return config.heating.pool * 500.0 * state.scale * config.sizes.contents


def view_of(config: WorldConfig, state: WorldState, tick_key: Array) -> View:
    """What an arm sees of ``state``."""
    regulator, books = state.regulator, state.regulator.ledger
    heated = regulator.hour_heated / jnp.maximum(regulator.hour_impressions, 1.0)
    return View(
        config, state.seed, tick_key, state.day, state.scale, state.platform_ctr, state.users, state.contents,
        books.budget / COIN, books.outstanding, regulator.throttle,
        guards.load(jnp, heated, config.heating.cap),
        books.pool / jnp.maximum(pool_today(config, state), 1.0), state.arm,
    )  # fmt: skip


class Batch(NamedTuple):
    """Requests of one tick that share candidates within a segment."""

    users: Users  # [S, R]; the bitmaps ``seen`` are not among them: see ``place``
    place: Array  # i32 [S, R], the users' places in their segments
    ids: Array  # i32 [S, C]
    similarity: Array  # f32 [S, R, C], profile · embedding
    bias: Array  # f32 [S, C], the ranker's own logits that hang on the content alone
    blocked: Array  # bool [S, R, C], shown to this user within the no-repeat window
    tried: Array  # bool [S, C], tried out by the ranker at this tick
    protected: Array  # bool [S, R], nothing may be tried on them: the new, and the holdout
    scores: Array | None = None  # f32 [S, R, C], the arm's own of this batch: ``explore`` need not work them out again


Scores = Callable[[View, Batch], Array]


class Elsewhere(NamedTuple):
    """Slates decided outside this program, such as by the live service: the world asks, and tells what came of it.

    Both are called once a tick, in order, and may wait (``jax.experimental.io_callback``).
    """

    decide: Callable[..., slate.Slate]  # of (view, batch, moment, question)
    tell: Callable[..., None]  # of (view, moment, slate, outcome)


class Lesson(NamedTuple):
    """What a platform's log says of a batch's slates, ``[S, R, K]`` unless shaped: nothing of the truth behind it."""

    present: Array  # bool [S, R], whether there was a request at all
    ids: Array  # i32
    kind: Array  # i32, slate.ORGANIC, EXPLORED or HEATED
    clicked: Array  # bool; false, as all that follows, where there was no request
    valid: Array  # bool
    shared: Array  # bool
    dwell_s: Array
    value: Array  # yuan


class Arm(NamedTuple):
    """Pure functions of (view, …). None leaves that part of the game alone.

    What an arm remembers is its own pytree, ``view.arm``: made by ``begin``, anew each morning by ``morning`` and after
    each batch by ``learn``. ``tuned`` are its tunables, floats in a NamedTuple, which ``begin`` puts into it: read from
    there, other values compile nothing anew.
    """

    name: str
    scores: Scores  # logits [S, R, C] of the organic order
    requests: Callable[[View], Requests] | None = None
    match: Callable[[View, Array], Array] | None = None  # fit [S, X] of segments to contents i32 [X]
    heat: Callable[[View, Batch, Array], Array] | None = None  # logits [S, R, G] for grants i32 [S, G]
    explore: Callable[[View, Batch], tuple[Array, Array]] | None = None  # probability [S, R], logits [S, R, C]
    bias: Callable[[View], Array] | None = None  # f32 [M], replaces the ranker's own in ``Batch.bias``
    retrieval: Callable[[View], Array] | None = None  # f32 [S, M], replaces the ranker's own retrieval
    morning: Callable[[View], Any] | None = None  # the arm's own pytree, made anew each morning
    begin: Callable[[WorldConfig, Any], Any] | None = None  # that pytree before the first morning, from ``tuned``
    learn: Callable[[View, Batch, Lesson], Any] | None = None  # that pytree after a batch and what came of it
    study: Callable[[View, Batch, Shown, Outcome], Any] | None = (
        None  # as ``learn``, told the truth: for training alone
    )
    tuned: Any = None  # for ``begin``
    elsewhere: Elsewhere | None = None  # slates are decided outside this program


def ranker_scores(view: View, batch: Batch) -> Array:
    """The raw ranker's logits."""
    ranker = view.config.ranker
    scores = ranker.feedback * ranker.personal * batch.similarity + batch.bias[:, None, :]
    return with_trials(view.config, scores, batch.tried, batch.blocked)


RAW = Arm("raw", scores=ranker_scores)
"""The platform as it is: the ranker's own order, nothing heated, nothing explored."""


def counts(view: View) -> tuple[Array, Array, Array, Array]:
    """Impressions, clicks, valid views and heated impressions of each content, f32 ``[M]``."""
    stats = view.contents.stats
    return stats[:, IMPRESSIONS], stats[:, CLICKS], stats[:, VALID], stats[:, HEATED]


def worked_out(now: Array, make: Callable[[], T]) -> T:
    """What ``make`` gives, worked out once and kept in memory; ``now`` must be true, and traced.

    XLA on the CPU drops optimization barriers before it fuses, and then works out the noise ``[S, C]`` anew for each
    of ``R`` requests, and an outcome for each that reads it. The border of a branch holds.
    """
    nothing = jax.eval_shape(make)
    return lax.cond(now, make, lambda: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), nothing))
