"""An import that is cut off goes on where it stopped, and its result is that of one that was not."""

import fcntl
import os
from pathlib import Path

import msgspec
import pytest
from cut_off import BLOCK, PARQUET_ROWS, PART_ROWS, SAVES, WRITES, killed, logs, row, same, told
from log_samples import GOOD, bring_in, log_file

from upwell.errors import BadRequest
from upwell.logs import importer, read, staging
from upwell.logs.dataset import open_dataset
from upwell.logs.journal import Journal
from upwell.logs.plan import plan


@pytest.fixture
def small(monkeypatch):
    """Blocks and parts so small that a few hundred rows make many."""
    monkeypatch.setattr(read, "BLOCK", BLOCK)
    monkeypatch.setattr(read, "PARQUET_ROWS", PARQUET_ROWS)
    monkeypatch.setattr(importer, "PART_ROWS", PART_ROWS)


@pytest.mark.parametrize(
    ("at", "call", "left", "when"),
    [
        (SAVES, "write", 1, "before"),
        (SAVES, "write", 1, "after"),
        (SAVES, "write", 6, "after"),
        (SAVES, "write", 11, "after"),
        (WRITES, "write", 3, "before"),
        (WRITES, "write", 19, "before"),  # while repeats are taken out
        ("upwell.logs.importer", "take_out_repeats", 1, "after"),
        ("upwell.logs.importer", "place", 1, "after"),
        ("upwell.logs.importer", "write_manifest", 1, "after"),
    ],
)
def test_a_killed_import_goes_on_to_the_same_data_set(tmp_path, small, at, call, left, when):
    source = logs(tmp_path / "logs")
    straight = bring_in([source], tmp_path / "straight")
    killed(tmp_path / "cut", source, at=at, call=call, left=left, when=when)
    assert not (tmp_path / "cut").exists()
    result = bring_in([source], tmp_path / "cut")
    assert same(tmp_path / "straight", tmp_path / "cut")
    assert told(result) == told(straight)
    first = (at, call, left, when) == (SAVES, "write", 1, "before")
    assert (result["rows_resumed"] > 0) != first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut", "logs", "straight"]


@pytest.mark.slow
def test_an_import_killed_again_and_again_arrives(tmp_path, small):
    source = logs(tmp_path / "logs")
    bring_in([source], tmp_path / "straight")
    resumed = [0]
    for _ in range(4):
        killed(tmp_path / "cut", source, at=SAVES, call="write", left=3, when="before")
        resumed.append(sum(file.rows for file in left_by(tmp_path / "cut").files))
    assert resumed == sorted(set(resumed))  # each got further
    bring_in([source], tmp_path / "cut")
    assert same(tmp_path / "straight", tmp_path / "cut")


def left_by(out: Path) -> Journal:
    return msgspec.json.decode((staging.work_of(out) / "journal.json").read_bytes(), type=Journal)


@pytest.mark.parametrize(("left", "when"), [(1, "before"), (1, "after"), (2, "after")])
def test_an_earlier_data_set_outlives_a_kill_at_the_last_renames(tmp_path, small, left, when):
    source, out = logs(tmp_path / "logs"), tmp_path / "out"
    bring_in([log_file(tmp_path, row(1, 2))], out)
    killed(out, source, at="pathlib:Path", call="rename", left=left, when=when)
    with pytest.raises(BadRequest, match="no rows"):
        bring_in([log_file(tmp_path)], out)  # fails, and so changes nothing
    kept = open_dataset(out).interactions.collect().height
    assert kept == 1 if left == 1 else kept > 1
    bring_in([source], out)
    bring_in([source], tmp_path / "straight")
    assert same(tmp_path / "straight", out)


@pytest.mark.parametrize("change", ["input", "option", "loss", "version"])
def test_what_has_changed_starts_anew_and_says_so(tmp_path, small, change):
    source, notes = logs(tmp_path / "logs"), []
    killed(tmp_path / "cut", source, at=SAVES, call="write", left=5, when="after")
    work = staging.work_of(tmp_path / "cut")
    if change == "input":
        with (source / "user_features.csv").open("a") as file:
            file.write("\n900,full_active,1")
    elif change == "option":
        (source / "log_b.csv.gz").unlink()
    elif change == "loss":
        (work / "parts" / "interactions" / "part-00002.parquet").write_bytes(b"")
    else:
        (work / "journal.json").write_text("{}")
    result = importer.run(plan([source], "auto", None), tmp_path / "cut", note=notes.append)
    said = {"input": "user_features.csv has changed", "option": "other files", "loss": "damaged", "version": "version"}
    assert result["rows_resumed"] == 0
    assert len(notes) == 1
    assert said[change] in notes[0]
    assert notes[0].endswith("starting anew")
    bring_in([source], tmp_path / "straight")
    assert same(tmp_path / "straight", tmp_path / "cut")


def test_ctrl_c_says_how_to_go_on(tmp_path, small, upwell, monkeypatch):
    source, write, left = logs(tmp_path / "logs"), Journal.write, 3

    def stopped(journal: Journal, work: Path) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        write(journal, work)

    monkeypatch.setattr(Journal, "write", stopped)
    words = ("import", source, "--out", tmp_path / "cut", "--json")
    code, out, err = upwell(*words)
    assert (code, out) == (1, "")
    assert "the same command goes on" in err
    assert not (tmp_path / "cut").exists()
    code, out, err = upwell(*words)
    assert code == 0
    assert "going on after" in err
    bring_in([source], tmp_path / "straight")
    assert same(tmp_path / "straight", tmp_path / "cut")


def test_two_imports_do_not_write_to_one_folder(tmp_path):
    work = staging.work_of(tmp_path / "out")
    work.mkdir()
    held = os.open(work, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(BadRequest, match="another import is writing there"):
        bring_in([log_file(tmp_path, GOOD)], tmp_path / "out")
    os.close(held)
    assert bring_in([log_file(tmp_path, GOOD)], tmp_path / "out")["rows_kept"] == 1
