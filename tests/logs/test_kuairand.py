"""The KuaiRand layout: the published files, counted a second time with nothing but csv and gzip, and made logs."""

import csv
import gzip
import json

import polars as pl
import pytest
from log_samples import bring_in, good_rows, rejects

from upwell.logs import marginals
from upwell.logs.dataset import open_dataset
from upwell.logs.generate import BAD, COLUMNS, write_log


def test_kuairand_features_without_logs(tmp_path, real):
    result = bring_in([real("kuairand_pure")], tmp_path / "out")
    assert (result["format"], result["rows_rejected"]) == ("kuairand", 0)
    assert {name: t["kept"] for name, t in result["tables"].items()} == {
        "interactions": 0,
        "contents": 7_583,
        "users": 27_285,
    }
    data = open_dataset(tmp_path / "out")
    users, contents = data.users.collect(), data.contents.collect()
    with gzip.open(real("kuairand_pure") / "user_features_pure.csv.gz", "rt", encoding="utf-8") as file:
        theirs = list(csv.DictReader(file))
    assert set(theirs[0]) <= set(users.columns)  # 31 columns
    assert users["is_live_streamer"].null_count() == sum(row["is_live_streamer"] == "-124" for row in theirs) > 0
    assert users["fans_user_num"].to_list() == [int(row["fans_user_num"]) for row in theirs]
    assert contents["duration_s"].null_count() == 239
    assert contents.filter(content_id="5")["tags"].to_list() == [["20", "43"]]
    assert contents["tags"].list.len().eq(0).sum() == 96
    assert contents["published_at"][0] == 1_649_520_000_000  # 2022-04-10 00:00 in Shanghai
    assert marginals.measure(tmp_path / "out")["tags"] == len(contents["tags"].explode().drop_nulls().unique())


def test_every_kuairand_column_survives_and_every_row_is_accounted_for(tmp_path):
    log = tmp_path / "log_random_x.csv"
    good, bad = write_log(log, 2, seed=3)
    result = bring_in([log], tmp_path / "out", "kuairand")
    assert (result["rows_read"], result["rows_kept"], result["rows_rejected"]) == (good + bad, good, bad)
    assert set(result["reasons"].values()) == {bad // len(BAD)}
    assert set(result["reasons"]) == {
        "fewer fields than the header",
        "user_id: not a whole number",
        "time_ms: outside the years 2000 to 2099",
        "play_time_ms: negative",
        "invalid UTF-8",
    }
    ours = open_dataset(tmp_path / "out").interactions.collect()
    theirs = good_rows(log)
    renamed = json.loads((tmp_path / "out" / "dataset.json").read_text())["renamed"]["interactions"]
    for name in COLUMNS:
        values = ours[renamed.get(name, name)]
        assert values.cast(pl.Int64).to_list() == theirs[name].to_list(), name
    assert ours["dwell_s"].to_list() == pytest.approx((theirs["play_time_ms"] / 1_000).to_list())
    assert ours["completion"].to_list() == pytest.approx((theirs["play_time_ms"] / theirs["duration_ms"]).to_list())
    assert (ours["exposure"] == "random").sum() == theirs["is_rand"].sum() > 0
    lines = enumerate(log.read_bytes().splitlines(), 1)
    assert {row["row"] for row in rejects(tmp_path / "out")} == {number for number, line in lines if line in BAD}


def test_a_later_row_of_the_same_user_is_rejected(tmp_path):
    path = tmp_path / "users.csv"
    path.write_text("user_id,user_active_degree,fans_user_num\n1,full_active,5\n2,x,6\n1,full_active,7\n")
    result = bring_in([path], tmp_path / "out")
    assert result["reasons"] == {"user_id: repeats an earlier row's": 1}
    assert open_dataset(tmp_path / "out").users.collect()["fans_user_num"].to_list() == [5, 6]
