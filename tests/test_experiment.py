"""Intervals by hand, runs that resume, and the command line."""

import json
import subprocess
import sys

import numpy as np
import pytest

from upwell.errors import BadRequest
from upwell.experiment import runner
from upwell.experiment.stats import gap_closed, interval
from upwell.world.config import reference_world

SMALL = {"sizes.users": 200, "sizes.contents": 300, "sizes.creators": 30, "sizes.segments": 2}


def upwell(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from upwell.cli import main; main()", *words],
        capture_output=True,
        text=True,
        check=False,
    )


def test_interval_by_hand():
    # mean 2, sd 1, t(.975, 2) = 4.3027
    assert tuple(interval(np.array([1.0, 2.0, 3.0]))) == pytest.approx((2.0, 2 - 2.4841, 2 + 2.4841), abs=1e-3)


def test_gap_closed_is_exact_without_noise():
    raw = np.array([1.0, 2.0, 3.0])
    assert tuple(gap_closed(raw + 0.3, raw, raw + 1.0)) == pytest.approx((0.3, 0.3, 0.3))


def test_an_experiment_resumes_and_refuses_another_worlds_runs(tmp_path):
    config = reference_world().override(SMALL)
    plan = runner.Plan(config, ("raw",), (0,), 8, 2)
    first = runner.run(plan, tmp_path, lambda: None)
    steps: list[int] = []
    second = runner.run(plan, tmp_path, lambda: steps.append(1))
    assert not steps
    assert second[0].metrics == first[0].metrics
    other = runner.Plan(config.override({"ranker.noise": 0.5}), ("raw",), (0,), 8, 2)
    with pytest.raises(BadRequest, match="another world"):
        runner.run(other, tmp_path, lambda: None)


@pytest.mark.slow
def test_experiment_command_writes_one_self_contained_page(tmp_path):
    sets = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    done = upwell(
        "experiment", "--arms", "raw,rules,oracle", "--seeds", "2", "--days", "8", "--burn-in", "2",
        *sets, "--out", str(tmp_path), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result["arms"]) == {"raw", "rules", "oracle"}
    assert set(result["arms"]["rules"]["ctr"]) == {"mean", "low", "high"}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script src" not in page
    assert "oracle" in page
    assert (tmp_path / "table.md").read_text(encoding="utf-8").count("`oracle`") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("simulate", "--arm", "nobody"), "unknown arm 'nobody'"),
        (("simulate", "--set", "ranker.noise"), "section.key=number"),
        (("simulate", "--world", "/nowhere.toml"), "no such world file"),
        (("simulate", "--frobnicate"), "No such option"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_two(words, said):
    done = upwell(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_print_world_documents_every_key():
    done = upwell("simulate", "--print-world")
    assert done.returncode == 0
    keys = [line for line in done.stdout.splitlines() if " = " in line and not line.startswith(("#", "name"))]
    assert len(keys) > 60
    assert all("  # " in line for line in keys)
