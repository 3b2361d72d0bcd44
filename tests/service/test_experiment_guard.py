"""The guard of experiments: whom it ends, whom it leaves alone, and the looks that are kept."""

from __future__ import annotations

import msgspec
import numpy as np
from experiment_samples import begun, plan, tell
from service_samples import NOW

from upwell.service import experiment_guard, experiments
from upwell.service.experiments import Guardrail
from upwell.service.memory import GROUPS, exposed_of
from upwell.state import Batch


def test_an_arm_that_harms_ends_its_experiment_and_one_that_does_not_goes_on():
    rng = np.random.default_rng(0)
    to_the_end = msgspec.structs.replace(plan("bold", "third", exploration=0.5), tolerated=1.0)
    store = begun(plan(), plan("other", "second", heating=False), to_the_end)
    for name, rate in (("calm", 0.04), ("other", 0.05), ("bold", 0.04)):
        tell(store, "control", rng, 0.05, name=name)
        tell(store, "treated", rng, rate, name=name)
    experiment_guard.watch(store, NOW + 9)
    every = experiments.read(store)[1]
    assert [one.running for one in every.every] == [False, True, True]
    last = every.of("calm").history[-1]
    assert (last.what, last.who, last.at_ms) == ("stopped", "guard", NOW + 9)
    assert last.why.startswith("Stop: ctr changed by -")


def test_a_guardrail_ends_it_though_the_goal_gains():
    rng = np.random.default_rng(1)
    held = Guardrail(metric="impressions_per_user", tolerated=0.05)
    store = begun(plan(guardrails=(held,)))
    tell(store, "control", rng, 0.05)
    tell(store, "treated", rng, 0.08)
    batch = Batch()
    fewer = {f"free{group}_impressions": -30 * 100 + int(rng.integers(-50, 50)) for group in range(GROUPS)}
    batch.add("meta", exposed_of("calm", 0, "treated"), fewer)
    store.write(batch)
    experiment_guard.watch(store, NOW)
    assert "impressions_per_user" in experiments.read(store)[1].of("calm").history[-1].why


def test_looks_are_kept_every_six_hours():
    rng, store = np.random.default_rng(3), begun(plan())
    for hour in range(13):
        tell(store, "control", rng, 0.05, users=640)
        tell(store, "treated", rng, 0.05, users=640)
        experiment_guard.watch(store, NOW + hour * 3_600_000)
    found = experiment_guard.looks(store, "calm")
    assert [(look["at_ms"] - NOW) // 3_600_000 for look in found] == [0, 6, 12]
    assert [look["arms"][0]["users"] for look in found] == [640, 7 * 640, 13 * 640]
    assert found[-1]["effects"]["treated"]["ctr"]["low"] is not None


def test_broken_assignment_ends_it():
    rng = np.random.default_rng(2)
    store = begun(plan())
    tell(store, "control", rng, 0.05, users=6_400)
    tell(store, "treated", rng, 0.05, users=5_120)
    experiment_guard.watch(store, NOW)
    assert "do not hold their shares" in experiments.read(store)[1].of("calm").history[-1].why


def test_looked_at_all_the_time_hardly_any_harmless_experiment_is_ended():
    ended = 0
    for seed in range(40):
        rng, store = np.random.default_rng(seed), begun(plan())
        for _ in range(20):
            for arm in ("control", "treated"):
                tell(store, arm, rng, 0.05, users=640)
            experiment_guard.watch(store, NOW)
        ended += not experiments.read(store)[1].of("calm").running
    assert ended <= 4  # a twentieth of 40 is 2
