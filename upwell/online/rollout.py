"""How a new version of the policy earns its traffic: a first share of users, watched, widened or rolled back.

Pure functions of what was counted. Looks may be as many as one likes: intervals are always valid.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from upwell.experiment.stats import Interval, always_valid

SHARES = (0.05, 0.25, 1.0)
"""Of users who get a version on trial, stage by stage; with all of them it is the live one."""
Verdict = Literal["wait", "widen", "roll_back"]


class Tally(msgspec.Struct):
    """What the users of a version came to. An observation is a user's day."""

    count: int = 0
    total: float = 0.0  # of gains
    squares: float = 0.0
    clicks: int = 0
    impressions: int = 0

    def add(self, gain: float, clicks: int, impressions: int) -> None:
        """One more user's day."""
        self.count += 1
        self.total += gain
        self.squares += gain * gain
        self.clicks += clicks
        self.impressions += impressions

    @property
    def mean(self) -> float:
        return self.total / max(self.count, 1)

    @property
    def variance(self) -> float:
        return max(self.squares / max(self.count, 1) - self.mean**2, 0.0)

    @property
    def click_rate(self) -> float:
        return self.clicks / max(self.impressions, 1)


class Terms(NamedTuple):
    """What a version must hold to."""

    worse: float = 0.03  # gain that a version may fall behind the live one, in units of a user's day under it
    click_loss: float = 0.03  # share of the holdout's click rate that it may lose
    alpha: float = 0.05
    planned: int = 2_000  # user days after which a stage should be decided
    most: int = 8_000  # after which one that is not is rolled back


class Judged(NamedTuple):
    """What became of a look, and why, in words."""

    verdict: Verdict
    why: str
    difference: Interval  # of gain, to the live version


def judge(trial: Tally, live: Tally, held: Tally, terms: Terms) -> Judged:
    """What to do with a version on trial.

    Args:
        live: users of the live version in the same time; ``held``: the holdout, whom no version decides for.
    """
    apart = between(trial, live, terms)
    lost = click_loss(trial, held, terms)
    if apart.high < 0.0:
        return Judged("roll_back", f"worse than the live version: {apart.mean:+.4f} a user's day", apart)
    if lost.low > terms.click_loss:
        return Judged("roll_back", f"loses {lost.mean:.1%} of the holdout's click rate", apart)
    if apart.low > -terms.worse and trial.count >= terms.planned // 4:
        return Judged("widen", f"no worse than {apart.low:+.4f} a user's day", apart)
    if trial.count >= terms.most:
        return Judged("roll_back", f"not shown to be as good in {trial.count:,} user days", apart)
    return Judged("wait", f"{trial.count:,} user days so far", apart)


def between(ours: Tally, theirs: Tally, terms: Terms) -> Interval:
    """Difference of mean gains, always valid. Each side must have two observations, else it is infinite."""
    count = min(ours.count, theirs.count)
    variance = count * (ours.variance / max(ours.count, 1) + theirs.variance / max(theirs.count, 1))
    return always_valid(ours.mean - theirs.mean, variance, count, terms.alpha, terms.planned)


def click_loss(ours: Tally, held: Tally, terms: Terms) -> Interval:
    """Share of the holdout's click rate that is lost, always valid (delta method, clicks as if Poisson)."""
    count = min(ours.impressions, held.impressions)
    if count < 2 or not held.clicks:
        return always_valid(0.0, 0.0, 0.0)
    ratio = ours.click_rate / held.click_rate
    error2 = ratio**2 * (1.0 / max(ours.clicks, 1) + 1.0 / held.clicks)
    each = max(held.impressions // max(held.count, 1), 1)  # impressions of a user's day
    return always_valid(1.0 - ratio, error2 * count, count, terms.alpha, terms.planned * each)
