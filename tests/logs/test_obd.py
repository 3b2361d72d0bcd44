"""The Open Bandit layout: the published files, counted a second time with nothing but csv and gzip."""

import csv
import gzip

import pytest
from log_samples import bring_in

from upwell.logs.dataset import open_dataset


def test_open_bandit_as_published(tmp_path, real):
    folder = real("obd")
    result = bring_in([folder], tmp_path / "out")
    assert result["format"] == "obd"
    assert (result["rows_read"], result["rows_rejected"]) == (40_080, 0)
    assert {name: t["kept"] for name, t in result["tables"].items()} == {
        "interactions": 40_000,
        "contents": 80,
        "users": 0,
    }
    assert set(result["skipped"]) == {"random/men/item_context.csv", "random/women/item_context.csv"}
    data = open_dataset(tmp_path / "out")
    logs = data.interactions.collect()
    for policy in ("bts", "random"):
        for campaign in ("men", "women"):
            with gzip.open(folder / policy / campaign / f"{campaign}.csv.gz", "rt", encoding="utf-8") as file:
                names, *rows = csv.reader(file)
            theirs = dict(zip(names, zip(*rows, strict=True), strict=True))
            ours = logs.filter(exposure=policy, campaign=campaign)
            assert ours.height == len(rows) == 10_000
            assert ours["clicked"].sum() == sum(map(int, theirs["click"]))
            assert ours["propensity"].to_list() == list(map(float, theirs["propensity_score"]))
            assert ours["content_id"].to_list() == [f"{campaign}:{item}" for item in theirs["item_id"]]
            assert ours["timestamp"].to_list() == list(theirs["timestamp"])
            wide = [name for name in names if name.startswith("user-item_affinity_")]
            assert ours["user_item_affinity"].list.sum().to_list() == [
                sum(map(float, row[-len(wide) :])) for row in rows
            ]
            assert ours["user_item_affinity"].list.len().unique().to_list() == [len(wide)]
            assert ours["user_feature_3"].to_list() == list(theirs["user_feature_3"])
            assert ours["source_row"].to_list() == list(range(2, 10_002))
    assert logs["ts"][0] == 1_574_553_663_979  # 2019-11-24 00:01:03.979311 UTC
    segments = logs.select("^user_feature_.$").unique().height
    assert data.users.collect()["user_id"].n_unique() == segments == logs["user_id"].n_unique()


@pytest.mark.parametrize(("propensity", "kept"), [("1", 1), ("1e-9", 1), ("0", 0), ("-.1", 0), ("1.01", 0), ("nan", 0)])
def test_a_propensity_is_above_0_and_at_most_1(tmp_path, propensity, kept):
    path = tmp_path / "men.csv"
    path.write_text(
        f"timestamp,item_id,position,click,propensity_score\n2019-11-24 00:00:00+00:00,1,1,0,{propensity}\n"
    )
    result = bring_in([path], tmp_path / "out", "obd")
    assert (result["rows_kept"], result["rows_rejected"]) == (kept, 1 - kept)
