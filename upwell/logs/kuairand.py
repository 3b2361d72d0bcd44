"""The public KuaiRand layout (Gao et al., CIKM 2022): logs, users, videos and their statistics.

Click, watch time and the rest become our columns; all others stay under their own name. -124 means missing.
"""

from __future__ import annotations

import polars as pl

from upwell.logs.layout import Field, Layout
from upwell.logs.schema import Column, Kind

ZONE = "Asia/Shanghai"
"""Of ``date``, ``hourmin`` and ``upload_dt``."""
LICENCE = "KuaiRand: CC BY-SA 4.0 (Gao et al., CIKM 2022)"
MISSING = ("", "-124")
LOG_NEEDS = ("user_id", "video_id", "time_ms", "is_click")
USER_NEEDS = {"user_id", "user_active_degree"}
VIDEO_NEEDS = {"video_id", "author_id", "upload_dt"}
STATISTIC_NEEDS = {"video_id", "show_cnt"}
USER_NUMBERS = ("is_", "onehot_feat", "register_days", "follow_user_num", "fans_user_num", "friend_user_num")
VIDEO_TEXT = ("video_type", "upload_type")
VIDEO_NUMBERS = ("visible_status", "video_duration", "server_width", "server_height", "music_id", "music_type")


def known(kind: Kind, *names: str, low: float | None = None, high: float | None = None) -> dict[str, Column]:
    return {name: Column(name, kind, low=low, high=high) for name in names}


LOG_COLUMNS = (
    known("integer", "play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time", low=0)
    | known("integer", "date", low=20000101, high=20991231)
    | known("integer", "hourmin", low=0, high=2359)
    | known("integer", "tab")
    | known("flag", "is_comment", "is_hate", "long_view", "is_profile_enter", "is_rand")
)


def layout(columns: tuple[str, ...]) -> Layout | None:
    """The layout that a file with these columns has; None if it is no KuaiRand file."""
    names = set(columns)
    if names.issuperset(LOG_NEEDS):
        return log_layout(names)
    if names >= USER_NEEDS:
        numbers = {name for name in names if name.startswith(USER_NUMBERS) and not name.endswith("_range")}
        text = known("text", *names - numbers - {"user_id"})
        fields = {"user_id": Field("user_id", digits=True)}
        return Layout("users", fields, known("integer", *numbers) | text, missing=MISSING)
    if names >= VIDEO_NEEDS:
        return video_layout(names)
    if names >= STATISTIC_NEEDS:
        numbers = known("number", *names - {"video_id"})
        return Layout("content_statistics", {"content_id": Field("video_id", digits=True)}, numbers, missing=MISSING)
    return None


def log_layout(names: set[str]) -> Layout:
    theirs = {"clicked": "is_click", "liked": "is_like", "followed": "is_follow", "shared": "is_forward"}
    fields = {
        "user_id": Field("user_id", digits=True),
        "content_id": Field("video_id", digits=True),
        "ts": Field("time_ms"),
    }
    fields |= {ours: Field(column) for ours, column in theirs.items() if column in names}
    return Layout("interactions", fields, LOG_COLUMNS, missing=MISSING, finish=finish_log)


def finish_log(frame: pl.DataFrame) -> pl.DataFrame:
    """Watch time, completion and exposure from the columns that are kept beside them."""
    has = set(frame.columns)
    made: list[pl.Expr] = []
    if "play_time_ms" in has:
        made.append((pl.col("play_time_ms") / 1_000).alias("dwell_s"))
    if {"play_time_ms", "duration_ms"} <= has:
        share = pl.col("play_time_ms") / pl.col("duration_ms")
        made.append(pl.when(pl.col("duration_ms") > 0).then(share).alias("completion"))
    random = pl.col("is_rand") if "is_rand" in has else pl.lit(None, pl.Boolean)
    exposure = pl.when(random).then(pl.lit("random")).when(random.not_()).then(pl.lit("standard"))
    return frame.with_columns(*made, exposure.otherwise(pl.lit("unknown")).alias("exposure"))


def video_layout(names: set[str]) -> Layout:
    fields = {
        "content_id": Field("video_id", digits=True),
        "creator_id": Field("author_id", digits=True),
        "published_at": Field("upload_dt", format="iso", zone=ZONE),
    }
    if "tag" in names:
        fields["tags"] = Field("tag")
    numbers = known("number", *VIDEO_NUMBERS, low=0)
    return Layout("contents", fields, numbers | known("text", *VIDEO_TEXT), missing=MISSING, finish=finish_video)


def finish_video(frame: pl.DataFrame) -> pl.DataFrame:
    if "video_duration" not in frame.columns:
        return frame
    return frame.with_columns((pl.col("video_duration") / 1_000).alias("duration_s"))
