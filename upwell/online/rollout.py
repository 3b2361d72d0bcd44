"""How a new version of the policy earns its traffic: a first share of users, watched, widened or rolled back.

Pure functions of what was counted. Looks may be as many as one likes: intervals are always valid.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec
import numpy as np

from upwell.service.keys import digest_of
from upwell.statistics.evidence import Interval, always_valid

SHARES = (0.05, 0.25, 1.0)
"""Of users who get a version on trial, stage by stage; with all of them it is the live one."""
LEAST_USERS = 200
"""Users of a first share where 5% would be fewer: of a handful nothing can be told."""
Verdict = Literal["wait", "widen", "roll_back"]


def first_share(users: int) -> float:
    """The first share of so many users: the first of ``SHARES``, or up to the second where the platform is small."""
    return float(np.clip(LEAST_USERS / max(users, 1), SHARES[0], SHARES[1]))


class Tally(msgspec.Struct):
    """What the users of a version came to. An observation is a user's six hours; those of one user hang together."""

    counts: dict[str, int] = {}  # by user
    gains: dict[str, float] = {}  # by user, summed
    clicks: int = 0
    impressions: int = 0

    def add(self, user: str, gain: float, clicks: int, impressions: int) -> None:
        """One more of a user's hours."""
        self.counts[user] = self.counts.get(user, 0) + 1
        self.gains[user] = self.gains.get(user, 0.0) + gain
        self.clicks += clicks
        self.impressions += impressions

    def forget(self, digest: str) -> None:
        """A user was erased (``keys.digest_of``). Their clicks, which tell of nobody, stay."""
        for user in [user for user in self.counts if digest_of(user) == digest]:
            del self.counts[user], self.gains[user]

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    @property
    def mean(self) -> float:
        return sum(self.gains.values()) / max(self.count, 1)

    @property
    def variance(self) -> float:
        """Of an observation, so that the mean's is this over ``count``, however much users differ (Cochran 1977, 6.3).

        Infinite with fewer than two users.
        """
        many = len(self.counts)
        if many < 2:
            return np.inf
        counts = np.fromiter(self.counts.values(), np.float64, many)
        off = np.fromiter(self.gains.values(), np.float64, many) - counts * self.mean
        return float((off**2).sum() * many / (many - 1) / counts.sum())

    @property
    def click_rate(self) -> float:
        return self.clicks / max(self.impressions, 1)


class Terms(NamedTuple):
    """What a version must hold to."""

    worse: float = 0.03  # gain that a version may fall behind the live one, of what a user's hours bring in the mean
    click_loss: float = 0.03  # share of the holdout's click rate that it may lose
    alpha: float = 0.05
    planned: int = 2_000  # observations after which a stage should be decided
    most: int = 8_000  # after which one that is not is rolled back
    most_days: float = 14.0  # … and so it is after such a time, on platforms too small to tell


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
        return Judged("roll_back", f"worse than the live version: {apart.mean:+.4f} a user's hours", apart)
    if lost.low > terms.click_loss:
        return Judged("roll_back", f"loses {lost.mean:.1%} of the holdout's click rate", apart)
    if apart.low > -terms.worse and trial.count >= terms.planned // 4:
        return Judged("widen", f"no worse than {apart.low:+.4f} a user's hours", apart)
    if trial.count >= terms.most:
        return Judged("roll_back", f"not shown to be as good in {trial.count:,} of its users' hours", apart)
    return Judged("wait", f"{trial.count:,} of its users' hours so far", apart)


def between(ours: Tally, theirs: Tally, terms: Terms) -> Interval:
    """Difference of mean gains, always valid. Each side must have two users, else it is infinite."""
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
    each = max(held.impressions // max(held.count, 1), 1)  # impressions of an observation
    return always_valid(1.0 - ratio, error2 * count, count, terms.alpha, terms.planned * each)
