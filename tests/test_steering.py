"""The study of weights: its goals and its arithmetic by hand, the page, and a tiny study end to end."""

import json
import re
import sys

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from upwell.cli import main
from upwell.experiment import steering


def test_three_lines_meet_in_the_middle():
    every = steering.goals(4)  # shares 0, 1/3, 2/3, 1: the point at a third is the same on all lines
    assert len(every) == 3 * 4 - 2
    assert all(sum(goal) == pytest.approx(1.0, abs=1e-5) for goal in every)
    assert steering.goal_at("platform_revenue", 0.5) == (0.25, 0.5, 0.25)
    assert steering.goals(2) == [(0, 0.5, 0.5), (1, 0, 0), (0.5, 0, 0.5), (0, 1, 0), (0.5, 0.5, 0), (0, 0, 1)]


def made_up(seeds: int = 2) -> dict:
    """Every metric is ten times the share of revenue, and a tenth more on the second seed."""
    every = steering.goals(3)
    found = np.zeros((len(every), seeds, len(steering.METRICS)))
    for g, goal in enumerate(every):
        found[g] = 10.0 * goal[1] * (1.0 + 0.1 * np.arange(seeds))[:, None]
    return steering.told(every, 3, found) | {"arm": "<i>marl</i>", "seeds": list(range(seeds))}


def test_effects_are_paired_differences_of_a_lines_ends():
    result = made_up()
    revenue = result["effects"]["platform_revenue"]["ctr"]
    assert revenue["mean"] == pytest.approx(10.5)
    # Differences 10 and 11: deviation .7071, over sqrt(2) .5, times t(1) 12.706
    assert revenue["high"] - revenue["mean"] == pytest.approx(12.706 * 0.5, rel=1e-3)
    assert result["effects"]["long_term"]["ctr"]["mean"] == pytest.approx(-5.25), "the others had half of it each"
    assert [result["goals"][place]["weights"] for place in result["lines"]["long_term"]] == [
        (0.5, 0.5, 0.0), (0.25, 0.25, 0.5), (0.0, 0.0, 1.0),
    ]  # fmt: skip


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_page_is_self_contained(tmp_path, seeds):
    steering.write_page("<b>世界</b>", made_up(seeds), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8").replace(get_plotlyjs(), "")
    assert "<b>世界" not in page
    assert "<i>marl" not in page
    assert not re.search(r"(src|href)\s*=|@import|url\(", page)


def test_a_family_has_no_weights_of_its_own(monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["upwell", "steer", "--arm", "oracle"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "give a single one" in capfd.readouterr().err


@pytest.mark.slow
def test_a_tiny_study_end_to_end_resumes(tmp_path, capfd, monkeypatch):
    words = [
        "upwell", "steer", "--arm", "rules", "--points", "2", "--seeds", "1", "--users", "200", "--contents", "300",
        "--days", "8", "--burn-in", "2", "--set", "sizes.segments=2", "--out", str(tmp_path), "--json",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", words)
    main()
    first = json.loads(capfd.readouterr().out)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("rules/*.json")}
    assert len(files) == len(first["goals"]) == 6
    heated = [goal["metrics"]["heated_share"]["mean"] for goal in first["goals"]]
    assert len(set(heated)) > 1, "what the rules heat follows the goal's weights"
    assert (tmp_path / "steer.html").exists()
    main()
    assert json.loads(capfd.readouterr().out) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("rules/*.json")} == files
