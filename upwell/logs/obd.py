"""The Open Bandit Dataset's layout (Saito et al., arXiv 2008.07146): one log a campaign and behaviour policy, with its
propensities, and the campaign's items.

The data has no user ids. A user here is a distinct combination of the four hashed user features: a segment of people.
Item numbers begin at 0 in every campaign, so a content is "men:12".
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import polars as pl

from upwell.logs.layout import Field, Layout
from upwell.logs.schema import Column

LICENCE = (
    "Open Bandit Dataset: CC BY 4.0; small version in a repository under Apache-2.0 (Saito et al., arXiv 2008.07146)"
)
LOG_NEEDS = ("timestamp", "item_id", "position", "click", "propensity_score")
ITEM_NEEDS = {"item_id", "item_feature_0"}
CAMPAIGNS = ("all", "men", "women")
POLICIES = ("random", "bts")
AFFINITY = "user-item_affinity_"
USER_FEATURES = tuple(f"user_feature_{i}" for i in range(4))


def layout(columns: tuple[str, ...], path: Path) -> Layout | None:
    """The layout of a file with these columns at this path; None if it is no Open Bandit file."""
    names = set(columns)
    folders = [part.lower() for part in path.resolve().parts]
    own = path.name.partition(".")[0].lower()
    campaign = next((name for name in (own, *reversed(folders[:-1])) if name in CAMPAIGNS), "")
    policy = next((name for name in reversed(folders[:-1]) if name in POLICIES), "unknown")
    prefix = f"{campaign}:" if campaign else ""
    item = Field("item_id", digits=True, prefix=prefix)
    if names.issuperset(LOG_NEEDS):
        affinity = tuple(name for name in columns if name.startswith(AFFINITY))
        known = {name: Column(name, "number") for name in affinity} | {"": Column("", "integer", low=0)}
        known["timestamp"] = Column("timestamp", "text")
        return Layout(
            "interactions",
            {
                "content_id": item,
                "ts": Field("timestamp", format="iso"),
                "exposure": Field(constant=policy),
                "position": Field("position"),
                "propensity": Field("propensity_score"),
                "clicked": Field("click"),
            },
            known,
            keep=frozenset({"timestamp"}),
            finish=partial(finish_log, affinity=affinity, campaign=campaign),
            adds={"campaign": pl.String(), "user_item_affinity": pl.List(pl.Float64)},
            drops=frozenset(affinity),
        )
    if names >= ITEM_NEEDS:
        known = {"": Column("", "integer", low=0), "item_feature_0": Column("item_feature_0", "number")}
        adds = {"campaign": pl.String()}
        finish = partial(finish_item, campaign=campaign)
        return Layout("contents", {"content_id": item}, known, finish=finish, adds=adds)
    return None


def finish_log(frame: pl.DataFrame, affinity: tuple[str, ...], campaign: str) -> pl.DataFrame:
    """Segment as user id; the wide affinities as one list, in the items' order."""
    features = [name for name in USER_FEATURES if name in frame.columns]
    segment = [pl.col(name).str.slice(0, 8).fill_null("none") for name in features] or [pl.lit("everyone")]
    listed = pl.concat_list(affinity) if affinity else pl.lit(None, pl.List(pl.Float64))
    return frame.with_columns(
        pl.concat_str(segment, separator="-").alias("user_id"),
        pl.lit(campaign or None, pl.String).alias("campaign"),
        listed.alias("user_item_affinity"),
    )


def finish_item(frame: pl.DataFrame, campaign: str) -> pl.DataFrame:
    return frame.with_columns(pl.lit(campaign or None, pl.String).alias("campaign"))


def users(interactions: pl.LazyFrame) -> pl.LazyFrame:
    """The segments there are, for the users table."""
    features = [name for name in USER_FEATURES if name in interactions.collect_schema().names()]
    return (
        interactions.select("user_id", pl.lit(None, pl.Int64).alias("created_at"), *features)
        .unique("user_id")
        .sort("user_id")
    )


def same_items(one: Path, other: Path) -> bool:
    """Whether two item lists of one campaign say the same. The published ones of the two behaviour policies do, under
    different hashes: equal numbers, and every hash of one stands for one hash of the other."""
    try:
        first, second = (pl.read_csv(path, infer_schema=False).sort("item_id") for path in (one, other))
    except pl.exceptions.PolarsError:
        return False
    if first.columns != second.columns or first.height != second.height:
        return False
    for name in first.columns:
        pairs = pl.DataFrame({"one": first[name], "other": second[name]}).unique().height
        plain = name in ("", "item_id", "item_feature_0")
        same = first[name].equals(second[name]) if plain else pairs == first[name].n_unique() == second[name].n_unique()
        if not same:
            return False
    return True
