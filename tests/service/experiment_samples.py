"""Experiments for tests: plans, begun in a store, and what is counted of their arms."""

from __future__ import annotations

from collections import Counter

import msgspec
from service_samples import NOW

from upwell.regulator.layers import Arm, Experiment
from upwell.regulator.targeting import Target
from upwell.service import experiments
from upwell.service.arms import Arms
from upwell.service.audit import Who
from upwell.service.experiments import Plan
from upwell.service.memory import GROUPS, exposed_of
from upwell.state import Batch, open_store

ANN = Who("operator", "Ann")


def plan(name: str = "calm", layer: str = "main", share: float = 0.5, guardrails=(), **settings) -> Plan:
    arms = (Arm(name="control", share=share), Arm(name="treated", share=share, settings=settings))
    return Plan(Experiment(name=name, arms=arms), layer, guardrails=guardrails)


def targeted(*targets: Target) -> Plan:
    whole = plan(mode="ranker")
    return msgspec.structs.replace(whole, experiment=msgspec.structs.replace(whole.experiment, targets=targets))


def begun(*plans: Plan):
    store = open_store("memory:")
    for one in plans:
        experiments.change(store, lambda every, one=one: every.begin(one, ANN, NOW))
    return store


def arms_of(store, holdout: float = 0.0) -> Arms:
    arms = Arms(store, None, holdout)
    assert arms.look(store.offsets())
    assert not arms.look(store.offsets())
    return arms


def tell(store, arm: str, rng, rate: float, users: int = 6_400, name: str = "calm", stage: int = 0) -> None:
    """Users of ten slates of ten impressions each, in groups."""
    counts = Counter[str]()
    for group in range(GROUPS):
        many = users // GROUPS
        counts[f"free{group}_users"] = many
        counts[f"free{group}_impressions"] = 100 * many
        counts[f"free{group}_clicks"] = int(rng.binomial(100 * many, rate))
    batch = Batch()
    batch.add("meta", exposed_of(name, stage, arm), dict(counts))
    store.write(batch)
