"""The proposer as ``upwell serve`` starts it: of its end, and of its model's, servers take no notice."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

import engine
import pytest

from upwell.world.config import reference_world, to_toml

SMALL = {"sizes.users": 64, "sizes.contents": 160, "sizes.creators": 16}
NAMES = [f"c{n}" for n in range(8)]


@pytest.mark.slow
def test_a_service_that_proposes(serve, tmp_path):
    world = tmp_path / "world.toml"
    world.write_text(to_toml(reference_world()))
    one = serve(UPWELL_GOALS_WORLD=str(world), UPWELL_POLICY="")
    one.content("a")
    told = one.http.put("/v1/goals", json={"text": "xyzzy", "id": "g"}).json()
    assert (told["proposer"], told["unread"]) == (True, ["xyzzy"])
    asking = Asking(one, ["a"])
    asking.until(lambda: asking.state() == "failed", "nothing is proposed")
    assert "no metric that is to move was understood" in asking.goal()["history"][-1]["why"]
    proposer = proposer_of(one)
    os.kill(proposer, signal.SIGKILL)
    assert one.recommend("u1", "a", 1).json()["weights_version"] == "0"
    asking.until(lambda: proposer_of(one) not in (0, proposer), "it is started again")
    began_s = time.monotonic()
    assert one.stop() == 0
    assert time.monotonic() - began_s < 20.0  # nobody waits for it


@pytest.mark.slow
def test_servers_do_not_notice_the_end_of_a_model_or_of_the_proposer(serve, tmp_path):
    engine.need()
    world = tmp_path / "world.toml"
    world.write_text(to_toml(reference_world().override(SMALL)), encoding="utf-8")
    with engine.running(tmp_path) as model:
        one = serve(
            UPWELL_GOALS_WORLD=str(world), UPWELL_LLM_URL=model.url, UPWELL_POLICY="", UPWELL_LLM_TIMEOUT_S="30"
        )
        for name in NAMES:
            one.content(name)
        goal = {"id": "g", "text": "raise ctr", "aims": [{"metric": "ctr", "direction": "up"}]}
        assert one.http.put("/v1/goals", json=goal).is_success
        asked = Asking(one, NAMES)
        asked.until(model.working, "the model is asked")
        model.kill()
        proposer = proposer_of(one)
        asked.until(lambda: "did not answer" in log_of(one), "it says that the model is gone")
        assert proposer_of(one) == proposer
        assert asked.state() == "proposing"
        os.kill(proposer, signal.SIGKILL)
        asked.until(lambda: asked.state() == "failed", "it is started again, and says what became of the goal")
        assert proposer_of(one) not in (0, proposer)
        assert "the proposer died" in asked.goal()["history"][-1]["why"]
    assert asked.times > 50
    assert one.stop() == 0


class Asking:
    """Somebody who asks the service for slates as long as a test waits, and gets each of them."""

    def __init__(self, one, candidates: list[str]) -> None:
        self.one, self.candidates, self.times = one, candidates, 0

    def until(self, done: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + 300.0
        while not done():
            assert time.monotonic() < end, f"{what}: {self.goal()}\n{log_of(self.one)}"
            answer = self.one.recommend(f"u{self.times % 50}", self.candidates)
            assert answer.status_code == 200
            assert not answer.json()["degraded"]
            self.times += 1
            time.sleep(0.05)

    def goal(self) -> dict:
        return self.one.http.get("/v1/goals").json()["goals"][0]

    def state(self) -> str:
        return self.goal()["state"]


def log_of(one) -> str:
    return one.log.read_text(encoding="utf-8", errors="replace")


def proposer_of(one) -> int:
    """The proposer's process; 0: there is none."""
    command = ["pgrep", "-P", str(one.process.pid), "-f", "upwell.online.child proposer"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return int(found[0]) if found else 0
