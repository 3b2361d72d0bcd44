"""Versions of the policy: who gets which, for how long, and back; over HTTP too."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from http_server import refused
from service_samples import NOW, known_user, request, server, shown

from upwell.agents.network import Layer, first_policy, pack_policy
from upwell.service import learned, versions
from upwell.service.errors import Refused
from upwell.service.learned import Learned, Trial
from upwell.service.versions import Policies, Versions, first, put, read
from upwell.state import Batch, Conflict, open_store

BASE = "marl-1"


def states(policies: Policies) -> dict[str, str]:
    return {one.id: one.state for one in policies.versions}


def turned_by(value: float) -> Learned:
    """A policy that turns all of users' dials by this, whatever they see."""
    policy = first_policy(0)
    last = policy.user[-1]
    user = (*policy.user[:-1], Layer(last.weight, np.full_like(last.bias, value)))
    return Learned(policy._replace(user=user), f"turned{value}")


def test_a_version_on_trial_is_widened_and_goes_live():
    policies = first(BASE, 1)
    policies.try_out("v2", 0.05, "passed", 2)
    assert (policies.live, policies.trial, policies.share) == (BASE, "v2", 0.05)
    policies.widen(0.25, "no worse", 3)
    policies.widen(1.0, "no worse", 4)
    assert (policies.live, policies.trial, policies.share, policies.before) == ("v2", "", 0.0, [BASE])
    assert states(policies) == {BASE: "replaced", "v2": "live"}
    assert [event.share for event in policies.of("v2").history] == [0.05, 0.25, 1.0]
    assert policies.stage == 3


def test_back_and_back_again():
    policies = first(BASE, 1)
    for n in (2, 3):
        policies.try_out(f"v{n}", 0.05, "", n)
        policies.widen(1.0, "", n)
    policies.try_out("v4", 0.05, "", 5)
    assert policies.roll_back("worse", 6) == "v4"  # first what is on trial
    assert policies.live == "v3"
    assert policies.roll_back("by hand", 7) == "v3"
    assert policies.roll_back("by hand", 8) == "v2"
    assert (policies.live, policies.before) == (BASE, [])
    assert states(policies) == {BASE: "live", "v2": "rolled_back", "v3": "rolled_back", "v4": "rolled_back"}
    with pytest.raises(Refused, match="no version was live before"):
        policies.roll_back("by hand", 9)


def test_an_operator_may_make_any_version_live():
    policies = first(BASE, 1)
    policies.try_out("v2", 0.05, "", 2)
    policies.activate("v2", "by hand", 3)
    policies.try_out("v3", 0.05, "", 4)
    policies.activate(BASE, "by hand", 5)
    assert (policies.live, policies.trial) == (BASE, "")
    assert states(policies) == {BASE: "live", "v2": "replaced", "v3": "rolled_back"}
    assert policies.before == ["v2"]
    stage = policies.stage
    policies.activate(BASE, "again", 6)  # nothing to do
    assert policies.stage == stage
    with pytest.raises(Refused, match="no version 'v9'"):
        policies.activate("v9", "", 7)


def test_one_trial_at_a_time():
    policies = first(BASE, 1)
    with pytest.raises(Refused, match="no version is on trial"):
        policies.widen(0.25, "", 2)
    policies.try_out("v2", 0.05, "", 2)
    with pytest.raises(Refused, match="v2 is on trial"):
        policies.try_out("v3", 0.05, "", 3)


def test_the_oldest_that_nobody_has_are_forgotten():
    store, policies = open_store("memory:"), first(BASE, 0)
    policies.try_out("kept", 0.05, "", 1)
    policies.widen(1.0, "", 1)
    for n in range(versions.KEPT + 10):
        policies.gated_out(f"v{n}", "", n)
    batch = Batch()
    put(batch, 0, policies, {"kept": b"its networks"})
    store.write(batch)
    assert len(policies.versions) == versions.KEPT
    assert {BASE, "kept", f"v{versions.KEPT + 9}"} <= states(policies).keys()
    assert "v0" not in states(policies)
    assert store.get("meta", [versions.body_id("kept")]) == [b"its networks"]


def test_a_change_of_what_has_changed_meanwhile_is_refused():
    store = open_store("memory:")
    number, ours = read(store, BASE, 1)
    _, theirs = read(store, BASE, 1)
    for policies, name in ((theirs, "theirs"), (ours, "ours")):
        policies.gated_out(name, "", 2)
        batch = Batch()
        put(batch, number, policies, {})
        if name == "theirs":
            store.write(batch)
        else:
            with pytest.raises(Conflict):
                store.write(batch)
    assert states(read(store, BASE, 3)[1]) == {BASE: "base", "theirs": "gated_out"}


def test_a_policy_deployed_by_hand_makes_the_record_void():
    store = open_store("memory:")
    seen = Versions(store, turned_by(0.5))
    seen.change(lambda policies: policies.gated_out("v2", "", 1), 1)
    assert len(read(store, "turned0.5", 2)[1].versions) == 2
    assert read(store, "other-2", 2)[1] == first("other-2", 2)


def test_a_process_hears_of_changes_and_of_nothing_else():
    store, base, new = open_store("memory:"), turned_by(0.0), turned_by(0.5)
    seen = Versions(store, base)
    assert seen.look(store.offsets()) == (base, None)
    assert seen.look(store.offsets()) is None
    number, policies = read(store, base.version, 1)
    policies.try_out(new.version, 0.25, "", 1)
    batch = Batch()
    put(batch, number, policies, {new.version: pack_policy(new.policy, {})})
    store.write(batch)
    live, trial = seen.look(store.offsets())
    assert (live.version, trial.learned.version, trial.share) == (base.version, new.version, 0.25)
    np.testing.assert_array_equal(trial.learned.policy.user[-1].bias, new.policy.user[-1].bias)
    assert seen.look(store.offsets()) is None
    seen.forget()
    assert seen.look(store.offsets()) is not None


def test_networks_that_cannot_be_read_leave_what_is_played(caplog):
    store, base = open_store("memory:"), turned_by(0.0)
    seen = Versions(store, base)
    for body in (b"no networks", None):
        number, policies = read(store, base.version, 1)
        policies.versions = [one for one in policies.versions if one.id == base.version]
        policies.trial = ""
        policies.try_out("broken", 0.25, "", 1)
        batch = Batch()
        put(batch, number, policies, {"broken": body} if body else {})
        if body is None:
            batch.delete("meta", versions.body_id("broken"))
        store.write(batch)
        assert seen.look(store.offsets()) is None
        assert "broken" in caplog.text
        caplog.clear()


def test_who_is_on_trial_stays_when_it_is_widened():
    users, other = [f"u{n}" for n in range(4_000)], turned_by(0.7)
    few, more = (Trial(other, share).gets(users) for share in (0.05, 0.25))
    assert abs(few.mean() - 0.05) < 0.015
    assert abs(more.mean() - 0.25) < 0.03
    assert more[few].all()
    assert not Trial(other, 0.0).gets(users).any()
    assert Trial(other, 1.0).gets(users).all()
    # Of another version, others: nobody is always the first to get what is new.
    again = Trial(other._replace(version="another"), 0.05).gets(users)
    assert (few & again).mean() < 0.01


def test_users_on_trial_get_its_dials_and_all_others_the_live_ones():
    """In one batch, each as alone under the version that the line is signed with."""
    live, other = turned_by(0.0), turned_by(0.6)
    names, people = [f"c{n}" for n in range(60)], [f"known{n}" for n in range(40)]

    def slates(play, trial=None):
        one = server(4, policy="marl", holdout=0.2)
        one.play(play, trial)
        one.look(one.settings.scale, NOW)
        for person in people:
            known_user(one, person)
        lines = shown(one, [request(name, names) for name in people], NOW)
        assert not one.failures
        return [(line.policy_version, [(p.id, p.logit) for p in line.places]) for line in lines]

    mixed, all_live, all_other = slates(live, Trial(other, 0.4)), slates(live), slates(other)
    gets = Trial(other, 0.4).gets(people).tolist()
    assert 5 < sum(gets) < 35
    assert [places for _, places in all_live] != [places for _, places in all_other]
    for got, tried, theirs, ours in zip(mixed, gets, all_other, all_live, strict=True):
        assert got[0] == (other if tried else live).version
        assert [id for id, _ in got[1]] == [id for id, _ in (theirs if tried else ours)[1]]


def test_versions_change_between_two_requests():
    one = server(4, policy="marl")
    known_user(one, "known1")
    one.look(one.settings.scale, NOW)
    names = [f"c{n}" for n in range(60)]
    (before,) = shown(one, [request("known1", names)], NOW)
    one.play(turned_by(0.5), None)
    (after,) = shown(one, [request("known1", names)], NOW + 1)
    assert (before.policy_version, after.policy_version) == (learned.load("marl").version, "turned0.5")


# ---- over HTTP


def test_versions_over_http(served):
    told = served.http.get("/v1/policies").json()
    base = learned.load("marl").version
    assert (told["live"], told["trial"], told["base"]) == (base, None, base)
    assert [one["id"] for one in told["versions"]] == [base]
    assert served.http.get(f"/v1/policies/{base}").json()["state"] == "base"
    assert served.http.get("/v1/policies/none").status_code == 404
    nothing = served.http.post("/v1/policies/rollback")
    assert (nothing.status_code, nothing.json()["error"]["code"]) == (409, "conflict")
    assert served.http.post("/v1/policies/none/activate").status_code == 404
    again = served.http.post(f"/v1/policies/{base}/activate").json()  # it is live already: nothing to do
    assert [one["state"] for one in again["versions"]] == ["base"]


def test_where_rules_decide_there_are_no_versions(serve):
    ruled = serve(UPWELL_POLICY="")
    for answer in (ruled.http.get("/v1/policies"), ruled.http.post("/v1/policies/rollback")):
        assert refused(answer, 409, "conflict")["message"].startswith("the agents play by their rules")


def test_a_version_in_the_store_is_played_and_rolled_back_over_http(serve):
    """Written as the learner writes it; the server hears of it by itself."""
    one = serve(UPWELL_TICK_S="0.2")
    for name in "abc":
        one.content(name)
    base, new = learned.load("marl").version, turned_by(0.5)
    store = open_store(f"sqlite:{one.folder}/data/state.db")
    number, policies = read(store, base, NOW)
    policies.try_out(new.version, 0.05, "passed", NOW)
    policies.widen(1.0, "no worse", NOW)
    batch = Batch()
    put(batch, number, policies, {new.version: pack_policy(new.policy, {})})
    store.write(batch)
    store.close()
    until_s = time.monotonic() + 20.0
    while one.recommend("u1").json()["policy_version"] != new.version:
        assert time.monotonic() < until_s
        time.sleep(0.05)
    told = policies_of(one.url)
    assert (told["live"], told["before"]) == (new.version, [base])
    assert policies_of(one.url, "rollback")["live"] == base
    assert one.recommend("u1").json()["policy_version"] == base  # from the next request on
    assert policies_of(one.url, "activate", new.version)["live"] == new.version
    one.kill()
    one.start()
    assert one.recommend("u2").json()["policy_version"] == new.version  # from the first request on
    refusal = subprocess.run(command(one.url, "activate", "nothing"), capture_output=True, text=True, timeout=120)
    assert (refusal.returncode, "no version 'nothing'" in refusal.stderr) == (2, True)


def command(url: str, *words: str) -> list[str]:
    return [sys.executable, "-c", "from upwell.cli import main; main()", "policies", *words, "--url", url]


def policies_of(url: str, *words: str) -> dict:
    done = subprocess.run([*command(url, *words), "--json"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
