"""The same rows from CSV, gzip, JSON lines and Parquet, in blocks and parts of any size."""

import gzip
import json

from log_samples import GOOD, bring_in, good_rows, log_file, rejects

from upwell.logs import importer, read
from upwell.logs.dataset import open_dataset
from upwell.logs.generate import write_log


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
    monkeypatch.setattr(importer, "PART_ROWS", 37)
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
