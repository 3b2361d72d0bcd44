"""The learned policy, live: what its agents see here, and what they make of it.

The networks, what they see (``agents.observe``) and what their dials do (``agents.user``, ``regulator.policy``) are
those of the simulated platform. Only where the numbers come from is written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec.structs import astuple
from scipy.special import ndtri

from upwell.agents import content, network, observe, user
from upwell.agents.content import ContentDials
from upwell.agents.dials import TURNS
from upwell.agents.network import Policy
from upwell.agents.system import SystemDials
from upwell.agents.user import Sight, UserDials
from upwell.agents.xp import hash_uniform
from upwell.model import Weights
from upwell.regulator.assignment import assign, unit_id
from upwell.regulator.policy import Standing
from upwell.service.records import COLUMN
from upwell.service.settings import Settings
from upwell.service.steps import NO_CONTENT
from upwell.service.tables import NOBODY, UNTESTED, Contents, Floats

if TYPE_CHECKING:
    from upwell.service.tfserving import Served

DAY_MS = 86_400_000
RECORD = ("worth", "fresh", "unknown", "starting")
"""What hangs on a content alone of what a user agent sees of it."""
HEAT = ("audience", "promise", "wide")
"""Dials that the race for heated places goes by, of a content and of the system for it."""


WINDOW_MS = 21_600_000
"""An agent holds its noise for so long, as its actions in training: what came of a turn takes a while to show."""
NOISE = 621


class Turned(NamedTuple):
    """How users' agents turned their dials, for whoever learns from it; ``[B, …]``."""

    seen: Floats
    action: Floats  # before it is clipped to ±1
    noise: Floats  # what of it is the noise's
    counts: npt.NDArray[np.bool_]  # of whom the dials act at all
    credit: Floats  # cold starts that each slate furthered ``[B]``


class Learned(NamedTuple):
    """A policy and what decisions by it are signed with."""

    policy: Policy
    version: str
    served: dict[str, Served] | None = None  # who works each role's network out, if not this process


class Trial(NamedTuple):
    """A version that a share of users gets: of its networks the users' agents', for what contents ask concerns all."""

    learned: Learned
    share: float

    def gets(self, users: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Who of the users ``[B]`` gets it: whoever does goes on to when the share is widened."""
        units = np.fromiter(map(unit_id, users), np.uint32, len(users))
        return assign(np, units, unit_id(self.learned.version)) < self.share


class Playing(NamedTuple):
    """What decisions are made by until the next tick."""

    learned: Learned
    seen: observe.Platform
    record: Floats  # see ``record_of``
    trial: Trial | None = None


def load(name: str) -> Learned | None:
    """The policy that the settings name: one that is shipped, or a file; None for an empty name.

    Raises BadRequest where it cannot be read.
    """
    if not name:
        return None
    path = network.path_of(name)
    policy = network.load_policy(path)
    return Learned(policy, network.version_of(path))


def backed(settings: Settings) -> Learned | None:
    """The policy that the settings name, on the backend that they name. Raises BadRequest where it cannot be read."""
    found = load(settings.policy)
    if found is None or settings.policy_backend == "local":
        return found
    from upwell.service import tfserving  # needs the extra ``export``

    return found._replace(served=tfserving.served(settings, found.policy))


def record_of(contents: Contents, scale: float, platform_ctr: float, now_ms: int) -> Floats:
    """``RECORD`` of every row, f32 ``[M, 4]``, 0 where there is no content. Once a tick: it changes slowly.

    A cold start begins to be tested when its third day is seen to have ended; impressions are counted from there.
    """
    counts, age_days = contents.counts, (now_ms - contents.published_ms) / DAY_MS
    impressions = counts[:, COLUMN["impressions"]]
    organic = impressions - counts[:, COLUMN["heated"]]
    grown = contents.live & (age_days >= 3) & (contents.tested == UNTESTED)
    contents.tested[grown] = organic[grown]
    since = np.where(contents.tested == UNTESTED, 0, organic - contents.tested)
    out = np.stack([
        content.worth(np, counts[:, COLUMN["valid"]], impressions, platform_ctr),
        np.exp(-np.maximum(age_days, 0.0) / 3.0),
        1.0 / np.sqrt(1.0 + impressions * platform_ctr),
        content.need(np, age_days, impressions, since, scale),
    ], axis=-1)  # fmt: skip
    return np.where(contents.live[:, None], out, 0.0).astype(np.float32)


def platform(
    weights: Weights, scale: float, platform_ctr: float, throttle: float, load: float, pool_left: float
) -> observe.Platform:
    """What all agents see alike."""
    return observe.Platform(
        np.float32(scale), np.float32(platform_ctr), np.float32(throttle), np.float32(load),
        np.float32(pool_left), astuple(weights),
    )  # fmt: skip


def put_out(learned: Learned, role: str, sees: Floats) -> Floats:
    """What the role's network puts out for what agents see ``[N, n]``, f32 ``[N, d]``."""
    own = getattr(learned.policy, role)
    return network.forward(np, own, sees) if learned.served is None else learned.served[role](sees)


def noise(seed: int, keys: npt.NDArray[np.uint32], now_ms: int) -> Floats:
    """Standard normal noise of users' dials, f32 ``[B, d]``: of each user and window its own. ``keys``: of users."""
    dials = np.arange(len(TURNS["user"]), dtype=np.uint32)
    u = hash_uniform(np, seed, NOISE, keys[:, None], np.uint32(now_ms // WINDOW_MS & 0xFFFFFFFF), dials)
    return ndtri(u).astype(np.float32)


def users_turn(
    learned: Learned,
    arrived: npt.NDArray[np.void],
    engaged: npt.NDArray[np.uint64],
    now_ms: int,
    seen: observe.Platform,
    noise: Floats | None = None,
    trial: tuple[Learned, npt.NDArray[np.bool_]] | None = None,
) -> tuple[UserDials, Floats, Floats]:
    """The dials of users ``[B]`` as they come, f32 ``[B]`` each; what each agent saw, and its action.

    Args:
        engaged: users' tags (``fold.engaged``).
        noise: to be added to the actions ``[B, d]``.
        trial: another version, and who gets it ``[B]``.
    """
    profile, recent = (arrived[name].astype(np.float32) for name in ("profile", "recent"))
    sees = observe.of_user(
        np, arrived["mind"], arrived["expected"], np.bitwise_count(engaged), profile, recent,
        (now_ms - arrived["created_ms"]) / DAY_MS, seen,
    )  # fmt: skip
    action = put_out(learned, "user", sees)
    if trial is not None:
        other, gets = trial
        action = np.where(gets[:, None], put_out(other, "user", sees), action)
    action = action if noise is None else action + noise
    return UserDials(**network.dials_by(np, "user", action)), sees, action


def credit(
    contents: Contents, record: Floats, rows: npt.NDArray[np.int32], heated: npt.NDArray[np.bool_], now_ms: int,
    scale: float,
) -> Floats:  # fmt: skip
    """Cold starts furthered by slates of contents ``[B, K]``, f32 ``[B]``: as gains count them in training.

    Half of one is its 500·scale impressions within three days, half its 100·scale organic ones on the fourth.
    """
    known = np.where((rows >= NOBODY) & (rows < len(record)), rows, NOBODY)
    young = now_ms - contents.published_ms[known] < 3 * DAY_MS
    furthers = np.where(young, 1.0 / 500.0, ~heated / 100.0) / scale
    return (0.5 * record[known, RECORD.index("starting")] * furthers).sum(-1).astype(np.float32)


def contents_turn(
    learned: Learned, known: Standing, best_match: Floats, budget: float, seen: observe.Platform
) -> tuple[ContentDials, SystemDials]:
    """The dials of contents, and of the system for each of them, f32 ``[M]`` each."""
    sees = observe.of_content(
        np, known.impressions, known.clicks, known.valid, known.heated, known.age_days, known.followers, known.coins,
        np.float32(budget), best_match, seen,
    )  # fmt: skip
    ours, theirs = (network.dials_by(np, role, put_out(learned, role, sees)) for role in ("content", "system"))
    return ContentDials(**ours), SystemDials(**theirs)


def heat_dials(ours: ContentDials, theirs: SystemDials, contents: int) -> Floats:
    """``HEAT`` of contents, f32 ``[M, 3]``."""
    each = (ours.audience, theirs.promise, theirs.wide)
    return np.stack([np.broadcast_to(np.asarray(dial, np.float32), (contents,)) for dial in each], axis=-1)


def idle(contents: Contents, rows: npt.NDArray[np.int32], engaged: npt.NDArray[np.uint64]) -> Floats:
    """Share of each content's tags ``[B, C]`` of which its user engaged none for a week, f32; 0 without tags."""
    tags = contents.tag_bits[rows]
    many = np.bitwise_count(tags)
    return 1.0 - np.bitwise_count(tags & engaged[:, None]) / np.maximum(many, 1).astype(np.float32) - (many == 0)


def corrected(
    contents: Contents,
    record: Floats,
    rows: npt.NDArray[np.int32],
    scores: npt.NDArray[np.float64],
    arrived: npt.NDArray[np.void],
    engaged: npt.NDArray[np.uint64],
    allowed: Floats,
    dials: UserDials,
) -> dict[str, Floats]:
    """The ranker's order of candidates ``[B, C]`` with the user agents' corrections, in parts f32 ``[B, C]``.

    Args:
        record: what ``record_of`` gave.
        rows: of candidates; ``NO_CONTENT`` where there is none, below that: not known.
        scores: the ranker's.
        allowed: share of the corrections that each user may have ``[B]``.
    """
    known, real = np.maximum(rows, NOBODY), rows != NO_CONTENT
    many = np.maximum(real.sum(-1, keepdims=True), 1)
    # In units of their own spread: a ranker's scores may be of any size, and are rounded to thousandths later on.
    off = np.where(real, scores - np.where(real, scores, 0.0).sum(-1, keepdims=True) / many, 0.0)
    spread = np.sqrt((off * off).sum(-1, keepdims=True) / many)
    order = (off / np.where(spread > 0, spread, 1.0)).astype(np.float32)
    # Places without a candidate make the spread smaller that corrections are measured in.
    allowed = allowed * np.sqrt(rows.shape[-1] / many[:, 0]).astype(np.float32)
    vectors = np.stack([arrived["profile"], arrived["recent"]], axis=-1).astype(np.float32)
    taste, satiety = np.moveaxis(np.matmul(contents.embedding[known], vectors), -1, 0)
    of = record[np.where(known < len(record), known, NOBODY)]  # what came since the tick is not in it
    sight = Sight(
        taste=taste,
        worth=of[..., 0],
        satiety=np.clip(satiety, 0.0, 1.0),
        idle=idle(contents, known, engaged),
        fresh=of[..., 1],
        unknown=of[..., 2],
        starting=of[..., 3],
    )
    return user.corrected(np, order, sight, allowed, dials)
