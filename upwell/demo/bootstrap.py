"""A burnt-in platform written into a store, as a platform that installs the service would bring its past along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from upwell.model import Content
from upwell.service import fold, records
from upwell.service.settings import Settings, load
from upwell.service.tables import bits_of
from upwell.state.batch import Batch
from upwell.state.port import Store
from upwell.world.catalogue import tag_name
from upwell.world.config import WorldConfig
from upwell.world.state import CLICKS, IMPRESSIONS, SHARES, VALID, Contents, WorldState

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
EPOCH_MS = 19_000 * DAY_MS
"""Midnight of the world's day 0, Unix ms."""
AT_ONCE = 2_000


class Names(NamedTuple):
    """What users and contents of a world are called outside it."""

    contents: int  # M: how many places there are

    def content(self, place: int, generation: int) -> str:
        return f"v{place + generation * self.contents}"

    @staticmethod
    def user(number: int, created_day: int) -> str:
        return f"u{number}d{created_day}"


def time_ms(hours: float) -> int:
    """Unix ms of a world's clock."""
    return EPOCH_MS + round(hours * HOUR_MS)


def settings_of(config: WorldConfig, state: WorldState, **given: object) -> Settings:
    """A service's settings for this platform: what the world's own arms go by."""
    heating, goal, sizes = config.heating, config.goal, config.sizes
    return load(
        None,
        **{
            "clock": "request", "tick_s": 600.0, "seed": int(state.seed) % 2**31, "cap": heating.cap,
            "pool": heating.pool, "protection_days": heating.protection_days, "holdout": heating.holdout,
            "ctr_loss": heating.ctr_loss, "chance": heating.chance, "first_ask": heating.first_ask,
            "budget": heating.budget, "no_repeat_h": config.ranker.no_repeat_h, "fit_weight": config.ranker.personal,
            "daily_impressions": 500.0 * float(state.scale) * sizes.contents, "live_contents": float(sizes.contents),
            "click_rate": float(state.platform_ctr), "life_days": 3_650.0,
            "weights": (goal.user_satisfaction, goal.platform_revenue, goal.long_term),
        }
        | given,
    )  # fmt: skip


def content_of(config: WorldConfig, contents: Contents, place: int) -> Content:
    """The content in a place, as its platform would register it. ``contents`` holds NumPy arrays."""
    names = Names(config.sizes.contents)
    return Content(
        id=names.content(place, int(contents.generation[place])),
        creator_id=f"k{int(contents.creator[place])}g{int(contents.creator_generation[contents.creator[place]])}",
        published_at=EPOCH_MS + int(contents.born_day[place]) * DAY_MS,
        tags=tuple(sorted({tag_name(int(tag)) for tag in contents.tags[place]})),
        embedding=tuple(float(x) for x in contents.embedding[place]),
        duration_s=float(contents.duration_s[place]),
        price=float(contents.price[place]),
        creator_followers=int(contents.creator_followers[contents.creator[place]]),
    )


def write(store: Store, config: WorldConfig, state: WorldState) -> None:
    """Users with their profiles and contents with their counts. ``state`` holds NumPy arrays."""
    for begin in range(0, config.sizes.contents, AT_ONCE):
        batch = Batch()
        for place in range(begin, min(begin + AT_ONCE, config.sizes.contents)):
            content = content_of(config, state.contents, place)
            batch.put("content", content.id, msgspec.json.encode(content))
            counted = state.contents.stats[place]
            columns = {"impressions": IMPRESSIONS, "clicks": CLICKS, "valid": VALID, "shares": SHARES}
            batch.add(
                "content",
                content.id,
                {name: round(float(counted[i])) for name, i in columns.items() if counted[i] >= 0.5},
            )
        store.write(batch)
    bits = [int(bits_of((tag_name(tag),))).bit_length() - 1 for tag in range(config.sizes.tags)]
    users = state.users
    segments, places = users.satisfaction.shape
    for segment in range(segments):
        batch = Batch()
        for place in range(places):
            name = Names.user(segment * places + place, int(users.created_day[segment, place]))
            batch.put("user", name, user_record(state, segment, place, bits).tobytes())
        store.write(batch)


def user_record(state: WorldState, segment: int, place: int, bits: Sequence[int]) -> np.ndarray:
    """A user's record. ``bits``: the hash of each tag."""
    users, at = state.users, (segment, place)
    created_ms = EPOCH_MS + int(users.created_day[at]) * DAY_MS
    row = records.new_user(created_ms, float(users.expected[at]))
    dims = users.profile.shape[-1]
    row["mind"] = users.mind[at]
    row["profile"][:dims], row["recent"][:dims] = users.profile[at], users.recent[at]
    for tag in np.flatnonzero(users.last_valid_day[at] > int(state.day) - records.WEEK_DAYS).tolist():
        day = EPOCH_MS // DAY_MS + int(users.last_valid_day[at][tag])
        fold.engage(row, bits[tag], day)
    # The world's bits begin with yesterday, a record's with the day before the last visit's.
    since = int(state.day) - int(users.visited_h[at] // 24.0)
    row["came"] = (int(users.active_bits[at]) >> max(since, 0)) & 255 if users.requests[at] > 0 else 0
    row["requests"] = max(int(users.requests[at]), 0)
    row["visited_ms"] = time_ms(float(users.visited_h[at])) if users.requests[at] > 0 else 0
    return row
