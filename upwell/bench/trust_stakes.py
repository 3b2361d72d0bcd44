"""What is at stake: coins that go to cheats, what honest platforms lose by the detector, and whether cheating pays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from upwell.bench.trust import CHEATS
from upwell.experiment import metrics
from upwell.experiment.stats import interval
from upwell.learn import trust
from upwell.learn.cheats import POPULATION, earned
from upwell.regulator.trust.judge import Heads
from upwell.world import visits
from upwell.world.arm import Arm
from upwell.world.config import WorldConfig

Step = Callable[[], None]
KINDS = ("bought", "farm", "ring", "slow_drip", "adaptive")
"""Knobs of ``direct`` that are the shares of cheats."""


def money(config: WorldConfig, arm: Arm, heads: Heads, seeds: Sequence[int], days: int, step: Step) -> dict[str, Any]:
    """Coins that cheats spend on heating with trust and without, and what trust costs where nobody cheats."""
    shares, objectives = list[list[float]](), list[list[float]]()
    honest = config.override({f"direct.{name}": 0.0 for name in KINDS} | {"content.clickbait": 0.0})
    for seed in seeds:
        share, objective, off = list[float](), list[float](), dict[str, float]()
        for on in (0.0, 1.0):
            paid, of_cheats = 0.0, 0.0
            before: dict[tuple[int, int], float] = {}
            for _, report in trust.days(
                config.override({"heating.trust": on}), arm, seed, heads, trust.BURN_IN, days
            ):  # fmt: skip
                cheats = np.isin(report["kind"], CHEATS) | report["clickbait"].astype(bool)
                for m, generation in enumerate(report["generation"].tolist()):
                    spent = float(report["paid"][m]) - before.get((m, generation), 0.0)
                    before[m, generation] = float(report["paid"][m])
                    paid, of_cheats = paid + spent, of_cheats + spent * bool(cheats[m])
                step()
            share.append(of_cheats / paid)
            days_of = trust.days(honest.override({"heating.trust": on}), arm, seed, heads, trust.BURN_IN, days)
            reports = list[metrics.Report]()
            for _, report in days_of:
                reports.append(report)
                step()
            measured = metrics.expected(metrics.over(honest, reports))
            off = off or measured
            objective.append(metrics.objective(honest, measured, off))
        shares.append(share)
        objectives.append(objective)
    of, worth = np.array(shares), np.array(objectives)
    return {
        "share_without_trust": interval(of[:, 0])._asdict(),
        "share_with_trust": interval(of[:, 1])._asdict(),
        "less": interval(1.0 - of[:, 1] / of[:, 0])._asdict(),
        "objective_lost": interval(1.0 - worth[:, 1] / worth[:, 0])._asdict(),
    }


def incentive(
    config: WorldConfig, arm: Arm, heads: Heads, budgets: Sequence[float], seeds: Sequence[int], days: int, step: Step
) -> dict[str, Any]:
    """What cheating brings over honesty at each budget, as a share of what honesty brings; clicks bought are free here.

    The same contents on the same platforms, as cheats and as honest ones.
    """
    result = dict[str, Any]()
    many = config.override({"direct.adaptive": POPULATION})
    honest = {seed: earned(many.override({"direct.budget": 0.0}), arm, heads, seed, days, step) for seed in seeds}
    for budget in budgets:
        found = list[tuple[float, float]]()
        for seed in seeds:
            cheats = earned(many.override({"direct.budget": budget}), arm, heads, seed, days, step)
            mine = np.isin(cheats.key, honest[seed].key) & (cheats.kind == visits.ADAPTIVE)
            theirs = np.isin(honest[seed].key, cheats.key[mine])
            valid = cheats.valid[mine].sum() / honest[seed].valid[theirs].sum() - 1.0
            coins = cheats.coins[mine].sum() / max(honest[seed].coins[theirs].sum(), 1e-9) - 1.0
            found.append((valid, coins))
        columns = np.array(found)
        result[f"{budget:g}"] = {
            "engagement": interval(columns[:, 0])._asdict(),
            "coins_spent": interval(columns[:, 1])._asdict(),
        }
    return result
