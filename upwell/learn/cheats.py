"""Cheats that learn: the common strategy of those that adapt, moved the way that pays against whoever judges and heats.

An evolution strategy whose population lives in one world. It is the other side of the game that ``learn.train`` teaches
the three populations on a platform with direct visits, and of ``upwell bench trust``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from upwell.errors import BadRequest
from upwell.learn import trust
from upwell.regulator.trust.judge import Heads
from upwell.world import visits
from upwell.world.arm import Arm
from upwell.world.config import WorldConfig

Floats = npt.NDArray[np.float64]
Step = Callable[[], None]
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


def earned(config: WorldConfig, arm: Arm, heads: Heads, seed: int, days: int, step: Step, tuned: Any = None) -> Earned:
    """Contents born on the first days of a platform, ``LIFE_DAYS`` later or at their end.

    ``tuned``: in place of the arm's own, such as a policy that is being learned.
    """
    last = dict[int, tuple[int, float, float, npt.NDArray[np.float32]]]()
    for day, (_, report) in enumerate(trust.days(config, arm, seed, heads, trust.BURN_IN, days, tuned)):
        age = report["age_days"]
        for m in np.flatnonzero((age <= day) & (age <= LIFE_DAYS) & (day - age < days - LIFE_DAYS)).tolist():
            key = m + int(report["generation"][m]) * config.sizes.contents
            last[key] = (
                int(report["kind"][m]), float(report["feed_valid"][m]), float(report["paid"][m]), report["strays"][m],
            )  # fmt: skip
        step()
    kind, valid, coins, strays = zip(*last.values(), strict=True)
    return Earned(np.array(list(last)), np.array(kind), np.array(valid), np.array(coins), np.array(strays, np.float64))


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
        better, gain = generation(config, arm, heads, days, first_seed + turn, step)
        history.append(strategy(config) | {"gain": gain})
        config = better
    return config, history


def generation(
    config: WorldConfig, arm: Arm, heads: Heads, days: int, seed: int, step: Step, tuned: Any = None
) -> tuple[WorldConfig, float]:
    """The world with its adaptive cheats one generation on, and what those before gained: a mean log ratio."""
    trial = config.override({"direct.adaptive": POPULATION, "direct.spread_adaptive": STRAY})
    cheats = earned(trial, arm, heads, seed, days, step, tuned)
    honest = earned(trial.override({"direct.budget": 0.0}), arm, heads, seed, days, step, tuned)
    gain, strays = gains(cheats, honest)
    slope, error = regressed(gain, strays)
    return config.override(moved(config, STRAY * np.clip(slope / error, -2.0, 2.0) / 2.0)), float(gain.mean())


def strategy(config: WorldConfig) -> dict[str, float]:
    """What adaptive cheats do, by ``TURNED``."""
    return {name: float(getattr(config.direct, f"{name}_adaptive")) for name in TURNED}


def cheated(config: WorldConfig, by: dict[str, float]) -> WorldConfig:
    """The world whose adaptive cheats do this."""
    return config.override({f"direct.{name}_adaptive": value for name, value in by.items()})


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
