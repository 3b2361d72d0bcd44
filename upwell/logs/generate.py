"""A log in the KuaiRand layout with made-up rows, for measurements and tests. Seeded; a few rows are bad on purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

COLUMNS = (
    "user_id", "video_id", "date", "hourmin", "time_ms", "is_click", "is_like", "is_follow", "is_comment", "is_forward",
    "is_hate", "long_view", "play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time",
    "is_profile_enter", "is_rand", "tab",
)  # fmt: skip
USERS, VIDEOS = 27_000, 3_000_000
FIRST_MS = 1_649_347_200_000
"""2022-04-08 00:00 in Shanghai."""
DAYS = 31
BLOCK = 200_000
BAD = (
    b"12,34,20220408",
    b"nobody,34,20220408,1200,1649390400000,0,0,0,0,0,0,0,0,10000,0,0,0,0,1",
    b"12,34,20220408,1200,1649390400,0,0,0,0,0,0,0,0,10000,0,0,0,0,1",
    b"12,34,20220408,1200,1649390400000,0,0,0,0,0,0,0,-5,10000,0,0,0,0,1",
    b"12,\xff\xfe,20220408,1200,1649390400000,0,0,0,0,0,0,0,0,10000,0,0,0,0,1",
)
"""Too few fields, no number, seconds for milliseconds, negative play time, not UTF-8."""


def block(random: np.random.Generator, rows: int) -> pl.DataFrame:
    """Good rows: popularity and activity skewed, clicks at the published rates (standard .379, random .176)."""
    is_rand = random.random(rows) < 0.02
    clicked = random.random(rows) < np.where(is_rand, 0.176, 0.379)
    duration = np.exp(random.normal(10.0, 0.8, rows)).astype(np.int64) + 1_000
    play = (duration * random.beta(0.5, 1.0, rows) * np.where(clicked, 1.5, 0.2)).astype(np.int64)
    ts = FIRST_MS + random.integers(0, DAYS * 86_400_000, rows)
    local = pl.from_epoch(pl.Series(ts), time_unit="ms").dt.offset_by("8h")
    rare = {
        name: random.random(rows) < share
        for name, share in (("like", 0.02), ("follow", 0.002), ("comment", 0.003), ("forward", 0.002), ("hate", 0.0002))
    }
    flags = {f"is_{name}": values.astype(np.int8) for name, values in rare.items()}
    stay = np.where(random.random(rows) < 0.02, random.integers(1, 60_000, rows), 0)
    return pl.DataFrame(
        {
            "user_id": (USERS * random.random(rows) ** 2).astype(np.int64),
            "video_id": (VIDEOS * random.random(rows) ** 4).astype(np.int64),
            "date": local.dt.strftime("%Y%m%d"),
            "hourmin": local.dt.hour().cast(pl.Int32) * 100,
            "time_ms": ts,
            "is_click": clicked.astype(np.int8),
            **flags,
            "long_view": (play > 18_000).astype(np.int8),
            "play_time_ms": play,
            "duration_ms": duration,
            "profile_stay_time": stay,
            "comment_stay_time": stay[::-1],
            "is_profile_enter": (stay > 0).astype(np.int8),
            "is_rand": is_rand.astype(np.int8),
            "tab": random.integers(0, 10, rows),
        }
    ).select(COLUMNS)


def write_log(path: Path, megabytes: float, seed: int = 0) -> tuple[int, int]:
    """Write a log of about this size (at least one block's worth is cut to it); its good rows and its bad rows."""
    random = np.random.default_rng(seed)
    good = bad = 0
    limit = int(megabytes * (1 << 20))
    with path.open("wb") as file:
        file.write(",".join(COLUMNS).encode() + b"\n")
        while (left := limit - file.tell()) > 0:
            rows = min(BLOCK, max(left // 85, 1))
            block(random, rows).write_csv(file, include_header=False)
            file.write(b"\n".join(BAD) + b"\n")
            good, bad = good + rows, bad + len(BAD)
    return good, bad
