"""Off-policy estimates from the service's own journal: an agent nearer to where it pays is found to earn more."""

import json
import sys

import numpy as np
import online_samples as made
import pytest

from upwell.agents.network import Layer, save_policy
from upwell.cli import main
from upwell.errors import BadRequest
from upwell.events import open_log
from upwell.online.gate import OF_USER
from upwell.online.logged import steps_of_journal
from upwell.service import learned


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A service's data folder: forty windows of sixty users under the rules' agents."""
    folder = tmp_path_factory.mktemp("data")
    policy = learned.load(made.settings(folder).policy).policy
    journal, rng = made.Journal(), np.random.default_rng(0)
    for window in range(40):
        made.hours(journal, rng, window, [(f"u{n}", ("base", policy)) for n in range(60)], ["h1"])
    write(folder, journal)
    return folder, policy


def write(folder, journal) -> None:
    (folder / "journal").mkdir(exist_ok=True)
    log = open_log(f"embedded:{folder / 'journal'}", folder)
    for entry in journal.entries:
        end = log.append(entry.topic, [(entry.key, entry.ts_ms, entry.value)])
    log.journal.wait(end)
    log.close()


def evaluated(monkeypatch, capfd, *words) -> dict:
    monkeypatch.setattr(sys, "argv", ["upwell", "evaluate", *map(str, words), "--json"])
    main()
    return json.loads(capfd.readouterr().out)


def test_who_is_nearer_to_where_it_pays_is_found_to_earn_more(data, tmp_path, monkeypatch, capfd):
    folder, policy = data
    last = policy.user[-1]
    found = {}
    for name, share in (("better", 0.4), ("same", 0.0), ("worse", -0.4)):
        towards = np.arctanh(share * made.BEST) if share else np.zeros(made.DIALS)
        moved = Layer(last.weight, np.asarray(last.bias + towards, np.float32))
        save_policy(tmp_path / f"{name}.npz", policy._replace(user=(*policy.user[:-1], moved)), {})
        found[name] = evaluated(monkeypatch, capfd, folder, "--policy", tmp_path / f"{name}.npz")
    same = found["same"]
    assert same["choices"] == 60 * OF_USER
    assert same["users"] == 60
    assert same["overlap"]["mean_weight"] == pytest.approx(1.0, abs=1e-3)
    assert same["estimates"]["ips"]["mean"] == pytest.approx(same["logged"]["mean"])
    for name in ("ips", "snips", "dr"):
        better, worse = (found[which]["estimates"][name] for which in ("better", "worse"))
        assert better["low"] > same["logged"]["mean"] > worse["high"], name
    assert found["better"]["overlap"]["effective_samples"] < same["overlap"]["effective_samples"]


def test_steps_are_those_of_regulated_users(data):
    steps, deviation = steps_of_journal(data[0])
    assert deviation == made.DEVIATION
    assert {step.user for step in steps} == {f"u{n}" for n in range(60)}
    assert len(steps) == 40 * 60


def test_what_tells_nothing_is_refused(tmp_path):
    still, rng = made.Journal(), np.random.default_rng(1)
    made.slate(still, "d", "u", made.BEGIN, "ranker", None, ["a"])
    write(tmp_path, still)
    with pytest.raises(BadRequest, match="set dial_noise"):
        steps_of_journal(tmp_path)
    changed = made.Journal()
    policy = learned.load(made.settings(tmp_path).policy).policy
    for window, deviation in enumerate((0.1, 0.2)):
        made.DEVIATION, before = deviation, made.DEVIATION
        made.hours(changed, rng, window, [("u", ("base", policy))], [])
        made.DEVIATION = before
    write(tmp_path, changed)
    with pytest.raises(BadRequest, match="dial_noise was changed"):
        steps_of_journal(tmp_path)
