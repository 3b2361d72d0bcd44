"""``upwell experiments`` against a service of several processes: from a file to the end, and what it refuses."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from http_server import event

from upwell.cli import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "experiment.toml"
NAMES = [f"c{n}" for n in range(6)]


@pytest.fixture
def said(monkeypatch, capfd):
    def command(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["upwell", "experiments", *words])
        main()
        return capfd.readouterr().out

    return command


@pytest.mark.slow
def test_from_a_file_to_its_end(serve, said, tmp_path):
    one = serve("--workers", "2", UPWELL_POLICY="", UPWELL_HOLDOUT="0")
    for name in NAMES:
        one.content(name)
    file = tmp_path / "experiment.toml"
    file.write_text(EXAMPLE.read_text(encoding="utf-8").replace("share = 0.1", "share = 0.5"), encoding="utf-8")
    begun = json.loads(said("create", str(file), "--url", one.url, "--json"))
    assert [arm["arm"] for arm in begun["arms"]] == ["control", "treated"]
    time.sleep(1.0)  # until both servers have heard
    for n in range(60):
        answer = one.recommend(f"u{n}", NAMES).json()
        assert one.tell(event(answer, f"u{n}")).json()["accepted"] == 1

    def counted() -> dict:
        return json.loads(said("analyse", "calmer", "--url", one.url, "--json"))

    until = time.monotonic() + 180.0
    while sum(arm["users"] for arm in counted()["arms"]) < 60 or counted()["arms"][0]["metrics"]["ctr"] != 0.5:
        assert time.monotonic() < until, counted()
        time.sleep(0.5)
    found = counted()
    assert [arm["metrics"]["ctr"] for arm in found["arms"]] == [0.5, 0.5]
    assert min(arm["users"] for arm in found["arms"]) > 15
    people = said("analyse", "calmer", "--url", one.url)
    assert "Keep going" in people
    assert "treated" in people
    page, data = tmp_path / "page.html", tmp_path / "looks.parquet"
    said("report", "calmer", "--out", str(page), "--data", str(data), "--url", one.url)
    assert "Keep going" in page.read_text("utf-8")
    assert data.stat().st_size > 0
    assert json.loads(said("ramp", "calmer", "treated=0.25", "--url", one.url, "--json"))["stage"] == 1
    assert not json.loads(said("stop", "calmer", "--why", "seen enough", "--url", one.url, "--json"))["running"]
    assert "seen enough" in said("list", "--url", one.url)
    assert one.stop() == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("create", "nowhere.toml"), "nowhere.toml: No such file"),
        (("create", __file__), "not a TOML file"),
        (("ramp", "calmer", "treated"), "give arm=share"),
    ],
)
def test_a_wrong_request_is_one_line(monkeypatch, capfd, words, why):
    monkeypatch.setattr(sys, "argv", ["upwell", "experiments", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    said = capfd.readouterr().err
    assert why in said
    assert said.count("\n") == 1
