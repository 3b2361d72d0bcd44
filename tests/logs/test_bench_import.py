"""The bench of the import."""

import json

import pytest


@pytest.mark.slow
def test_bench_import_measures_a_process_of_its_own(upwell):
    code, out, _ = upwell("bench", "import", "--megabytes", "5", "--json")
    result = json.loads(out)
    assert code == 0
    assert result["rows"] == result["rows_kept"] + result["rows_rejected"]
    assert result["rows_rejected"] > 0
    assert result["megabytes"] == pytest.approx(5, rel=0.05)
    assert 50 < result["peak_memory_mb"] < 1_000
    assert result["rows_per_second"] > 0
