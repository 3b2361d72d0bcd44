"""Logged choices with their chances, and what another policy would have chosen in their place.

A policy is known by its chance of each content at each place: the same for all users, as counted from a log of its own,
or even over all contents. A context-free policy is the most that a log without the policy itself can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from upwell.errors import BadRequest
from upwell.experiment import ope
from upwell.logs.dataset import Dataset

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
CLICKS = 10.0
"""The model of rewards shrinks a content's click rate as if so many clicks at the mean rate had been seen of it."""


class Choices(NamedTuple):
    """One row a place of a slate, ``[N]``: what stood there, with which chance, and whether it was clicked."""

    place: Ints  # 0 … P-1
    content: Ints  # 0 … A-1
    reward: Floats
    propensity: Floats
    user: Ints  # 0 … U-1
    shape: tuple[int, int]  # P, A


class Policy(NamedTuple):
    """Chance of each content at each place, ``[P, A]``; ``counted`` ``[P]``: choices that it was counted from."""

    chance: Floats
    counted: Floats  # infinite: known


def read(logs: list[Dataset]) -> list[Choices]:
    """Choices of each log, with places and contents numbered over all of them together.

    Raises BadRequest where a log has no chances.
    """
    frames = [chosen(log) for log in logs]
    every = pl.concat(frames)
    places, contents = every["place"].unique().sort(), every["content_id"].unique().sort()
    return [
        Choices(
            places.search_sorted(frame["place"]).to_numpy().astype(np.int64),
            contents.search_sorted(frame["content_id"]).to_numpy().astype(np.int64),
            frame["clicked"].to_numpy().astype(np.float64),
            frame["propensity"].to_numpy(),
            np.unique(frame["user_id"].to_numpy(), return_inverse=True)[1].astype(np.int64),
            (len(places), len(contents)),
        )
        for frame in frames
    ]


def chosen(log: Dataset) -> pl.DataFrame:
    """Rows that have a chance. Campaigns choose from contents of their own: their places are apart."""
    campaign = pl.col("campaign") if "campaign" in log.interactions.collect_schema() else pl.lit("")
    place = pl.concat_str(campaign.fill_null(""), pl.col("position").fill_null(0), separator=" ")
    rows = log.interactions.filter(pl.col("propensity").is_not_null())
    frame = rows.select("user_id", "content_id", place.alias("place"), "propensity", "clicked").collect()
    if not len(frame):
        raise BadRequest(f"{log.folder}: no row has a propensity: without the chances that things were shown with "
                         "nothing can be said of another policy")  # fmt: skip
    return frame


def even(choices: Choices) -> Policy:
    """Every content that the log shows at a place, with the same chance there."""
    there = per_place(choices, np.ones(len(choices.reward))) > 0.0
    return Policy(there / np.maximum(there.sum(1, keepdims=True), 1), np.full(choices.shape[0], np.inf))


def counted(choices: Choices) -> Policy:
    """What a log's own policy chose: how often it showed each content at each place."""
    shown = per_place(choices, np.ones(len(choices.reward)))
    total = shown.sum(1)
    return Policy(shown / np.maximum(total, 1.0)[:, None], total)


def per_place(choices: Choices, values: Floats) -> Floats:
    """Sums of values ``[N]`` by place and content, ``[P, A]``."""
    places, contents = choices.shape
    flat = np.bincount(choices.place * contents + choices.content, values, places * contents)
    return flat.astype(np.float64).reshape(choices.shape)


def model(choices: Choices) -> Floats:
    """Click rates by place and content ``[P, A]``: the place's, times how the content's compares, shrunk."""
    clicks, shown = per_place(choices, choices.reward), per_place(choices, np.ones(len(choices.reward)))
    rate = max(float(clicks.sum() / shown.sum()), 1e-12)
    of_place = (clicks.sum(1) + CLICKS) / (shown.sum(1) * rate + CLICKS)
    of_content = (clicks.sum(0) + CLICKS) / (shown.sum(0) * rate + CLICKS)
    return np.clip(rate * of_place[:, None] * of_content, 0.0, 1.0)


def models(choices: Choices) -> Floats:
    """Of each half of the users the model of the other half, ``[2, P, A]``: nobody's own clicks are among theirs."""
    half = choices.user % 2
    return np.stack([model(of_users(choices, half != side)) for side in (0, 1)])


def samples(choices: Choices, expects: Floats, policy: Policy) -> ope.Samples:
    """For the estimators. ``expects``: of ``models``."""
    half, at = choices.user % 2, (choices.place, choices.content)
    means = (policy.chance * expects).sum(-1)
    weight = policy.chance[at] / choices.propensity
    return ope.Samples(choices.reward, weight, choices.user, expects[half, *at], means[half, choices.place])


def of_users(choices: Choices, which: npt.NDArray[np.bool_]) -> Choices:
    """Those of the choices; all where none are left."""
    kept = which if which.any() else np.ones_like(which)
    return Choices(
        choices.place[kept], choices.content[kept], choices.reward[kept], choices.propensity[kept],
        choices.user[kept], choices.shape,
    )  # fmt: skip


def estimate(choices: Choices, policy: Policy, estimator: ope.Estimator, most: float) -> ope.Estimate:
    """The policy's click rate, with a 95% interval that knows of both logs' chance.

    A policy counted from a log is itself uncertain. The estimate's slope along each of its chances, by differences, and
    their multinomial covariance give what that adds to the variance (delta method).

    Args:
        most: see ``ope.Estimator``.

    Raises BadRequest as ``ope.estimate`` does.
    """
    expects = models(choices)

    def terms(chance: Floats) -> Floats:
        return estimator(samples(choices, expects, policy._replace(chance=chance)), most)

    found = ope.estimate(samples(choices, expects, policy), estimator, most)
    guessed = [place for place, many in enumerate(policy.counted) if np.isfinite(many)]
    variance = sum(spread(terms, policy, place) for place in guessed)
    reach = float(np.hypot((found.high - found.low) / 2.0, ope.REACH * np.sqrt(variance)))
    return found._replace(low=found.mean - reach, high=found.mean + reach)


def spread(terms: Callable[[Floats], Floats], policy: Policy, place: int) -> float:
    """Variance of an estimate by the chance that a policy's choices at a place were counted with."""
    chance = policy.chance[place]
    slope = np.zeros(len(chance))
    for content in np.flatnonzero(chance > 0.0):
        step = 1e-4 * chance[content]
        ends: list[float] = []
        for sign in (1.0, -1.0):
            moved = policy.chance.copy()
            moved[place, content] += sign * step
            ends.append(float(terms(moved).mean()))
        slope[content] = (ends[0] - ends[1]) / (2.0 * step)
    mean = float((chance * slope).sum())
    return float((chance * (slope - mean) ** 2).sum()) / float(policy.counted[place])


def unsupported(choices: Choices, policy: Policy) -> float:
    """Share of what the policy would show that the log never shows there: of that it says nothing."""
    never = per_place(choices, np.ones(len(choices.reward))) == 0.0
    traffic = np.bincount(choices.place, minlength=choices.shape[0]) / len(choices.place)
    return float((traffic * (policy.chance * never).sum(1)).sum())
