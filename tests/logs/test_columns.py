"""Anybody's own columns, by a mapping, and what is wrong with one; options."""

import csv
import io

import pytest
from log_samples import GOOD, MAP, bring_in, log_file, rejects

from upwell.errors import BadRequest
from upwell.logs.dataset import open_dataset
from upwell.logs.plan import plan


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
def test_options_that_do_not_go_together(tmp_path, upwell, words):
    code, out, err = upwell("import", log_file(tmp_path, GOOD), *words)
    assert (code, out) == (2, "")
    assert "--map" in err or "--format" in err
