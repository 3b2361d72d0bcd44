"""What the detector must beat: what an engineer would try first, each tuned on the platforms that it was fitted on.

All read the same evidence, a content's traits; those that hang on the detector's own judgements of visitors, creators
and rings are the detector's alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict

from upwell.learn.trust import Sample
from upwell.regulator.trust.judge import CONTENT_TRAITS

Traits = npt.NDArray[np.float32]
Score = Callable[[Traits], npt.NDArray[np.float64]]
OWN = ("doubted", "doubted_surely", "visitors", "ring", "creator")
"""Traits that only the detector has."""
READ = [i for i, name in enumerate(CONTENT_TRAITS) if name not in OWN]
AT = 0.05
"""Rivals are tuned by the recall at so many false positives among days of contents."""


def fitted(sample: Sample) -> dict[str, Score]:
    """Each rival, with the settings that did best on the sample; scores rise with suspicion."""
    return {
        "fixed thresholds": thresholds(sample),
        "isolation forest": forest(sample),
        "logistic regression": logistic(sample),
    }


def thresholds(sample: Sample) -> Score:
    """A limit on each trait: how few honest contents go so far in the suspicious direction, of the trait farthest out.

    Which traits take part is tuned: as many as help, in the order of what each finds alone.
    """
    x = sample.traits[:, READ]
    sign = np.where(x[sample.cheats].mean(0) >= x[~sample.cheats].mean(0), 1.0, -1.0)
    honest = np.sort(sign * x[~sample.cheats], axis=0)

    def each(traits: Traits) -> npt.NDArray[np.float64]:
        out = sign * traits[:, READ]
        return np.stack([np.searchsorted(honest[:, i], out[:, i]) / len(honest) for i in range(len(READ))], axis=1)

    own = each(sample.traits)
    order = np.argsort([-found(own[:, i], sample) for i in range(len(READ))])
    best = max(range(1, len(READ) + 1), key=lambda n: found(own[:, order[:n]].max(1), sample))
    return lambda traits: each(traits)[:, order[:best]].max(1)


def forest(sample: Sample) -> Score:
    """Isolation forest (Liu et al. 2008): who is easily set apart, whether for good or ill. It sees no labels."""
    x = sample.traits[:, READ]
    sizes: list[Any] = [size for size in (128, 256, 1_024, 4_096) if size <= len(x)]
    made = [IsolationForest(n_estimators=200, max_samples=size, random_state=0).fit(x) for size in sizes]
    best = max(made, key=lambda one: found(-one.score_samples(x), sample))
    return lambda traits: -best.score_samples(traits[:, READ])


def logistic(sample: Sample) -> Score:
    """Logistic regression, its strength of regularisation chosen by cross-validation."""
    x, folds = sample.traits[:, READ], np.arange(len(sample.cheats)) * 5 // len(sample.cheats)
    made = [LogisticRegression(C=strength, max_iter=2_000) for strength in (0.01, 0.1, 1.0, 10.0)]
    fit = {"sample_weight": sample.weight}

    def held_out(one: LogisticRegression) -> float:
        told: Any = cross_val_predict(
            one, x, sample.cheats, groups=folds, cv=GroupKFold(5), method="predict_proba", params=fit
        )
        return found(told[:, 1], sample)

    best = max(made, key=held_out).fit(x, sample.cheats, **fit)
    return lambda traits: best.predict_proba(traits[:, READ])[:, 1]


def found(score: npt.NDArray[np.float64], sample: Sample) -> float:
    """Share of cheats above the score that ``AT`` of honest contents exceed."""
    limit = np.quantile(score[~sample.cheats], 1.0 - AT)
    return float((score[sample.cheats] > limit).mean())
