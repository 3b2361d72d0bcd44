"""Files that are no table, or are cut off."""

import pytest
from log_samples import damaged


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
def test_a_wrong_file_is_one_line_exit_code_two_and_no_output(tmp_path, upwell, name, said):
    path = damaged(tmp_path, name)
    before = sorted(tmp_path.iterdir())
    code, out, err = upwell("import", path, "--out", tmp_path / "out", "--json")
    assert (code, out) == (2, "")
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1
    assert said in lines[0]
    assert name in lines[0]
    assert sorted(tmp_path.iterdir()) == before
