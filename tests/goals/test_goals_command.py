"""``upwell goals propose`` and ``upwell bench goals``: what they refuse, and tiny worlds end to end."""

import json
import re
import sys

import numpy as np
import pytest
from chat_server import completion, in_turn, playing
from plotly.offline import get_plotlyjs

from upwell.cli import main
from upwell.errors import BadRequest
from upwell.experiment import goal_study, steering

TINY = [
    "--users", "200", "--contents", "300", "--days", "1", "--burn-in", "0", "--seeds", "4", "--arm", "rules",
    "--set", "sizes.segments=2", "--json",
]  # fmt: skip


def said(monkeypatch, capfd, *words: str):
    monkeypatch.setattr(sys, "argv", ["upwell", *words])
    main()
    return json.loads(capfd.readouterr().out)


@pytest.mark.parametrize("text", ["make it nice", "请让它变好", ""])
def test_a_goal_that_names_nothing_is_told_what_could_be_named(monkeypatch, capfd, text):
    monkeypatch.setattr(sys, "argv", ["upwell", "goals", "propose", text])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    told = capfd.readouterr().err
    assert "no metric that is to move was understood" in told
    assert "cold_start_success" in told


def test_unsimulated_it_only_reads(monkeypatch, capfd):
    told = said(monkeypatch, capfd, "goals", "propose", "提升点击率,满意度不能下降", "--no-simulate", "--json")
    assert told["understood"]["aims"][0]["metric"] == "ctr"
    assert told["understood"]["bounds"][0] == {"metric": "satisfaction_mean", "low": 0, "high": None, "relative": True}
    assert (told["simulated"], told["source"], told["predicted"], told["meets"]) == (False, "fallback", {}, False)
    assert told["weights"] == {"user_satisfaction": 0.4, "platform_revenue": 0.3, "long_term": 0.3}


def test_a_days_tokens_are_counted_over_commands(monkeypatch, capfd, tmp_path):
    answer = json.dumps({"weights": {"user_satisfaction": 0.5, "platform_revenue": 0.3, "long_term": 0.2}})
    with playing(in_turn(completion(answer))) as server:
        words = [
            "goals",
            "propose",
            "raise ctr",
            "--no-simulate",
            "--llm",
            server.url,
            "--out",
            str(tmp_path),
            "--json",
        ]
        assert said(monkeypatch, capfd, *words)["source"] == "llm"
        asked = len(server.requests)
        again = said(monkeypatch, capfd, *words, "--tokens-per-day", "10")
        assert len(server.requests) == asked > 0
    assert again["source"] == "fallback"
    assert "today's 10 tokens are spent" in again["rejected"][0]["why"]


def test_for_people_in_their_language(monkeypatch, capfd):
    for text, word in (("提升点击率", "未做仿真"), ("raise ctr", "nothing was simulated")):
        monkeypatch.setattr(sys, "argv", ["upwell", "goals", "propose", text, "--no-simulate"])
        main()
        assert word in capfd.readouterr().out


def test_a_file_of_goals_is_read_or_refused(tmp_path):
    path = tmp_path / "goals.toml"
    with pytest.raises(BadRequest, match="no such file"):
        goal_study.goals_of(path)
    path.write_text("[[goal]]\nname = 3", encoding="utf-8")
    with pytest.raises(BadRequest, match="not a list"):
        goal_study.goals_of(path)
    path.write_text('[[goal]]\ntext = "提升点击率"\n[[goal]]\ntext = "x"', encoding="utf-8")
    first, second = goal_study.goals_of(path)
    assert [aim.metric for aim in first.aims] == ["ctr"]
    assert second.aims == ()


def test_a_line_is_monotone_where_it_rises_and_no_step_falls():
    every = steering.goals(goal_study.POINTS)
    m = list(steering.METRICS).index("net_gmv_per_dau")
    found = np.zeros((len(every), 3, len(steering.METRICS)))
    for g, goal in enumerate(every):
        found[g, :, m] = goal[1] + 0.001 * np.arange(3)
    assert goal_study.rise("platform_revenue", "net_gmv_per_dau", found)["monotone"]
    place = every.index(steering.goal_at("platform_revenue", 0.6))
    found[place, :, m] = 5.0  # a peak: the next step falls
    bent = goal_study.rise("platform_revenue", "net_gmv_per_dau", found)
    assert (bent["falls"], bent["monotone"]) == (1, False)


@pytest.mark.slow
def test_tiny_worlds_end_to_end_share_what_was_lived(tmp_path, capfd, monkeypatch):
    goals = tmp_path / "goals.toml"
    goals.write_text('[[goal]]\ntext = "提升<b>点击率</b>,满意度可以下降50%"\n[[goal]]\ntext = "x"', encoding="utf-8")
    monkeypatch.setattr(goal_study, "POINTS", 2)
    words = ["bench", "goals", "--goals", str(goals), "--out", str(tmp_path / "out"), *TINY]
    first = said(monkeypatch, capfd, *words)
    assert [one["source"] for one in first["goals"]] in (["search", ""], ["fallback", ""])
    assert first["goals"][1]["failures"] == ["nothing that is to move was understood"]
    assert len(first["curves"]["goals"]) == 6
    page = (tmp_path / "out" / "goals.html").read_text(encoding="utf-8").replace(get_plotlyjs(), "")
    assert "<b>点击率" not in page
    assert not re.search(r"(src|href)\s*=|@import|url\(", page)
    again = said(monkeypatch, capfd, *words)
    assert again.pop("days_lived") == 0 < first.pop("days_lived")
    assert {**again, "seconds": 0} == {**first, "seconds": 0}
    one = said(monkeypatch, capfd, "goals", "propose", "提升<b>点击率</b>,满意度可以下降50%",
               "--out", str(tmp_path / "out"), *TINY)  # fmt: skip
    assert one["source"] == first["goals"][0]["source"]
    assert set(one) >= {"weights", "source", "program", "predicted", "rejected", "considered", "meets"}
