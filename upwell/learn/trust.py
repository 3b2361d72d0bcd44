"""Fitting the heads of trust on simulated platforms, where it is known who cheats.

The traits that hang on judgements (of a content's visitors, its creator, an account's contents) are those of the heads
before, so data and fit take turns a few times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import msgspec
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from upwell import files
from upwell.regulator.trust.judge import ACCOUNT_TRAITS, CONTENT_TRAITS, Head, Heads
from upwell.world import suspicion, visits, world
from upwell.world.arm import Arm
from upwell.world.config import WorldConfig

Floats = npt.NDArray[np.float64]
RIDGE = 1.0
"""Strength of the normal prior around 0 on each weight, as so many observations."""
BEYOND = 0.001
"""Share of what is fitted on that lies below the bounds of each trait, and above."""
ACCUSING = frozenset({
    "direct", "much", "doubted", "doubted_surely", "visitors", "strangers", "together", "again", "ring", "creator",
    "guilty", "alike", "new",
})  # fmt: skip
"""Traits of which more never speaks for anybody: by the many visits of a viral content a flood would clear itself."""
HELD_OUT = ("slow_drip",)
"""Kinds of cheat that no head is ever fitted on."""


class Sample(NamedTuple):
    """Contents or accounts on some days, ``[N]``."""

    traits: npt.NDArray[np.float32]  # [N, F]
    cheats: npt.NDArray[np.bool_]
    weight: npt.NDArray[np.float64]  # one for each content or account, over its days


class Samples(NamedTuple):
    """Of contents, and of accounts."""

    contents: Sample
    accounts: Sample


def platform(config: WorldConfig, seed: int) -> WorldConfig:
    """The training platform of a seed: without the kind held out, with bots of another budget and skill.

    In place of cheats that adapt it has some of every strategy: which of them pays against the heads, no head has seen.
    """
    drawn = np.random.default_rng([seed, 51])

    def between(low: float, high: float) -> float:
        return float(np.exp(drawn.uniform(np.log(low), np.log(high))))

    return config.override(
        {f"direct.{name}": 0.0 for name in HELD_OUT}
        | {
            "direct.budget": between(0.3, 3.0),
            "direct.skill": float(drawn.uniform(0.0, 0.8)),
            "direct.per_day_adaptive": between(5.0, 100.0),
            "direct.days_adaptive": between(2.0, 15.0),
            "direct.pool_adaptive": between(12.0, 500.0),
            "direct.cover_adaptive": between(0.1, 3.0),
            "direct.watch_adaptive": float(drawn.uniform(0.1, 0.9)),
            "direct.engaged_adaptive": between(0.005, 0.1),
            "direct.spread_adaptive": 0.7,
        }
    )


def days(
    config: WorldConfig, arm: Arm, seed: int, heads: Heads, burn_in: int, many: int, tuned: Any = None
) -> Iterator[tuple[world.WorldState, dict[str, npt.NDArray[np.float32]]]]:
    """A platform judged by ``heads``, day by day under ``arm``: its state after each, and the day's report.

    ``tuned``: in place of the arm's own.
    """
    state = world.burnt_in(config, seed, burn_in)
    state = state._replace(trust=suspicion.opened(config, heads))
    state = world.under(config, arm, state, tuned)
    for _ in range(many):
        state, report = world.run_day(config, arm, state)
        yield state, world.to_host(report)


traits = jax.jit(suspicion.traits)


def gathered(config: WorldConfig, arm: Arm, seeds: range, heads: Heads, many: int, step: Callable[[], None]) -> Samples:
    """Who was there at the end of each day, and whether they cheat."""
    contents, accounts = list[Sample](), list[Sample]()
    for seed in seeds:
        own = platform(config, seed)
        users = suspicion.account_count(config.sizes) - config.sizes.bots
        for state, _ in days(own, arm, seed, heads, BURN_IN, many):
            of = traits(own, state)
            contents.append(of_contents(own, state, np.asarray(of.content)[:-1]))
            known = np.asarray(state.trust.accounts.clicks)[:-1] > 0
            cheats = np.arange(len(known)) >= users
            accounts.append(Sample(np.asarray(of.account)[:-1][known], cheats[known], np.full(known.sum(), 1.0 / many)))
            step()
    return Samples(joined(contents), joined(accounts))


def of_contents(config: WorldConfig, state: world.WorldState, of: npt.NDArray[np.float32]) -> Sample:
    """The day's contents of which anything is known; each counts for one, whatever its age at the end."""
    kind = np.asarray(visits.kinds(config, state))
    cheats = (kind >= visits.BOUGHT) | np.asarray(state.contents.clickbait)
    own = state.trust.contents
    known = np.asarray(own.direct + own.clicks)[:-1] >= KNOWN
    life = np.asarray(state.contents.death_day - state.contents.born_day, np.float64)
    return Sample(of[known], cheats[known], 1.0 / np.minimum(life, 14.0)[known])


def joined(samples: list[Sample]) -> Sample:
    return Sample(*(np.concatenate(column) for column in zip(*samples, strict=True)))


BURN_IN = 2
"""Days of raw ranking before anybody is judged."""
KNOWN = 5
"""Clicks from which a content says anything about itself."""


def fitted(sample: Sample, names: tuple[str, ...]) -> Head:
    """Logistic regression with a ridge prior, and the weights' covariance: the inverse of the curvature there.

    Traits of ``ACCUSING`` among ``names`` weigh against whoever has them, or not at all.
    """
    least, most = np.quantile(sample.traits.astype(np.float64), (BEYOND, 1.0 - BEYOND), axis=0)
    x = np.concatenate([np.ones((len(sample.traits), 1)), np.clip(sample.traits, least, most)], axis=1)
    y, weight = sample.cheats.astype(np.float64), sample.weight
    prior = np.full(x.shape[1], RIDGE)
    prior[0] = 1e-6

    def loss(w: Floats) -> tuple[float, Floats]:
        z = x @ w
        value = (weight * (np.logaddexp(0.0, z) - y * z)).sum() + 0.5 * (prior * w * w).sum()
        return value, x.T @ (weight * (expit(z) - y)) + prior * w

    bounds = [(None, None), *((0.0 if name in ACCUSING else None, None) for name in names)]
    found = minimize(
        loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2_000}
    )  # fmt: skip
    p = expit(x @ found.x)
    curvature = (x * (weight * p * (1.0 - p))[:, None]).T @ x + np.diag(prior)
    return Head(found.x[0], found.x[1:], np.linalg.inv(curvature), least, most)


def fit(
    config: WorldConfig, arm: Arm, heads: Heads, seeds: int, many: int, rounds: int, step: Callable[[], None]
) -> Heads:
    """Heads fitted in turns with the platforms that they judge, each round on other seeds."""
    for turn in range(rounds):
        first = 1_000 + turn * seeds
        samples = gathered(config, arm, range(first, first + seeds), heads, many, step)
        heads = Heads(fitted(samples.contents, CONTENT_TRAITS), fitted(samples.accounts, ACCOUNT_TRAITS))
    return heads


def write(heads: Heads, path: Path) -> None:
    """Heads as JSON, in whole or not at all."""
    kept = {
        who: {name: np.asarray(x).tolist() for name, x in head._asdict().items()}
        for who, head in heads._asdict().items()
    }
    files.put(path, msgspec.json.encode(kept))
