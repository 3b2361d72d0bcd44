"""What the service knows of its platform: for a reward program at a tick (see ``regulator.bonus``), and for a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from upwell.agents import mind
from upwell.goals.program import Program, key_of_tag, reads, tags
from upwell.service import fold
from upwell.service.memory import WEIGHED
from upwell.service.tables import Contents, Users
from upwell.state.port import Store

DAY_MS = 86_400_000
ID = "figures"
"""Of what a tick knows of users, in the store (kind ``meta``)."""
ENOUGH = 100
"""Days of users from which anything is told of them."""
SAMPLE = 4_096
"""Users whose interests and satisfaction are looked at, or up to twice as many."""


def of_users(users: Users, now_ms: int) -> dict[str, float]:
    """Figures of the users in memory: of those who came yesterday. None before anybody did.

    How many topics a healthy platform's users engage is not known here, and so neither is their interests' diversity.
    """
    rows = np.fromiter(users.rows.at.values(), np.int64, len(users.rows))
    visited_ms, came, day = users.record["visited_ms"][rows], users.record["came"][rows], now_ms // DAY_MS
    yesterday = came_on(visited_ms, came, day - 1)
    many = int(yesterday.sum())
    if not many:
        return {}
    some = users.record[rows[yesterday][:: max(many // SAMPLE, 1)]]
    out = {
        "dau": float(many),
        "interest_tags": float(np.bitwise_count(fold.engaged(some)).mean()),
        "satisfaction_mean": float(some["mind"][:, mind.SATISFACTION].mean()),
    }
    for name, days in (("d1_retention", 1), ("d7_retention", 7)):
        before = came_on(visited_ms, came, day - 1 - days)
        if before.any():
            out[name] = float((before & yesterday).sum() / before.sum())
    return out


def live(store: Store, version: str) -> dict[str, float]:
    """Metrics of the platform by name, for who looks for better weights.

    What the last tick knew of users, and what came of all slates since the weights ``version`` hold; what nobody knows
    yet is left out. Raises StoreDown.
    """
    (kept,) = store.get("meta", [ID])
    (tally,) = store.counters("meta", [f"{WEIGHED}{version}"])
    sums = Counter[str]()
    for name, n in tally.items():
        sums[name.partition("_")[2]] += n  # of all groups, of the holdout too
    out: dict[str, float] = msgspec.msgpack.decode(kept) if kept is not None else {}
    if sums["daily"] >= ENOUGH:
        out["gmv_per_dau"] = sums["fen"] / 100.0 / sums["daily"]
        out["watch_minutes_per_dau"] = sums["seconds"] / 60.0 / sums["daily"]
        out["impressions_per_dau"] = sums["impressions"] / sums["daily"]
        out["ctr"] = sums["clicks"] / max(sums["impressions"], 1)
        out["real_engagement"] = (sums["valid"] + 2.0 * sums["shares"]) / max(sums["impressions"], 1)
        out["heated_share"] = sums["heated"] / max(sums["impressions"], 1)
    return out


def came_on(visited_ms: npt.NDArray[np.int64], came: npt.NDArray[np.uint8], day: int) -> npt.NDArray[np.bool_]:
    """Whether users came on a day, up to eight before their last visit's ``[B]``; of records' fields."""
    last = visited_ms // DAY_MS - day
    earlier = came.astype(np.int64) >> np.clip(last - 1, 0, 8) & 1 == 1
    return (visited_ms > 0) & ((last == 0) | (last > 0) & earlier)


def given(
    program: Program,
    contents: Contents,
    rows: npt.NDArray[np.int64],
    platform_ctr: float,
    heated_share: float,
    platform: Mapping[str, float],
) -> dict[str, Any]:
    """What the program reads of contents ``[M]`` that no column has, and of the platform."""
    # A content may be forgotten while a tick runs beside.
    info = [contents.info.get(row) for row in rows.tolist()] if tags(program) or "price" in reads(program) else []
    out: dict[str, Any] = {"ctr": platform_ctr, "heated_share": heated_share, **platform}
    if "price" in reads(program):
        out["price"] = np.asarray([one.price or 0.0 if one else 0.0 for one in info], np.float32)
    for tag in tags(program):
        has = [one is not None and (tag in one.tags or tag == one.category) for one in info]
        out[key_of_tag(tag)] = np.asarray(has, bool)
    return out
