"""From what a log says to what a world should do: keys that follow directly, and targets for the search.

Directly: the hourly rhythm, the number of tags of a content, durations, how unequal users' activity is. By search:
click rates under the platform's own ranking and at random, and concentration.
"""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from upwell.errors import BadRequest
from upwell.logs import marginals

NORMAL_P90 = 1.2816


@dataclass(frozen=True)
class Target:
    """A figure to reach. ``upper``: anything below is as good."""

    value: float
    weight: float = 1.0
    upper: bool = False

    def error(self, fitted: float) -> float:
        """Relative error; 0 for a one-sided target that is met."""
        if self.upper and fitted <= self.value:
            return 0.0
        return fitted / self.value - 1.0


REFERENCE: dict[str, Target] = {
    "healthy_interest_tags": Target(23.0, 2.0),
    "interest_tags": Target(7.0, 2.0),
    "new_content_ctr": Target(0.008, 2.0),
    "cold_start_success": Target(0.12, 1.0),
    "d1_retention": Target(0.58, 3.0),
    "top100_share": Target(0.70, 2.0),
    "mid_tail_ctr": Target(0.003, 0.5, upper=True),
    "watch_minutes_per_dau": Target(24.0),
    "gmv_per_dau": Target(0.568),
}
"""The raw-ranking column of the reference platform: 2.84 million yuan a day over 5 million daily users is 0.568."""


def load_targets(path: Path) -> dict[str, Target]:
    """Targets from TOML: ``[name] value, weight, upper``. Raises BadRequest."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        return {name: Target(**table) for name, table in document.items()}
    except FileNotFoundError:
        raise BadRequest(f"{path}: no such targets file") from None
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise BadRequest(f"{path}: targets need [name] with value, weight, upper: {error}") from None


def read_marginals(source: Path) -> dict[str, float]:
    """Marginals of an imported data set (a folder) or of published aggregates (a JSON file). Raises BadRequest."""
    return marginals.published(source) if source.is_file() else ranked(marginals.measure(source))


def ranked(told: dict[str, float]) -> dict[str, float]:
    """The same, with figures of the platform's own ranking under ``standard``: where nothing is called so, what was
    shown most but not at random (Open Bandit's ``bts``, or ``unknown``) is taken for it."""
    exposures = {name.removeprefix("ctr_") for name in told if name.startswith("ctr_")}
    own = max(exposures - {"random"}, key=lambda exposure: told[f"impressions_{exposure}"], default="standard")
    if "standard" in exposures | {own}:
        return told
    end = re.compile(rf"_{re.escape(own)}(?=_p\d+$|_\d\d$|$)")
    return told | {end.sub("_standard", name): value for name, value in told.items()}


def direct(told: dict[str, float]) -> dict[str, float]:
    """World keys that follow from marginals without a search; only those that the log tells."""
    keys: dict[str, float] = {}
    hours = [told.get(f"hour_share_standard_{hour:02}", 0.0) for hour in range(24)]
    if min(hours) > 0.0:
        keys |= rhythm(np.array(hours))
    if "tags_per_content_1" in told:
        tagged = 1.0 - told["tags_per_content_0"]
        keys["content.one_tag"] = told["tags_per_content_1"] / tagged
        keys["content.two_tags"] = told["tags_per_content_2"] / tagged
    if "duration_s_p50" in told:
        keys["content.duration_s"] = told["duration_s_p50"]
        keys["content.duration_spread"] = math.log(told["duration_s_p90"] / told["duration_s_p50"]) / NORMAL_P90
    if "impressions_per_user_day_standard_p90" in told:
        ratio = told["impressions_per_user_day_standard_p90"] / told["impressions_per_user_day_standard_p50"]
        keys["activity.visits_spread"] = math.log(ratio) / NORMAL_P90
    return keys


def rhythm(shares: np.ndarray) -> dict[str, float]:
    """Two waves, of a day and of half a day, fitted by least squares to the log of hourly shares ``[24]``."""
    angle = 2.0 * np.pi * (np.arange(24) + 0.5) / 24.0
    waves = np.stack([np.ones(24), np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)], axis=1)
    _, a, b, c, d = np.linalg.lstsq(waves, np.log(shares), rcond=None)[0]
    return {
        "activity.daily_wave": float(np.hypot(a, b)),
        "activity.daily_peak_h": float(np.arctan2(b, a) * 12.0 / np.pi % 24.0),
        "activity.half_wave": float(np.hypot(c, d)),
        "activity.half_peak_h": float(np.arctan2(d, c) * 6.0 / np.pi % 12.0),
    }


def searched(told: dict[str, float]) -> dict[str, Target]:
    """Targets for the search. Raises BadRequest where the log tells none of them.

    Random exposure is held against the healthy days, in which the ranker knows nothing; the top 1% of contents are
    the top 100 of a world of 10,000.
    """
    names = {
        "ctr": ("ctr_standard", 2.0), "random_ctr": ("ctr_random", 2.0),
        "top100_share": ("top1pct_exposure_share_standard", 1.0),
    }  # fmt: skip
    targets = {name: Target(told[key], weight) for name, (key, weight) in names.items() if told.get(key, 0.0) > 0.0}
    if not targets:
        raise BadRequest(
            "the data set holds no impressions under the platform's own ranking, so nothing to fit click rates to: "
            "import its interaction log too, or give --targets FILE"
        )
    return targets
