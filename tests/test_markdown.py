"""The result table in Markdown."""

import numpy as np

from upwell.experiment import markdown
from upwell.experiment.stats import gap_closed, interval


def result(seeds: int) -> dict:
    """Three arms whose every metric is .1, .2, … by seed, .2 more under rules and .8 more under the oracle."""
    raw = 0.1 * np.arange(1, seeds + 1)
    values = {"raw": raw, "rules": raw + 0.2, "oracle": raw + 0.8}
    gaps = {arm: gap_closed(values[arm], raw, values["oracle"])._asdict() for arm in ("rules", "oracle")}
    return {
        "arms": {arm: {row.metric: interval(v)._asdict() for row in markdown.ROWS} for arm, v in values.items()},
        "oracle_gap_closed": gaps, "seeds": list(range(seeds)), "users": 4_000, "contents": 10_000, "days": 14,
        "burn_in": 56,
    }  # fmt: skip


def test_the_table_by_hand(tmp_path):
    markdown.write(result(3), tmp_path / "table.md")
    english, first, chinese, second = (tmp_path / "table.md").read_text(encoding="utf-8").strip().split("\n\n")
    assert english.startswith("4,000 users, 10,000 contents; 56 days under raw ranking, then 14 days under each arm;")
    assert "种子数 3" in chinese
    lines = first.splitlines()
    assert lines[:2] == ["| metric | `raw` | `rules` | `oracle` |", "|---|---|---|---|"]
    # mean .2, sd .1: t(.975, 2) x .1 / sqrt(3) is .2484
    assert "| New-content CTR | 20.0 ± 24.8% | 40.0 ± 24.8% | 100.0 ± 24.8% |" in lines
    assert "| Objective | 0.200 ± 0.248 | 0.400 ± 0.248 | 1.000 ± 0.248 |" in lines
    assert lines[-1] == "| Share of the gap raw → oracle closed | – | 25% (25 … 25) | 100% |"
    assert [line.split("|")[2:] for line in second.splitlines()[1:]] == [line.split("|")[2:] for line in lines[1:]]


def test_one_seed_has_no_interval_and_without_an_oracle_there_is_no_gap():
    told = result(1) | {"oracle_gap_closed": {}}
    lines = markdown.table(told, "metric", [row.english for row in markdown.ROWS], markdown.GAP[0]).splitlines()
    assert lines[2] == "| New-content CTR | 10.0% | 30.0% | 90.0% |"
    assert len(lines) == 2 + len(markdown.ROWS)
