"""What is at stake: coins that go to cheats, what honest platforms lose by the detector, and whether cheating pays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from upwell.bench.trust import CHEATS
from upwell.errors import BadRequest
from upwell.experiment import metrics
from upwell.experiment.stats import interval
from upwell.learn import trust
from upwell.regulator.trust.judge import Heads
from upwell.world import visits
from upwell.world.arm import Arm
from upwell.world.config import WorldConfig

Floats = npt.NDArray[np.float64]
Step = Callable[[], None]
KINDS = ("bought", "farm", "ring", "slow_drip", "adaptive")
"""Knobs of ``direct`` that are the shares of cheats."""
TURNED = ("per_day", "days", "cover", "pool", "watch", "engaged")
"""What an adaptive cheat turns, in the order of ``visits.strays``."""
STRAY, POPULATION = 0.5, 0.25
"""How far single cheats stray while their strategy is optimised, and the share of contents that cheat then."""
FEWEST = 20
LIFE_DAYS = 10
"""A cheat's reward is counted over contents seen for so many days."""


class Earned(NamedTuple):
    """What each content got, by (place, generation), ``[N]``."""

    key: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int_]
    valid: Floats  # watched by those whom the feed brought
    coins: Floats
    strays: Floats  # [N, 6]


def earned(config: WorldConfig, arm: Arm, heads: Heads, seed: int, days: int, step: Step) -> Earned:
    """Contents born on the first days of a platform, ``LIFE_DAYS`` later or at their end."""
    last = dict[int, tuple[int, float, float, npt.NDArray[np.float32]]]()
    for day, (_, report) in enumerate(trust.days(config, arm, seed, heads, trust.BURN_IN, days)):
        age = report["age_days"]
        for m in np.flatnonzero((age <= day) & (age <= LIFE_DAYS) & (day - age < days - LIFE_DAYS)).tolist():
            key = m + int(report["generation"][m]) * config.sizes.contents
            last[key] = (
                int(report["kind"][m]), float(report["feed_valid"][m]), float(report["paid"][m]), report["strays"][m],
            )  # fmt: skip
        step()
    kind, valid, coins, strays = zip(*last.values(), strict=True)
    return Earned(np.array(list(last)), np.array(kind), np.array(valid), np.array(coins), np.array(strays, np.float64))


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


def adapted(
    config: WorldConfig, arm: Arm, heads: Heads, generations: int, days: int, first_seed: int, step: Step
) -> tuple[WorldConfig, list[dict[str, float]]]:
    """The world with its adaptive cheats as good as they get against the heads, and each generation's strategy.

    A whole population cheats at once, each in its own way (``STRAY``): what each gains over its honest self, the same
    content on the same platform without a cheat's visits, is regressed on how it strayed, and the common strategy
    moves that way, as far as the regression is sure (an evolution strategy whose population lives in one world).
    """
    history = list[dict[str, float]]()
    for turn in range(generations):
        trial = config.override({"direct.adaptive": POPULATION, "direct.spread_adaptive": STRAY})
        cheats = earned(trial, arm, heads, first_seed + turn, days, step)
        honest = earned(trial.override({"direct.budget": 0.0}), arm, heads, first_seed + turn, days, step)
        gain, strays = gains(cheats, honest)
        slope, error = regressed(gain, strays)
        history.append({name: getattr(config.direct, f"{name}_adaptive") for name in TURNED} | {
            "gain": float(gain.mean())
        })  # fmt: skip
        config = config.override(moved(config, STRAY * np.clip(slope / error, -2.0, 2.0) / 2.0))
    return config, history


def gains(cheats: Earned, honest: Earned) -> tuple[Floats, Floats]:
    """Log ratio of what each adaptive content earned to what it earns honestly, and how each strayed."""
    at = {key: i for i, key in enumerate(honest.key.tolist())}
    mine = np.flatnonzero((cheats.kind == visits.ADAPTIVE) & np.isin(cheats.key, honest.key))
    theirs = np.array([at[key] for key in cheats.key[mine].tolist()])
    return np.log((cheats.valid[mine] + 5.0) / (honest.valid[theirs] + 5.0)), cheats.strays[mine]


def regressed(gain: Floats, strays: Floats) -> tuple[Floats, Floats]:
    """Least-squares slopes ``[6]`` of gain on strays, and their standard errors. Raises BadRequest on too few."""
    if len(gain) < FEWEST:
        raise BadRequest(
            f"{len(gain)} contents are too few for cheats to adapt by: give more --days, or sizes.contents"
        )
    x = np.concatenate([np.ones((len(gain), 1)), strays], axis=1)
    inverse = np.linalg.inv(x.T @ x)
    found = inverse @ x.T @ gain
    noise = ((gain - x @ found) ** 2).sum() / (len(gain) - x.shape[1])
    return found[1:], np.sqrt(noise * np.diag(inverse))[1:]


def moved(config: WorldConfig, by: Floats) -> dict[str, float]:
    """The strategy's knobs moved, in log units, or in log odds where they are shares."""
    out = dict[str, float]()
    for name, step in zip(TURNED, by.tolist(), strict=True):
        value = float(getattr(config.direct, f"{name}_adaptive"))
        if name in ("watch", "engaged"):
            odds = value / (1.0 - value) * np.exp(step)
            out[f"direct.{name}_adaptive"] = float(odds / (1.0 + odds))
        else:
            out[f"direct.{name}_adaptive"] = float(np.clip(value * np.exp(step), 0.05, 1e4))
    return out


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
