"""Scenarios of learning: what happens in them happens, and what is counted of them is right."""

import json
import subprocess
import sys

import jax
import msgspec
import numpy as np
import pytest

from upwell.demo import scenarios
from upwell.demo.run import Live
from upwell.errors import BadRequest
from upwell.model import Interaction
from upwell.service.ingest import EVENTS_OF_ONE
from upwell.world import world
from upwell.world.config import reference_world


def event(n: int, user: str = "u1", **given) -> Interaction:
    values = {"ts": 1, "kind": "click", "clicked": True, "decision_id": f"d{n}"} | given
    return Interaction(event_id=f"e{n}", content_id="c", user_id=user, **values)


def test_what_is_won_back_is_counted_against_what_is_lost():
    day = [0.7] * 7
    curves = {
        "no shift": [0.7] * 14, "not told": day + [0.5] * 7, "told": day + [0.5] * 4 + [0.6] * 3,
        "learning": day + [0.5] * 4 + [0.68] * 3,
    }  # fmt: skip
    found = scenarios.recovered(curves, 7)
    assert found["lost"] == pytest.approx(0.2)
    assert found["told"] == pytest.approx(0.5)
    assert found["learning"] == pytest.approx(0.9)


def test_an_unknown_scenario_is_refused(tmp_path):
    with pytest.raises(BadRequest, match="choose from shift, versions, poison"):
        scenarios.scenario("quake", 14, 64, tmp_path)


class Told:
    tells = True

    def __init__(self, config) -> None:
        self.config = config


def test_tastes_shift_on_their_day_and_what_the_platform_knows_stays():
    config = reference_world().override({"sizes.users": 64, "sizes.contents": 200, "sizes.candidates": 50})
    state, platform = world.reset(config, 0), Told(config)
    live = Live(platform, None)
    morning = scenarios.shifted(3, silent=True)
    assert morning(2, state, live) is state
    assert platform.tells
    after = morning(3, state, live)
    assert not platform.tells
    half = config.sizes.tags // 2
    np.testing.assert_array_equal(
        after.users.interest[..., half:], state.users.interest[..., : config.sizes.tags - half]
    )
    same = jax.tree.map(lambda a, b: bool((a == b).all()), after.users, state.users)
    assert same.profile
    assert same.mind
    assert not same.interest
    assert float(after.users.interest.mean()) == pytest.approx(float(state.users.interest.mean()), rel=1e-5)


def test_liars_tell_of_what_was_not():
    events = [event(n, f"u{n}") for n in range(200)]
    lies = scenarios.false_clicks()(events)
    liars = {lie.user_id for lie in lies}
    assert 1 <= len(liars) <= 12
    assert len(lies) == 10 * len(liars)
    assert len({lie.event_id for lie in lies} | {one.event_id for one in events}) == len(lies) + len(events)
    again = scenarios.replayed()
    assert again(events[:3]) == events[:3]
    assert again(events[3:4]) == events[:4]
    flood = scenarios.flood()
    assert {one.user_id for one in flood(events[:2]) + flood(events[5:])} == {"u0"}
    assert flood([]) == []


def test_a_life_that_is_kept_is_not_lived_again(tmp_path):
    """A scenario that was cut off goes on; with all lives kept not even the platform is made."""
    for what, level in (("unattacked", 0.8), ("replayed", 0.6)):
        told = scenarios.Told([level, level], [], 10, 20, 0, 5.0, 1.0)
        (tmp_path / f"{what}.json").write_bytes(msgspec.json.encode(told))
    every = scenarios.scenario("poison", 2, 64, tmp_path)
    lives = {what: every[what] for what in ("unattacked", "replayed")}

    def never() -> scenarios.Morning:
        raise AssertionError("all of it was lived before")

    found = scenarios.run_all("poison", lives, reference_world(), never, 2, lambda figures: None, tmp_path)
    assert found["lost_to"] == pytest.approx({"unattacked": 0.0, "replayed": 0.25})
    assert found["events"] == {"unattacked": 20, "replayed": 20}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "life"), [("shift", "not told"), ("versions", "learning"), ("poison", "one user")])
def test_a_scenario_from_end_to_end(name, life, tmp_path):
    """So small that nothing is learned: that a life is lived, told of and drawn."""
    command = [sys.executable, "-c", "from upwell.cli import main; main()", "bench", "learning", name, "--days", "2"]
    sizes = ["--users", "64", "--contents", "200", "--burn-in", "8", "--only", life]
    done = subprocess.run(
        [*command, *sizes, "--out", str(tmp_path / "page.html"), "--json"], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found["objective"]) == [life]
    assert len(found["objective"][life]) == 2
    assert found["decisions"][life] > 100
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "Objective" in page
    (kept,) = (tmp_path / "page").rglob("*.json")
    told = json.loads(kept.read_text("utf-8"))
    assert (told["objective"], told["decisions"]) == (found["objective"][life], found["decisions"][life])
    if name == "shift":
        assert "recovered" not in found  # of one life nothing can be said
    if name == "versions":
        assert found["bad_version_largest_share"] == 0.25  # of 64 users
        assert "let in past the gate" in page
    if name == "poison":
        assert EVENTS_OF_ONE < found["events"][life] < scenarios.FLOOD * 10  # of 2,000 a tick no more is taken
