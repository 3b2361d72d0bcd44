"""What an arm is to the world: a few pure functions. Guards, ledger and slate are the same for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from upwell.regulator import slate
from upwell.regulator.ledger import COIN
from upwell.regulator.tick import Requests
from upwell.world.config import WorldConfig
from upwell.world.ranker import with_trials
from upwell.world.state import CLICKS, HEATED, IMPRESSIONS, VALID, Array, Contents, Users, WorldState


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
    arm: Any

    @property
    def age_days(self) -> Array:
        return self.day - self.contents.born_day


def view_of(config: WorldConfig, state: WorldState, tick_key: Array) -> View:
    """What an arm sees of ``state``."""
    books = state.regulator.ledger
    return View(
        config, state.seed, tick_key, state.day, state.scale, state.platform_ctr, state.users, state.contents,
        books.budget / COIN, books.outstanding, state.arm,
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


Scores = Callable[[View, Batch], Array]


class Elsewhere(NamedTuple):
    """Slates decided outside this program, such as by the live service: the world asks, and tells what came of it.

    Both are called once a tick, in order, and may wait (``jax.experimental.io_callback``).
    """

    decide: Callable[..., slate.Slate]  # of (view, batch, moment, question)
    tell: Callable[..., None]  # of (view, moment, slate, outcome)


class Arm(NamedTuple):
    """Pure functions of (view, …). None leaves that part of the game alone."""

    name: str
    scores: Scores  # logits [S, R, C] of the organic order
    requests: Callable[[View], Requests] | None = None
    match: Callable[[View, Array], Array] | None = None  # fit [S, X] of segments to contents i32 [X]
    heat: Callable[[View, Batch, Array], Array] | None = None  # logits [S, R, G] for grants i32 [S, G]
    explore: Callable[[View, Batch], tuple[Array, Array]] | None = None  # probability [S, R], logits [S, R, C]
    bias: Callable[[View], Array] | None = None  # f32 [M], replaces the ranker's own in ``Batch.bias``
    retrieval: Callable[[View], Array] | None = None  # f32 [S, M], replaces the ranker's own retrieval
    morning: Callable[[View], Any] | None = None  # the arm's own pytree, made anew each morning: ``view.arm``
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
