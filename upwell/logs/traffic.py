"""What a data set says of a platform's traffic, as the settings of the service that follow from it."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from upwell.logs.dataset import open_dataset

LIVES_DAYS = 30.0
"""A content is taken down no sooner, whatever a short log says."""


def traffic(folder: Path, told: dict[str, float]) -> dict[str, float]:
    """``daily_impressions``, ``live_contents``, ``click_rate``, ``life_days``: those that the log tells.

    ``told``: its marginals. A content counts as live from the first to the last day on which it was shown.
    """
    data = open_dataset(folder)
    local = pl.from_epoch("ts", time_unit="ms").dt.replace_time_zone("UTC").dt.convert_time_zone(data.manifest.zone)
    shown = data.interactions.select("content_id", "ts", day=local.dt.date())
    spans = shown.group_by("content_id").agg(n=pl.len(), first=pl.col("day").min(), last=pl.col("day").max())
    of_all = spans.select(
        n=pl.col("n").sum(),
        days=(pl.col("last").max() - pl.col("first").min()).dt.total_days() + 1,
        lived=((pl.col("last") - pl.col("first")).dt.total_days() + 1).sum(),
    )
    n, days, lived = of_all.collect(engine="streaming").row(0)
    if not n:
        return {}
    found = {"daily_impressions": n / days, "live_contents": lived / days}
    rate = told.get("ctr_standard", 0.0)
    if rate > 0.0:
        found["click_rate"] = rate
    born = data.contents.select("content_id", "published_at").drop_nulls()
    age_days = (pl.col("ts") - pl.col("published_at")) / 86_400_000
    ages = shown.join(born, on="content_id").select(age_days.quantile(0.99)).collect(engine="streaming").item()
    if ages is not None:
        found["life_days"] = float(max(ages, LIVES_DAYS))
    return found
