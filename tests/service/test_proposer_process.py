"""The proposer as ``upwell serve`` starts it: a process of its own, whose death the service does not notice."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from upwell.world.config import reference_world, to_toml


@pytest.mark.slow
def test_a_service_that_proposes(serve, tmp_path):
    world = tmp_path / "world.toml"
    world.write_text(to_toml(reference_world()))
    one = serve(UPWELL_GOALS_WORLD=str(world), UPWELL_POLICY="")
    one.content("a")
    told = one.http.put("/v1/goals", json={"text": "xyzzy", "id": "g"}).json()
    assert (told["proposer"], told["unread"]) == (True, ["xyzzy"])
    wait(lambda: goal(one)["state"] == "failed")
    assert "no metric that is to move was understood" in goal(one)["history"][-1]["why"]
    proposer = proposer_of(one)
    os.kill(proposer, signal.SIGKILL)
    assert one.recommend("u1", "a", 1).json()["weights_version"] == "0"
    wait(lambda: proposer_of(one) not in (0, proposer))
    began_s = time.monotonic()
    assert one.stop() == 0
    assert time.monotonic() - began_s < 20.0  # nobody waits for it


def goal(one) -> dict:
    return one.http.get("/v1/goals").json()["goals"][0]


def proposer_of(one) -> int:
    """Its process; 0: there is none."""
    found = subprocess.run(
        ["pgrep", "-P", str(one.process.pid), "-f", "upwell.online.child proposer"], capture_output=True, text=True
    )
    return int(found.stdout.split()[0]) if found.stdout.split() else 0


def wait(done) -> None:
    until = time.monotonic() + 120.0
    while not done():
        assert time.monotonic() < until
        time.sleep(0.1)
