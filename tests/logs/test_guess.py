"""What is guessed of a log's columns."""

import tomllib

import polars as pl
import pytest

from upwell.logs.guess import Sample, guess
from upwell.logs.mapping import load_map


def guessed(tmp_path, **columns):
    made = guess([Sample("log.csv", pl.DataFrame(columns))])
    (tmp_path / "mapping.toml").write_text(made.text, encoding="utf-8")
    if not made.lacks:
        load_map(tmp_path / "mapping.toml")
    return tomllib.loads(made.text)["interactions"]["columns"], made.lacks


def shown(**columns):
    return {"uid": ["u1", "u2"], "itemId": ["a", "b"], "is_click": ["0", "1"], "ts": ["1700000000"] * 2} | columns


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("1700000000", {"unit": "s"}),
        ("1700000000.25", {"unit": "s"}),
        ("1700000000000", {"unit": "ms"}),
        ("1700000000000000", {"unit": "us"}),
        ("2026-05-01T08:30:00Z", {"format": "iso"}),
        ("2026/05/01 08:30", {"format": "%Y/%m/%d %H:%M"}),
        ("20260501", {"format": "%Y%m%d"}),
        ("2026年5月1日 8时30分", {"format": "%Y年%m月%d日 %H时%M分"}),
        ("31/12/2026", {"format": "%d/%m/%Y"}),
    ],
)
def test_a_time_is_read_in_the_unit_or_format_it_is_in(tmp_path, value, read):
    columns, lacks = guessed(tmp_path, **shown(ts=[value, value]))
    assert columns["ts"] == {"column": "ts"} | read
    assert not lacks


@pytest.mark.parametrize(
    ("name", "values", "scale"),
    [
        ("watch_time", ["12.5", "900"], None),
        ("watch_time", ["12500", "90000"], 0.001),
        ("watch_ms", ["120", "90"], 0.001),
        ("观看时长（毫秒）", ["120", "90"], 0.001),
        ("观看时长(秒)", ["120", "90"], None),
    ],
)
def test_watch_time_is_in_seconds_unless_name_or_size_say_otherwise(tmp_path, name, values, scale):
    columns, _ = guessed(tmp_path, **shown(**{name: values}))
    assert columns["dwell_s"] == ({"column": name, "scale": scale} if scale else name)


def test_a_name_alone_is_not_enough(tmp_path):
    columns, lacks = guessed(tmp_path, **shown(is_click=["often", "never"], position=["first", "second"]))
    assert "position" not in columns
    assert lacks == (("log.csv", "clicked"),)


def test_the_better_of_two_names_is_taken(tmp_path):
    columns, _ = guessed(tmp_path, **shown(date=["2026-05-01"] * 2, is_clicked=["1", "1"]))
    assert columns["ts"]["column"] == "ts"
    assert columns["clicked"] == "is_click"
    assert columns["exposure"] == {"constant": "standard"}


def test_files_become_the_tables_that_they_hold():
    items = Sample("items[1].csv", pl.DataFrame({"itemId": ["a"], "tags": ["美食|旅行|猫"], "author": ["x"]}), "\t")
    people = Sample("people.csv", pl.DataFrame({"uid": ["u1"], "created_at": ["2020-01-01"]}))
    made = guess([people, items, Sample("events.csv", pl.DataFrame(shown()))])
    document = tomllib.loads(made.text)
    assert document["contents"]["columns"]["tags"]["separator"] == "|"
    assert (document["contents"]["separator"], document["contents"]["files"]) == ("\t", ["items[[]1].csv"])
    assert document["users"]["columns"]["created_at"] == {"column": "created_at", "format": "iso"}
    assert document["zone"] == "UTC"
