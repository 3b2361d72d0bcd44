"""The family of worlds that training draws from: a platform like the given one, with every assumed number moved.

Domain randomisation (Tobin et al. 2017, arXiv 1703.06907): what is learned over many worlds hangs on none of them.
Sizes stay, so that all worlds of a family run in one compiled program.
"""

from __future__ import annotations

import numpy as np

from upwell.world.config import WorldConfig, flatten

MOVED = (
    "interest.spread", "interest.curiosity_pull", "interest.patience", "interest.half_life_days", "interest.discovery",
    "content.quality_spread", "content.life_days", "content.tag_evenness", "content.clickbait", "content.bought",
    "content.own_style", "creator.leave", "creator.ring",
    "ranker.personal", "ranker.popularity", "ranker.click_rate", "ranker.prior_weight", "ranker.memory_days",
    "ranker.learning", "ranker.fresh_days", "ranker.noise", "ranker.trials",
    "response.attention", "response.position", "response.satiation", "response.satiation_step", "response.enjoy",
    "response.boredom", "response.dwell", "response.purchase",
    "activity.satisfaction", "activity.visits", "activity.visits_satisfaction", "activity.leave",
    "activity.daily_wave", "direct.budget", "direct.skill",
)  # fmt: skip
"""Numbers that a world of the family has larger or smaller than the given one."""

SPAN = 0.35
"""In log units, each drawn evenly within ± this."""

SHARES = (
    "content.clickbait",
    "content.bought",
    "interest.discovery",
    "response.boredom",
    "content.own_style",
    "direct.skill",
)


def relative(config: WorldConfig, seed: int) -> WorldConfig:
    """A world of the family of ``config``: the same for the same seed."""
    random, now = np.random.default_rng([seed, 41]), flatten(config)
    factors = np.exp(random.uniform(-SPAN, SPAN, len(MOVED)))
    moved = {name: now[name] * float(factor) for name, factor in zip(MOVED, factors, strict=True)}
    return config.override(moved | {name: min(moved[name], 1.0) for name in SHARES})


def weights(seed: int) -> tuple[float, float, float]:
    """A goal's weights, evenly over the simplex: of user satisfaction, revenue and the long term."""
    drawn = np.random.default_rng([seed, 42]).dirichlet((1.0, 1.0, 1.0))
    return float(drawn[0]), float(drawn[1]), float(drawn[2])


def under(config: WorldConfig, drawn: tuple[float, float, float]) -> WorldConfig:
    """The world with these weights as its goal."""
    names = "goal.user_satisfaction", "goal.platform_revenue", "goal.long_term"
    return config.override(dict(zip(names, drawn, strict=True)))
