"""What the service knows for a reward program at a tick (see ``regulator.bonus``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from upwell.agents import mind
from upwell.goals.program import Program, key_of_tag, reads, tags
from upwell.service import fold
from upwell.service.tables import Contents, Users

DAY_MS = 86_400_000
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
