"""What is at stake: coins that go to cheats, what honest platforms lose by the detector, and whether cheating pays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from upwell.bench.trust import CHEATS, CLICKBAIT, NAMES, kinds
from upwell.experiment import metrics
from upwell.experiment.stats import interval
from upwell.learn import trust
from upwell.learn.cheats import POPULATION, earned
from upwell.regulator.trust.judge import Heads
from upwell.world import visits
from upwell.world.arm import Arm
from upwell.world.config import WorldConfig

Floats = npt.NDArray[np.float64]
Step = Callable[[], None]
KINDS = ("bought", "farm", "ring", "slow_drip", "adaptive")
"""Knobs of ``direct`` that are the shares of cheats."""


def money(config: WorldConfig, arm: Arm, heads: Heads, seeds: Sequence[int], days: int, step: Step) -> dict[str, Any]:
    """Coins that cheats spend on heating with trust and without, and what trust costs where nobody cheats."""
    shares, objectives = list[list[Floats]](), list[list[float]]()
    honest = config.override({f"direct.{name}": 0.0 for name in KINDS} | {"content.clickbait": 0.0})
    for seed in seeds:
        worlds = [config.override({"heating.trust": on}) for on in (0.0, 1.0)]
        shares.append([spent(world, arm, heads, seed, days, step) for world in worlds])
        off, on = (
            measured(honest.override({"heating.trust": on}), arm, heads, seed, days, step) for on in (0.0, 1.0)
        )  # fmt: skip
        objectives.append([metrics.objective(honest, of, off) for of in (off, on)])
    of, worth = np.array(shares), np.array(objectives)

    def cheated(kinds: Sequence[int]) -> dict[str, Any]:
        off, on = of[:, 0, list(kinds)].sum(-1), of[:, 1, list(kinds)].sum(-1)
        return {
            "share_without_trust": interval(off)._asdict(),
            "share_with_trust": interval(on)._asdict(),
            "less": interval(1.0 - on / np.maximum(off, 1e-9))._asdict(),
        }

    return {
        **cheated(CHEATS),
        "bought_clicks": cheated([kind for kind in CHEATS if kind != CLICKBAIT]),
        "by_kind": {NAMES[kind]: cheated([kind]) for kind in CHEATS},
        "objective_lost": interval(1.0 - worth[:, 1] / worth[:, 0])._asdict(),
    }


def spent(config: WorldConfig, arm: Arm, heads: Heads, seed: int, days: int, step: Step) -> Floats:
    """Shares of the coins that contents of each kind (``NAMES``) spend on heating."""
    paid = np.zeros(len(NAMES))
    before = dict[tuple[int, int], float]()
    for _, report in trust.days(config, arm, seed, heads, trust.BURN_IN, days):
        kind = kinds(report)
        for m, generation in enumerate(report["generation"].tolist()):
            now = float(report["paid"][m])
            paid[kind[m]] += now - before.get((m, generation), 0.0)
            before[m, generation] = now
        step()
    return paid / paid.sum()


def measured(config: WorldConfig, arm: Arm, heads: Heads, seed: int, days: int, step: Step) -> dict[str, float]:
    """Metrics of a platform."""
    reports = list[metrics.Report]()
    for _, report in trust.days(config, arm, seed, heads, trust.BURN_IN, days):
        reports.append(report)
        step()
    return metrics.expected(metrics.over(config, reports))


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
