"""The result table in Markdown."""

import numpy as np

from upwell.experiment import article, markdown
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


def test_ratios_beside_the_articles_by_hand():
    """Raw has .2 of everything, deepfm twice and marl three times that; heating is compared with deepfm's."""
    names = {row.metric for row in (*markdown.ROWS, *article.ROWS)}
    values = {"raw": 0.2, "deepfm": 0.4, "marl": 0.6}
    arms = {arm: {name: interval(np.array([v, v]))._asdict() for name in names} for arm, v in values.items()}
    found = {(c["metric"], c["arm"]): c for c in article.compared({"arms": arms})}
    click, cost = found["new-content CTR", "marl"], found["heating cost", "marl"]
    assert (round(click["ours"], 6), click["theirs"]) == (3.0, 3.8 / 0.8)
    assert (round(cost["ours"], 6), cost["theirs"], cost["over"], cost["lower_is_better"]) == (
        1.5,
        0.25,
        "deepfm",
        True,
    )
    assert ("heating cost", "deepfm") not in found
    table = article.rows({"arms": arms})
    assert table[0] == ["new-content CTR", "–", "–", "1.50", "2.00", "–", "–", "4.75", "3.00"]
    assert len(table) == len(article.ROWS)
    assert article.rows({"arms": {"raw": arms["raw"]}}) == []


def test_the_article_stands_under_the_tables(tmp_path):
    told = result(3)
    told["arms"]["deepfm"] = told["arms"]["rules"]
    for arm in told["arms"].values():
        arm |= {row.metric: interval(np.array([0.5, 0.5]))._asdict() for row in article.ROWS if row.metric not in arm}
    markdown.write(told, tmp_path / "table.md")
    last = (tmp_path / "table.md").read_text(encoding="utf-8").strip().split("\n\n")[-1].splitlines()
    assert last[0].startswith("| over raw's | itemcf, theirs | itemcf, ours | deepfm, theirs |")
    # D1 retention .4 over .2; the article has 61 over 58
    assert last[5] == "| D1 retention | – | – | 1.05 | 2.00 | – | – | – | – |"
