"""Who is found out: contents of every kind on platforms that no head was fitted on, judged hour by hour."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from upwell.bench import trust_rivals
from upwell.experiment.stats import rate
from upwell.learn import trust
from upwell.regulator.trust.judge import Heads
from upwell.world import suspicion, visits
from upwell.world.arm import Arm
from upwell.world.config import WorldConfig, flatten

Floats = npt.NDArray[np.float64]
Step = Callable[[], None]
CLICKBAIT = len(visits.KINDS)
"""A kind of its own here: plain contents whose title promises more than they hold."""
NAMES = (*visits.KINDS, "clickbait")
CHEATS = (*range(visits.BOUGHT, len(visits.KINDS)), CLICKBAIT)
WATCHED_DAYS = 3
"""Contents born less than so many days before the end are left out: little of them was seen."""
FALSE_POSITIVES = 0.01
"""Share of honest contents that the threshold lets be accused, over their whole lives."""
CALIBRATED_FROM, TESTED_FROM = 500, 1
"""First seeds of the platforms by which thresholds are set, and of those that are judged (heads: 1,000 and up)."""
BINS = 10


class Life(NamedTuple):
    """A content born while it was looked on, as it was last seen. Columns ``[N]`` of many."""

    kind: Any
    peak: Any  # highest probability ever
    caught_at: Any  # impressions and visits until it was frozen; infinite
    paid: Any  # coins
    paid_before: Any  # of them, before it was frozen
    clicks: Any
    rivals: Any  # highest score ever by each rival, ``[R]``


class Lived(NamedTuple):
    """Contents of several platforms, and single days of them for calibration."""

    lives: Life  # [N]
    probability: Floats  # [D], of a content on a day
    cheats: npt.NDArray[np.bool_]  # [D]
    accounts: tuple[Floats, Floats]  # probabilities of fake ones and of users, on the last days
    creators: tuple[Floats, Floats]  # of farms' and rings' creators, and of the others


def platform(config: WorldConfig, seed: int) -> WorldConfig:
    """As ``learn.trust.platform``, with the kind that it holds out, and with adaptive cheats as ``config`` has them."""
    ours = {name: value for name, value in flatten(config).items() if name.endswith("_adaptive")}
    ours |= {f"direct.{name}": getattr(config.direct, name) for name in trust.HELD_OUT}
    return trust.platform(config, seed).override(ours)


def kinds(report: Mapping[str, Any]) -> npt.NDArray[np.int_]:
    """What each content is on a day, one of ``NAMES``, ``[M]``."""
    return np.where((report["kind"] == visits.PLAIN) & (report["clickbait"] > 0), CLICKBAIT, report["kind"])


def lived(
    config: WorldConfig, arm: Arm, heads: Heads, rivals: Mapping[str, trust_rivals.Score], seeds: Iterable[int],
    days: int, step: Step,
) -> Lived:  # fmt: skip
    """Contents of so many platforms, a seed each."""
    lives, told, cheats = list[Life](), list[npt.NDArray[np.float32]](), list[npt.NDArray[np.bool_]]()
    accounts, creators = ([], []), ([], [])
    for seed in seeds:
        own = platform(config, seed)
        last = dict[tuple[int, int], tuple[Life, int]]()
        state, day = None, -1
        for day, (state, report) in enumerate(trust.days(own, arm, seed, heads, trust.BURN_IN, days)):
            kind = kinds(report)
            traits = np.asarray(trust.traits(own, state).content)[:-1]
            scores = np.stack([score(traits) for score in rivals.values()], axis=1)
            clicks = report["stats"][:, 1]
            known = clicks >= trust.KNOWN
            told.append(report["suspected"][known])
            cheats.append(np.isin(kind[known], CHEATS))
            for m in np.flatnonzero(report["age_days"] <= day).tolist():
                key = m, int(report["generation"][m])
                before = last[key][0].rivals if key in last else -np.inf
                last[key] = (
                    Life(
                        int(kind[m]), float(report["peak"][m]), float(report["caught_at"][m]), float(report["paid"][m]),
                        float(report["paid_before"][m]), float(clicks[m]), np.maximum(scores[m], before),
                    ),
                    day - int(report["age_days"][m]),
                )  # fmt: skip
            step()
        assert state is not None
        lives += [life for life, born in last.values() if born <= day - WATCHED_DAYS]
        split(own, state, accounts, creators)
    return Lived(
        Life(*(np.array(column) for column in zip(*lives, strict=True))),
        np.concatenate(told).astype(np.float64),
        np.concatenate(cheats),
        (np.concatenate(accounts[0]), np.concatenate(accounts[1])),
        (np.concatenate(creators[0]), np.concatenate(creators[1])),
    )


def split(config: WorldConfig, state: Any, accounts: Any, creators: Any) -> None:
    """Adds the probabilities of fake and real accounts, and of colluding and other creators, that ever did anything."""
    own: suspicion.Suspicion = state.trust
    users = state.users.satisfaction.size
    probability = np.asarray(own.standing.account.probability)[:-1]
    known = np.asarray(own.accounts.clicks)[:-1] > 0
    accounts[0].append(probability[users:][known[users:]])
    accounts[1].append(probability[:users][known[:users]])
    kind, creator = np.asarray(visits.kinds(config, state)), np.asarray(state.contents.creator)
    theirs = np.asarray(own.standing.creator.probability)[:-1]
    colluding = np.unique(creator[(kind == visits.FARM) | (kind == visits.RING)])
    others = np.setdiff1d(np.unique(creator[~np.isin(kind, CHEATS)]), colluding)
    creators[0].append(theirs[colluding])
    creators[1].append(theirs[others])


def auc(cheats: Floats, honest: Floats) -> float:
    """Chance that a cheat scores above an honest one; ties count half (Mann and Whitney 1947)."""
    ranks = rankdata(np.concatenate([cheats, honest]))
    n = len(cheats)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * len(honest)))


def threshold(honest: Floats) -> float:
    """The least score that no more than ``FALSE_POSITIVES`` of honest contents exceed."""
    return float(np.quantile(honest, 1.0 - FALSE_POSITIVES, method="higher"))


def calibration_error(probability: Floats, cheats: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error (Naeini et al. 2015): mean distance of told and true shares over ten equal bins."""
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    many = np.bincount(bins, minlength=BINS)
    told, true = np.bincount(bins, probability, BINS), np.bincount(bins, cheats, BINS)
    return float(np.abs(told - true).sum() / many.sum())


def of_score(score: Floats, limit: float, kind: npt.NDArray[np.int_]) -> dict[str, Any]:
    """What a threshold set on other platforms finds, and whom it wrongs."""
    cheats = np.isin(kind, CHEATS)
    accused = score > limit

    there = [k for k in range(len(NAMES)) if (kind == k).any()]
    shares = {k: rate(int((accused & (kind == k)).sum()), int((kind == k).sum())) for k in there}
    return {
        "threshold": limit,
        "auc": auc(score[cheats], score[~cheats]),
        "accuracy": float((accused == cheats).mean()),
        "precision": float(cheats[accused].mean()) if accused.any() else float("nan"),
        "recall": rate(int((accused & cheats).sum()), int(cheats.sum()))._asdict(),
        "false_positive_rate": rate(int((accused & ~cheats).sum()), int((~cheats).sum()))._asdict(),
        "recall_at_1pct_fpr": {NAMES[k]: shares[k].mean for k in there if k in CHEATS},
        "false_positives": {NAMES[k]: shares[k].mean for k in there if k in visits.LOOK_ALIKES},
        "accused": {NAMES[k]: shares[k]._asdict() for k in there},
        "auc_of": {NAMES[k]: auc(score[kind == k], score[~cheats]) for k in there if k in CHEATS},
    }


def detection(config: WorldConfig, arm: Arm, heads: Heads, seeds: int, days: int, step: Step) -> dict[str, Any]:
    """The heads beside rivals on the same evidence: thresholds set on some platforms, all judged on others."""
    fitted = trust.gathered(config, arm, range(800, 800 + seeds), heads, days, step)
    rivals = trust_rivals.fitted(fitted.contents)
    before = lived(config, arm, heads, rivals, range(CALIBRATED_FROM, CALIBRATED_FROM + seeds), days, step)
    judged = lived(config, arm, heads, rivals, range(TESTED_FROM, TESTED_FROM + seeds), days, step)
    kind = judged.lives.kind
    honest = ~np.isin(before.lives.kind, CHEATS)
    result = of_score(judged.lives.peak, threshold(before.lives.peak[honest]), kind)
    caught = np.isfinite(judged.lives.caught_at)
    return {
        **result,
        "platforms": seeds,
        "contents": {NAMES[k]: int((kind == k).sum()) for k in range(len(NAMES))},
        "calibration_error": calibration_error(judged.probability, judged.cheats),
        "frozen": {NAMES[k]: float(caught[kind == k].mean()) for k in range(len(NAMES)) if (kind == k).any()},
        "seen_when_frozen": {
            NAMES[k]: float(np.median(judged.lives.caught_at[caught & (kind == k)]))
            for k in CHEATS
            if (caught & (kind == k)).any()
        },
        "coins_before_frozen": {
            NAMES[k]: float(judged.lives.paid_before[kind == k].mean()) for k in CHEATS if (kind == k).any()
        },
        "accounts_auc": auc(*judged.accounts),
        "creators_auc": auc(*judged.creators),
        "rivals": {
            name: of_score(judged.lives.rivals[:, i], threshold(before.lives.rivals[honest, i]), kind)
            for i, name in enumerate(rivals)
        },
    }
