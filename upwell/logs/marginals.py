"""What a log says of a platform, as named figures that a world can be fitted to.

``measure`` takes them from an imported data set, ``published`` from the aggregates of KuaiRand-27K; same names, same
meaning. A figure that the source does not tell is absent. EXPOSURE is what chose an impression: standard, random, bts …

| name | unit | meaning |
|---|---|---|
| `ctr_EXPOSURE` | share | clicks / impressions |
| `impressions_EXPOSURE` | count | impressions |
| `impressions_per_user_day_EXPOSURE_pQ` | 1/day | quantile over users who have any: impressions / days of the log |
| `user_ctr_EXPOSURE_pQ` | share | quantile over those users: clicks / impressions |
| `contents_shown_EXPOSURE` | count | contents shown at all |
| `content_impressions_EXPOSURE_pQ` | count | quantile over contents shown at all: impressions in the log |
| `top1pct_exposure_share_EXPOSURE` | share | of impressions, those of the 1% (rounded up) most shown contents |
| `gini_EXPOSURE` | 0–1 | Gini coefficient of impressions over contents shown |
| `hour_share_EXPOSURE_00` … `_23` | share | of impressions, by hour of day in the data's zone; sum 1 |
| `days_EXPOSURE` | days | from the first to the last day with an impression, in the data's zone |
| `completion_pQ`, `dwell_s_pQ` | share, s | quantile over clicked impressions that tell it |
| `duration_s_pQ` | s | quantile over contents that tell it |
| `contents` | count | contents in the contents table |
| `tags_per_content_0` … `_4`, `_5_or_more` | share | of contents, by number of tags; sum 1 |
| `tags_per_content_mean` | tags | |
| `tags` | count | distinct tags |
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from upwell.errors import BadRequest
from upwell.logs.dataset import Dataset, open_dataset

QUANTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
MOST_TAGS = 5


def measure(folder: Path) -> dict[str, float]:
    """Marginals of the imported data set in ``folder``. Raises BadRequest."""
    data = open_dataset(folder)
    result: dict[str, float] = {}
    exposures = data.interactions.select(pl.col("exposure").unique().sort()).collect(engine="streaming")
    for exposure in exposures["exposure"].drop_nulls():
        log = data.interactions.filter(pl.col("exposure") == exposure)
        result |= of_exposure(log, str(exposure), data.manifest.zone)
    clicked = data.interactions.filter(pl.col("clicked"))
    for name in ("completion", "dwell_s"):
        result |= quantiles(name, values_of(clicked, name))
    return result | of_contents(data)


def values_of(frame: pl.LazyFrame, name: str) -> np.ndarray:
    return frame.select(pl.col(name).drop_nulls()).collect(engine="streaming")[name].to_numpy()


def quantiles(name: str, values: np.ndarray) -> dict[str, float]:
    """``name_p1`` … ``name_p99``, linear between values; nothing of no values."""
    if not len(values):
        return {}
    return {f"{name}_p{q}": float(v) for q, v in zip(QUANTILES, np.percentile(values, QUANTILES), strict=True)}


def of_exposure(log: pl.LazyFrame, exposure: str, zone: str) -> dict[str, float]:
    """The figures of one exposure's impressions (columns user_id, content_id, ts in Unix ms, clicked)."""
    local = pl.from_epoch("ts", time_unit="ms").dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    clicks = pl.col("clicked").sum()
    users = log.group_by("user_id").agg(shown=pl.len(), clicks=clicks).collect(engine="streaming")
    contents = log.group_by("content_id").agg(shown=pl.len()).collect(engine="streaming")["shown"].to_numpy()
    hours = log.group_by(hour=local.dt.hour()).agg(shown=pl.len()).collect(engine="streaming")
    span = log.select(first=local.dt.date().min(), last=local.dt.date().max()).collect(engine="streaming").row(0)
    days = (span[1] - span[0]).days + 1
    shown, clicked = users["shown"].to_numpy(), users["clicks"].to_numpy()
    by_hour = dict(hours.select("hour", "shown").iter_rows())
    impressions = float(shown.sum())
    return {
        f"impressions_{exposure}": impressions,
        f"ctr_{exposure}": float(clicked.sum()) / impressions,
        f"days_{exposure}": float(days),
        **quantiles(f"impressions_per_user_day_{exposure}", shown / days),
        **quantiles(f"user_ctr_{exposure}", clicked / shown),
        f"contents_shown_{exposure}": float(len(contents)),
        **quantiles(f"content_impressions_{exposure}", contents),
        f"top1pct_exposure_share_{exposure}": top_share(contents, 0.01),
        f"gini_{exposure}": gini(contents),
        **{f"hour_share_{exposure}_{hour:02}": by_hour.get(hour, 0) / impressions for hour in range(24)},
    }


def top_share(counts: np.ndarray, share: float) -> float:
    """Share of all that the top ``share`` of ``counts`` (at least one, rounded up) hold."""
    top = int(np.ceil(len(counts) * share))
    return float(np.sort(counts)[-top:].sum() / counts.sum())


def gini(counts: np.ndarray) -> float:
    """0 where all are equal, towards 1 where one holds everything."""
    ordered = np.sort(counts).astype(np.float64)
    n = len(ordered)
    return float((2.0 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))


def of_contents(data: Dataset) -> dict[str, float]:
    tags = data.contents.select(number=pl.col("tags").list.len()).group_by("number").len().collect(engine="streaming")
    result = tag_shares(dict(tags.drop_nulls().iter_rows()))
    if not result:
        return {}
    distinct = data.contents.select(pl.col("tags").explode().drop_nulls().n_unique()).collect(engine="streaming").item()
    return result | {"tags": float(distinct)} | quantiles("duration_s", values_of(data.contents, "duration_s"))


def tag_shares(contents: dict[int, float]) -> dict[str, float]:
    """From number of tags → contents that have so many."""
    total = float(sum(contents.values()))
    if not total:
        return {}
    result = {"contents": total}
    result |= {f"tags_per_content_{n}": contents.get(n, 0) / total for n in range(MOST_TAGS)}
    result[f"tags_per_content_{MOST_TAGS}_or_more"] = sum(c for n, c in contents.items() if n >= MOST_TAGS) / total
    result["tags_per_content_mean"] = sum(n * c for n, c in contents.items()) / total
    return result


def published(facts: Path) -> dict[str, float]:
    """The same names out of the published aggregates of KuaiRand-27K (``facts.json``). Raises BadRequest."""
    try:
        document: dict[str, Any] = msgspec.json.decode(facts.read_bytes(), type=dict[str, Any])
        result: dict[str, float] = {}
        for exposure in ("standard", "random"):
            result |= published_exposure(document, exposure)
        shares = {int(row["tag_num"]): float(row["video_count"]) for row in document["tags_per_video"]}
    except FileNotFoundError:
        raise BadRequest(f"{facts}: no such file of aggregates") from None
    except (OSError, msgspec.DecodeError) as error:
        raise BadRequest(f"{facts}: not JSON: {error}") from None
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise BadRequest(f"{facts}: not the aggregates of KuaiRand-27K: {error!r} is missing or wrong") from None
    return result | tag_shares(shares)


def published_exposure(document: dict[str, Any], exposure: str) -> dict[str, float]:
    basic, comparison = document[f"basic_{exposure}"][0], document["comparison"]
    days = float(len(document[f"daily_{exposure}"]))
    hours = {int(row["hour"]): float(row["exposures"]) for row in document[f"hourly_{exposure}"]}
    shown = document[f"per_user_{exposure}_exposures_quantiles"]
    rates = document[f"per_user_{exposure}_ctr_quantiles"]
    contents = document[f"video_exposure_summary_{exposure}"][0]
    impressions = float(basic["exposure_cnt"])
    return {
        f"impressions_{exposure}": impressions,
        f"ctr_{exposure}": float(comparison[f"ctr_{exposure}"]),
        f"days_{exposure}": days,
        **{f"impressions_per_user_day_{exposure}_p{q}": float(shown[f"p{q}"]) / days for q in QUANTILES},
        **{f"user_ctr_{exposure}_p{q}": float(rates[f"p{q}"]) for q in QUANTILES},
        **{f"content_impressions_{exposure}_p{q}": float(contents[f"expo_p{q}"]) for q in (50, 90)},
        f"top1pct_exposure_share_{exposure}": float(comparison[f"top1pct_exposure_share_{exposure}"]),
        f"gini_{exposure}": float(comparison[f"gini_{exposure}"]),
        **{f"hour_share_{exposure}_{hour:02}": hours.get(hour, 0.0) / sum(hours.values()) for hour in range(24)},
    }
