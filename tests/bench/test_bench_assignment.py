"""``upwell bench assignment``, on few ids."""

import json
import sys

from upwell.cli import main


def test_bench_assignment(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["upwell", "bench", "assignment", "--ids", "10000", "--json"])
    main()
    found = json.loads(capsys.readouterr().out)
    assert found["ids"] == 10_000
    assert found["assignments_per_second"] > 0
    assert found["request_path_us"] > 0
    assert 0 < found["uniformity_p"] <= 1
    assert 0 < found["independence_p"] <= 1
