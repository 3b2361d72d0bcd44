"""What a world remembers, as pytrees of arrays.

Users are laid out as ``[S, U]``: ``S`` segments of ``U`` users who share candidates, so that personal scores are
one batched matrix product instead of a gather of embeddings a request. Contents are laid out as ``[M]``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

Array = jax.Array

# Columns of ``Contents.stats``: what the platform has counted of each content since its birth.
IMPRESSIONS, CLICKS, VALID, SHARES = 0, 1, 2, 3
HEATED, HEATED_CLICKS, HEATED_VALID = 4, 5, 6
ORGANIC_TODAY, TODAY = 7, 8
RECENT_IMPRESSIONS, RECENT_CLICKS = 9, 10  # fading, the ranker's own
CLICKS_TODAY = 11
OUTSIDE, OUTSIDE_VALID = 12, 13  # heated or explored, on users who engaged none of its tags lately
STATS = 14

HISTORY = 16
"""Valid views that the platform keeps of each user, one a slate at most."""


class Users(NamedTuple):
    """Accounts, ``[S, U, ...]``. The first block is the truth, the second what the platform knows."""

    interest: Array  # f32 [S, U, T], click-rate factor of each tag, mean about 1
    discovered: Array  # f32 [S, U, T] in [0, 1]
    curiosity: Array  # f32 [S, U] in [0, 1]
    satisfaction: Array  # f32 [S, U] in [0, 1]
    recent: Array  # f32 [S, U, D], fading mean of what was shown (satiation)
    active_logit: Array  # f32 [S, U]
    visits_log: Array  # f32 [S, U], log of the mean requests a day
    ring: Array  # bool [S, U], account of the colluding ring

    profile: Array  # f32 [S, U, D], the ranker's picture of the user
    last_valid_day: Array  # i16 [S, U, T]
    requests: Array  # i16 [S, U], slates the user has seen
    met_at: Array  # i16 [S, U, T], of these, the last that held a content with this tag
    history: Array  # i32 [S, U, HISTORY], latest first: place + generation * M of a content; -1: none
    created_day: Array  # i32 [S, U]
    active_bits: Array  # u32 [S, U], bit d: was this place's user active d days ago
    seen: Array  # u32 [S, U, W], one bit a content shown within the no-repeat window
    mind: Array  # f32 [S, U, 4]: exploitation, curiosity, fatigue, satisfaction
    expected: Array  # f32 [S, U], running clicks per impression of this user
    visited_h: Array  # f32 [S, U], time of the last request


class Contents(NamedTuple):
    """Live contents, ``[M, ...]``, and their creators, ``[K]``."""

    tags: Array  # i32 [M, 3], repeated when a content has fewer
    embedding: Array  # f32 [M, D], unit length
    log_quality: Array  # f32 [M], true, clickbait's boost not included
    clickbait: Array  # bool [M]
    bought: Array  # bool [M]
    price: Array  # f32 [M], yuan
    duration_s: Array  # f32 [M]
    creator: Array  # i32 [M]
    born_day: Array  # i32 [M]
    death_day: Array  # i32 [M]
    generation: Array  # i32 [M], how many contents had this place before
    stats: Array  # f32 [M, STATS]
    first3: Array  # f32 [M], impressions of the first three days
    creator_generation: Array  # i32 [K]
    creator_followers: Array  # f32 [K]
    creator_skill: Array  # f32 [K], standard normal


class WorldState(NamedTuple):
    """Everything that a day carries to the next."""

    seed: Array  # u32
    day: Array  # i32
    scale: Array  # f32, impressions per live content per day over 500
    dau: Array  # f32, active users on the last day
    users: Users
    contents: Contents
    tag_vectors: Array  # f32 [T, D]
    persona: Array  # f32 [S, T], what a segment's users have in common
    platform_ctr: Array  # f32, fading mean
    regulator: Any  # RegulatorState of the arm that runs
    arm: Any  # the arm's own pytree
    trust: Any = None  # ``suspicion.Suspicion`` where there are direct visits
