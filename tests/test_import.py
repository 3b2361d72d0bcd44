"""Imports of real and made logs, and of everything that is wrong with a file; marginals by hand; doctor and bench."""

import csv
import gzip
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upwell.cli import main
from upwell.errors import BadRequest
from upwell.logs import importer, marginals, read, staging
from upwell.logs.dataset import open_dataset
from upwell.logs.duplicates import Repeats
from upwell.logs.generate import BAD, COLUMNS, write_log
from upwell.logs.plan import plan
from upwell.logs.schema import TABLES

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("UPWELL_DATA", ROOT.parent / "shared" / "data"))
HEADER = ",".join(COLUMNS)
GOOD = "7,9,20220408,1200,1649390400000,1,0,0,0,0,0,1,5000,10000,0,0,0,0,1"
MAP = """
zone = "Asia/Shanghai"
licence = "ours"

[interactions]
files = ["events*"]
missing = ["", "NULL"]

[interactions.columns]
user_id = "uid"
content_id = "item"
ts = {column = "when", unit = "s"}
clicked = "opened"
dwell_s = {column = "play_ms", scale = 0.001}
exposure = {constant = "standard"}

[contents]
files = ["items*"]
separator = "\\t"

[contents.columns]
content_id = "item"
title = "title"
tags = {column = "tags", separator = "|"}
published_at = {column = "born", format = "%Y/%m/%d %H:%M"}
"""


def real(folder: str) -> Path:
    if not (DATA / folder).is_dir():
        pytest.skip(f"no real data at {DATA / folder}: set UPWELL_DATA")
    return DATA / folder


def bring_in(paths, out, format="auto", map_file=None):
    return importer.run(plan([Path(p) for p in paths], format, map_file), Path(out))


def rejects(out) -> list[dict]:
    return [json.loads(line) for line in (Path(out) / "rejects.jsonl").read_text(encoding="utf-8").splitlines()]


def log_file(folder, *rows: str, header: str = HEADER) -> Path:
    path = Path(folder) / "log_standard_made.csv"
    path.write_bytes("\n".join([header, *rows, ""]).encode("utf-8", "surrogateescape"))
    return path


def good_rows(log: Path) -> pl.DataFrame:
    """The rows of a made log without those that are bad on purpose."""
    return pl.read_csv(b"".join(line for line in log.read_bytes().splitlines(keepends=True) if line[:-1] not in BAD))


def upwell(capsys, monkeypatch, *words) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["upwell", *map(str, words)])
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    return code, said.out, said.err


# Real files, counted a second time with nothing but csv and gzip


def test_open_bandit_as_published(tmp_path):
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


def test_kuairand_features_without_logs(tmp_path):
    result = bring_in([real("kuairand_pure")], tmp_path / "out")
    assert (result["format"], result["rows_rejected"]) == ("kuairand", 0)
    assert {name: t["kept"] for name, t in result["tables"].items()} == {
        "interactions": 0,
        "contents": 7_583,
        "users": 27_285,
    }
    data = open_dataset(tmp_path / "out")
    users, contents = data.users.collect(), data.contents.collect()
    with gzip.open(DATA / "kuairand_pure" / "user_features_pure.csv.gz", "rt", encoding="utf-8") as file:
        theirs = list(csv.DictReader(file))
    assert set(theirs[0]) <= set(users.columns)  # 31 columns
    assert users["is_live_streamer"].null_count() == sum(row["is_live_streamer"] == "-124" for row in theirs) > 0
    assert users["fans_user_num"].to_list() == [int(row["fans_user_num"]) for row in theirs]
    assert contents["duration_s"].null_count() == 239
    assert contents.filter(content_id="5")["tags"].to_list() == [["20", "43"]]
    assert contents["tags"].list.len().eq(0).sum() == 96
    assert contents["published_at"][0] == 1_649_520_000_000  # 2022-04-10 00:00 in Shanghai
    assert marginals.measure(tmp_path / "out")["tags"] == len(contents["tags"].explode().drop_nulls().unique())


# Made files


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


def test_the_same_rows_from_gzip_parquet_and_json_lines(tmp_path):
    log = tmp_path / "log_standard_x.csv"
    good, _ = write_log(log, 0.2)
    frame = good_rows(log)
    frame.write_csv(tmp_path / "a.csv")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    frame.write_parquet(tmp_path / "c.parquet")
    frame.write_ndjson(tmp_path / "d.jsonl")
    (tmp_path / "e.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.csv").read_bytes().replace(b"\n", b"\r\n"))
    tables = []
    for name in ("a.csv", "b.csv.gz", "c.parquet", "d.jsonl", "e.csv"):
        result = bring_in([tmp_path / name], tmp_path / "out" / name)
        assert (result["rows_read"], result["rows_rejected"]) == (good, 0), name
        tables.append(open_dataset(tmp_path / "out" / name).interactions.drop("source", "source_row").collect())
    assert all(table.equals(tables[0]) for table in tables)


def test_blocks_and_parts_change_nothing(tmp_path, monkeypatch):
    rows = [GOOD.replace("7,9", f"{i},{i % 13}") for i in range(300)]
    rows[20] = '1,"2,20220408'  # a stray quote spoils its own line alone
    rows[40] = ""
    rows[200] = rows[3]
    log = log_file(tmp_path, *rows)
    bring_in([log], tmp_path / "one")
    monkeypatch.setattr(read, "BLOCK", 500)
    monkeypatch.setattr(staging, "PART_ROWS", 37)
    result = bring_in([log], tmp_path / "many")
    assert (result["rows_read"], result["rows_kept"]) == (299, 297)
    assert result["reasons"] == {"a quote that does not close": 1, "repeats an earlier row": 1}
    assert [(r["row"], r["reason"]) for r in rejects(tmp_path / "many")] == [
        (22, "a quote that does not close"),
        (202, "repeats an earlier row"),
    ]
    assert len(list((tmp_path / "many" / "interactions").iterdir())) > 5
    whole, cut = (open_dataset(tmp_path / name).interactions.collect() for name in ("one", "many"))
    assert whole.equals(cut)


def test_own_columns_by_a_mapping(tmp_path):
    (tmp_path / "map.toml").write_text(MAP, encoding="utf-8")
    events = io.StringIO()
    writer = csv.writer(events)
    writer.writerow(["uid", "item", "when", "opened", "play_ms", "场景", "clicked"])
    writer.writerow(["用户1", "a", "1649390400.5", "true", "1500", "首页\n第二行", "x"])
    writer.writerow(["u2", "b", "1649390401", "0", "NULL", "", "y"])
    writer.writerow(["u3", "b", "soon", "0", "", "", "z"])
    (tmp_path / "events_1.csv").write_text(events.getvalue(), encoding="utf-8")
    (tmp_path / "items.tsv").write_text(
        "item\ttitle\ttags\tborn\na\t猫，好\t美食| 旅行|\t2022/04/08 00:00\n", encoding="utf-8"
    )
    sources = [tmp_path / "events_1.csv", tmp_path / "items.tsv"]
    result = bring_in(sources, tmp_path / "out", "columns", tmp_path / "map.toml")
    assert (result["rows_read"], result["rows_kept"]) == (4, 3)
    assert result["reasons"] == {"when: not a time in seconds": 1}
    assert rejects(tmp_path / "out")[0]["row"] == 5  # a field runs over lines 2 and 3
    data = open_dataset(tmp_path / "out")
    assert (data.manifest.zone, data.manifest.licence) == ("Asia/Shanghai", "ours")
    first, second = data.interactions.collect().to_dicts()
    assert (first["user_id"], first["ts"], first["clicked"], first["dwell_s"]) == (
        "用户1",
        1_649_390_400_500,
        True,
        1.5,
    )
    assert (first["场景"], first["source_clicked"], first["exposure"]) == ("首页\n第二行", "x", "standard")
    assert (second["dwell_s"], second["clicked"]) == (None, False)
    content = data.contents.collect().to_dicts()[0]
    assert (content["title"], content["tags"], content["published_at"]) == (
        "猫，好",
        ["美食", "旅行"],
        1_649_347_200_000,
    )


def test_json_lines_of_mixed_types_and_late_keys(tmp_path, monkeypatch):
    (tmp_path / "map.toml").write_text(
        '[interactions.columns]\nuser_id = "u"\ncontent_id = "c"\nts = "t"\nclicked = "k"\n', encoding="utf-8"
    )
    lines = [
        {"u": 1, "c": "x", "t": 1_649_390_400_000, "k": True, "tags": ["猫", 1]},
        {"u": "2", "c": "x", "t": "1649390400001", "k": 0, "tags": None, "late": 1},
        {"u": None, "c": "x", "t": 1_649_390_400_002, "k": False},
        {"u": 3, "c": "x", "t": float(1_649_390_400_003), "k": "no", "tags": ["b"]},
    ]
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    path = tmp_path / "events.jsonl"
    path.write_text(f"{text}\n[1]\n{{broken\n", encoding="utf-8")
    monkeypatch.setattr("upwell.logs.source.HEAD", len(json.dumps(lines[0])) + 5)
    result = bring_in([path], tmp_path / "out", "columns", tmp_path / "map.toml")
    assert result["reasons"] == {"not a JSON object": 2, "u: missing": 1}
    assert result["keys_not_imported"] == {"events.jsonl": ["late"]}
    kept = open_dataset(tmp_path / "out").interactions.collect()
    assert kept["user_id"].to_list() == ["1", "2", "3"]
    assert kept["clicked"].to_list() == [True, False, False]
    assert kept["tags"].to_list() == ['["猫","1"]', None, '["b"]']


# Bad rows


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (GOOD.replace("7,9", "x,9"), "user_id: not a whole number"),
        (GOOD.replace("7,9", ",9"), "user_id: missing"),
        (GOOD.replace("7,9", "7, "), "video_id: missing"),
        (GOOD.replace("1649390400000", ""), "time_ms: missing"),
        (GOOD.replace("1649390400000", "NaN"), "time_ms: not a time in whole units"),
        (GOOD.replace("1649390400000", "1649390400"), "time_ms: outside the years 2000 to 2099"),
        (GOOD.replace("1649390400000", "9" * 30), "time_ms: not a time in whole units"),
        (GOOD.replace("000,1,0", "000,2,0"), "is_click: not 0 or 1"),
        (GOOD.replace("000,1,0", "000,,0"), "is_click: missing"),
        (GOOD.replace("5000,10000", "-5000,10000"), "play_time_ms: negative"),
        (GOOD.replace("5000,10000", "inf,10000"), "play_time_ms: not a whole number"),
        (GOOD.replace("5000,10000", "5000,ten"), "duration_ms: not a whole number"),
        (GOOD[:20], "fewer fields than the header"),
        (GOOD + ",1", "more fields than the header"),
        (GOOD.replace("7,9", "7,\udcff"), "invalid UTF-8"),
        (GOOD.replace("7,9", "7,\0"), "a zero byte"),
        (GOOD.replace("7,9", '7,9"'), "a quote that does not close"),
        (GOOD.replace("7,9", '7,"9"x'), "misplaced quotes"),
        (GOOD, "repeats an earlier row"),
    ],
)
def test_a_bad_row_is_put_aside_with_its_reason(tmp_path, row, reason):
    log = log_file(tmp_path, GOOD, row, GOOD.replace("7,9", "8,9"))
    result = bring_in([log], tmp_path / "out")
    assert (result["rows_read"], result["rows_kept"], result["rows_rejected"]) == (3, 2, 1)
    assert result["reasons"] == {reason: 1}
    assert result["rejected_file"] == str(tmp_path / "out" / "rejects.jsonl")
    (entry,) = rejects(tmp_path / "out")
    assert (entry["file"], entry["row"], entry["reason"]) == (log.name, 3, reason)
    assert entry["raw"]


@pytest.mark.parametrize(("propensity", "kept"), [("1", 1), ("1e-9", 1), ("0", 0), ("-.1", 0), ("1.01", 0), ("nan", 0)])
def test_a_propensity_is_above_0_and_at_most_1(tmp_path, propensity, kept):
    path = tmp_path / "men.csv"
    path.write_text(
        f"timestamp,item_id,position,click,propensity_score\n2019-11-24 00:00:00+00:00,1,1,0,{propensity}\n"
    )
    result = bring_in([path], tmp_path / "out", "obd")
    assert (result["rows_kept"], result["rows_rejected"]) == (kept, 1 - kept)


def test_a_later_row_of_the_same_user_is_rejected(tmp_path):
    path = tmp_path / "users.csv"
    path.write_text("user_id,user_active_degree,fans_user_num\n1,full_active,5\n2,x,6\n1,full_active,7\n")
    result = bring_in([path], tmp_path / "out")
    assert result["reasons"] == {"user_id: repeats an earlier row's": 1}
    assert open_dataset(tmp_path / "out").users.collect()["fans_user_num"].to_list() == [5, 6]


def test_repeats_are_found_over_any_number_of_blocks(tmp_path):
    keys = np.random.default_rng(0).integers(0, 5_000, 20_000).astype(np.uint64) * np.uint64(3_689_348_814_741_910)
    repeats = Repeats(tmp_path / "spill")
    for part in np.array_split(keys, 7):
        repeats.add(part)
    seen: set[int] = set()
    expected = [i for i, key in enumerate(keys.tolist()) if key in seen or seen.add(key)]
    assert repeats.places().tolist() == expected


MANGLED = st.lists(
    st.one_of(
        st.just(GOOD.encode()),
        st.integers(0, 10**6).map(lambda n: GOOD.replace("7,9", f"{n},9").encode()),
        st.binary(max_size=40),
        st.tuples(st.integers(0, len(GOOD)), st.binary(min_size=1, max_size=3)).map(
            lambda cut: GOOD.encode()[: cut[0]] + cut[1] + GOOD.encode()[cut[0] :]
        ),
        st.sampled_from([b"", b"\r", b'"', b'7,"9', b",,,,", GOOD.encode() + b"\r", GOOD.encode()[:-3]]),
    ),
    max_size=30,
)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=MANGLED, size=st.sampled_from([60, 200, 1 << 20]))
def test_no_row_is_lost_however_a_file_is_mangled(tmp_path_factory, monkeypatch, lines, size):
    folder = tmp_path_factory.mktemp("mangled")
    body = b"\n".join([*lines, b"1," + GOOD.encode()])
    (folder / "log_standard.csv").write_bytes(HEADER.encode() + b"\n" + body)
    monkeypatch.setattr(read, "BLOCK", size)
    result = bring_in([folder], folder / "out")
    assert result["rows_read"] == result["rows_kept"] + result["rows_rejected"]
    kept = open_dataset(folder / "out").interactions.collect()["source_row"].to_list()
    told = [entry["row"] for entry in rejects(folder / "out")] if result["rows_rejected"] else []
    assert (len(kept), len(told)) == (result["rows_kept"], result["rows_rejected"])
    numbers = kept + told
    assert len(set(numbers)) == len(numbers)
    full = {number for number, line in enumerate(body.split(b"\n"), 2) if line.strip()}
    assert set(numbers) == full if b'"' not in body else set(numbers) <= full


# Bad files


def damaged(folder: Path, name: str) -> Path:
    whole = (HEADER + "\n" + "\n".join(GOOD.replace("7,9", f"{i * 7919},9") for i in range(5_000))).encode()
    contents = {
        "empty.csv": b"",
        "blank.csv": b"\n\n",
        "garbage.csv": bytes(range(256)) * 8,
        "broken.csv.gz": gzip.compress(whole)[:-3_000],
        "notgzip.csv.gz": b"\x1f\x8b" + b"x" * 100,
        "broken.parquet": b"PAR1" + b"x" * 100,
        "archive.csv": b"PK\x03\x04" + b"x" * 100,
        "utf16.csv": HEADER.encode("utf-16"),
        "other.csv": b"a,b,c\n1,2,3\n",
        "header.csv": HEADER.encode() + b"\n",
        "twice.csv": b"user_id,user_id\n1,2\n",
        "list.jsonl": b"{broken\n",
    }
    path = folder / name
    if name in contents:
        path.write_bytes(contents[name])
    return path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.csv", "no such file"),
        ("empty.csv", "empty"),
        ("blank.csv", "empty"),
        ("garbage.csv", "not a table"),
        ("broken.csv.gz", "get the file again"),
        ("notgzip.csv.gz", "get the file again"),
        ("broken.parquet", "get the file again"),
        ("archive.csv", "unpack it first"),
        ("utf16.csv", "save it as UTF-8"),
        ("other.csv", "has a, b, c: neither KuaiRand nor Open Bandit"),
        ("header.csv", "no rows"),
        ("twice.csv", "more than once"),
        ("list.jsonl", "line 1: not JSON lines"),
    ],
)
def test_a_wrong_file_is_one_line_exit_code_two_and_no_output(tmp_path, capsys, monkeypatch, name, said):
    path = damaged(tmp_path, name)
    before = sorted(tmp_path.iterdir())
    code, out, err = upwell(capsys, monkeypatch, "import", path, "--out", tmp_path / "out", "--json")
    assert (code, out) == (2, "")
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1
    assert said in lines[0]
    assert name in lines[0]
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("[interactions]", "[interactions"), "not TOML"),
        (("clicked = ", "klicked = "), "interactions.columns.klicked: no such column of ours"),
        (("clicked = \"opened\"\n", ""), "interactions.columns: clicked is missing"),
        (("\"uid\"", "\"user\""), "no column 'user'"),
        (("unit = \"s\"", "unit = \"weeks\""), "interactions.columns.ts.unit"),
        (("zone = \"Asia/Shanghai\"", "zone = \"Moon\""), "zone: no time zone 'Moon'"),
        (("scale = 0.001", "scale = 0.001, constant = 1"), "interactions.columns.dwell_s: give either"),
        (("files = [\"items*\"]", ""), "contents.files"),
        (("missing = ", "mising = "), "mising"),
        (("\"\\t\"", "\"--\""), "contents.separator"),
    ],
)  # fmt: skip
def test_a_wrong_mapping_names_file_and_key(tmp_path, change, said):
    assert change[0] in MAP
    (tmp_path / "map.toml").write_text(MAP.replace(*change), encoding="utf-8")
    (tmp_path / "events.csv").write_text("uid,item,when,opened,play_ms\n1,2,1649390400,1,5\n")
    with pytest.raises(BadRequest) as error:
        plan([tmp_path / "events.csv"], "columns", tmp_path / "map.toml")
    assert said in str(error.value)
    assert "map.toml" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "words", [("--format", "columns"), ("--format", "obd", "--map", "x.toml"), ("--format", "xml")]
)
def test_options_that_do_not_go_together(tmp_path, capsys, monkeypatch, words):
    code, out, err = upwell(capsys, monkeypatch, "import", log_file(tmp_path, GOOD), *words)
    assert (code, out) == (2, "")
    assert "--map" in err or "--format" in err


def test_only_a_data_set_is_ever_replaced(tmp_path):
    log = log_file(tmp_path, GOOD)
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious.txt").write_text("keep")
    with pytest.raises(BadRequest, match="choose another --out"):
        bring_in([log], out)
    assert (out / "precious.txt").read_text() == "keep"
    (out / "precious.txt").unlink()
    bring_in([log], out)
    truncated = damaged(tmp_path, "broken.csv.gz")
    with pytest.raises(BadRequest):
        bring_in([truncated], out)
    assert open_dataset(out).interactions.collect().height == 1
    log_file(tmp_path, GOOD, GOOD.replace("7,9", "8,9"))
    bring_in([log], out)
    assert open_dataset(out).interactions.collect().height == 2
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_interrupt_leaves_nothing(tmp_path):
    log = log_file(tmp_path, GOOD)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        importer.run(plan([log], "auto", None), tmp_path / "out", interrupt)
    assert list(tmp_path.iterdir()) == [log]


# What the import is for


def test_marginals_by_hand(tmp_path):
    day = 86_400_000
    rows = [
        # user, video, ts, click, play, duration, random
        (1, 1, 1649347200000, 1, 5_000, 10_000, 0),  # 8 April 00:00 in Shanghai
        (1, 1, 1649347200000 + 1, 0, 0, 10_000, 0),
        (1, 2, 1649347200000 + 3_600_000, 1, 10_000, 10_000, 0),
        (2, 1, 1649347200000 + day, 0, 0, 10_000, 0),
        (2, 3, 1649347200000 + day + 1, 1, 1_000, 4_000, 1),
    ]
    text = [f"{u},{v},20220408,0,{t},{c},0,0,0,0,0,0,{p},{d},0,0,0,{r},1" for u, v, t, c, p, d, r in rows]
    (tmp_path / "video_features_basic.csv").write_text(
        'video_id,author_id,upload_dt,video_duration,tag\n1,1,2022-04-08,10000,"1,2"\n2,1,2022-04-08,,\n3,1,2022-04-08,4000,1\n'
    )
    bring_in([log_file(tmp_path, *text), tmp_path / "video_features_basic.csv"], tmp_path / "out")
    found = marginals.measure(tmp_path / "out")
    assert found["ctr_standard"] == 0.5
    assert found["ctr_random"] == 1.0
    assert (found["impressions_standard"], found["days_standard"], found["days_random"]) == (4, 2, 1)
    assert found["impressions_per_user_day_standard_p50"] == 1.0  # users: 3/2 and 1/2 a day
    assert found["user_ctr_standard_p50"] == pytest.approx(1 / 3)  # 2/3 and 0
    assert found["content_impressions_standard_p50"] == 2.0  # 3 and 1
    assert found["top1pct_exposure_share_standard"] == 0.75
    assert found["gini_standard"] == pytest.approx(0.25)  # (−1·1 + 1·3) / (2·4)
    assert (found["hour_share_standard_00"], found["hour_share_standard_01"]) == (0.75, 0.25)
    assert sum(found[f"hour_share_standard_{h:02}"] for h in range(24)) == 1.0
    assert found["completion_p50"] == 0.5  # .25, .5, 1 of clicked ones
    assert found["dwell_s_p50"] == 5.0
    assert found["duration_s_p50"] == 7.0
    assert [found[f"tags_per_content_{n}"] for n in range(3)] == pytest.approx([1 / 3] * 3)
    assert (found["tags"], found["contents"], found["tags_per_content_mean"]) == (2, 3, 1)


def test_published_marginals_have_the_same_names(tmp_path):
    found = marginals.published(real("kuairand27k") / "facts.json")
    assert found["ctr_standard"] == pytest.approx(0.3787, abs=1e-4)
    assert found["ctr_random"] == pytest.approx(0.1762, abs=1e-4)
    assert found["impressions_per_user_day_standard_p50"] == pytest.approx(8_594 / 31)
    assert found["gini_random"] == pytest.approx(0.0808, abs=1e-4)
    assert sum(found[f"hour_share_standard_{h:02}"] for h in range(24)) == pytest.approx(1)
    assert found["tags_per_content_1"] == pytest.approx(23_394_771 / 32_038_725)
    write_log(tmp_path / "log.csv", 0.5)
    (tmp_path / "videos.csv").write_text("video_id,author_id,upload_dt,tag\n1,1,2022-04-08,3\n")
    bring_in([tmp_path], tmp_path / "out")
    assert set(found) <= set(marginals.measure(tmp_path / "out"))


def test_marginals_of_what_is_no_data_set(tmp_path):
    with pytest.raises(BadRequest, match="make one with `upwell import"):
        marginals.measure(tmp_path)
    with pytest.raises(BadRequest, match="no such file"):
        marginals.published(tmp_path / "facts.json")


def test_the_documented_schema_is_the_schema():
    page = (ROOT / "docs" / "logs.md").read_text(encoding="utf-8")
    for table in ("interactions", "contents", "users"):
        for column in TABLES[table]:
            assert f"| `{column.name}` | {column.kind} | {column.unit} | {column.meaning} |" in page


def test_doctor_says_what_is_here_and_how_to_get_the_rest(capsys, monkeypatch):
    code, out, _ = upwell(capsys, monkeypatch, "doctor", "--json")
    parts = json.loads(out)["parts"]
    assert code == 0
    assert {
        "service",
        "redis",
        "kafka",
        "llm",
        "console",
        "scale",
        "export",
        "envs",
        "redis-server",
        "chromium",
    } <= set(parts)
    assert all(bool(part["found"]) == part["available"] == (part["get"] is None) for part in parts.values())


@pytest.mark.slow
def test_bench_import_measures_a_process_of_its_own(capfd, monkeypatch):
    code, out, _ = upwell(capfd, monkeypatch, "bench", "import", "--megabytes", "5", "--json")
    result = json.loads(out)
    assert code == 0
    assert result["rows"] == result["rows_kept"] + result["rows_rejected"]
    assert result["rows_rejected"] > 0
    assert result["megabytes"] == pytest.approx(5, rel=0.05)
    assert 50 < result["peak_memory_mb"] < 1_000
    assert result["rows_per_second"] > 0
