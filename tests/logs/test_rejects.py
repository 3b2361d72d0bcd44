"""Rows that cannot be used: each is put aside with its number and reason, and none is lost."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_samples import GOOD, HEADER, bring_in, log_file, rejects

from upwell.logs import read
from upwell.logs.dataset import open_dataset
from upwell.logs.duplicates import Repeats


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
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
