"""The metrics, by the names the contract gives them, from the daily reports of a run.

Each is computed over a window of days; ``world.measure.day_report`` counts what they need.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from upwell.world.config import WorldConfig

Report = dict[str, np.ndarray]


def daily(config: WorldConfig, report: Report) -> dict[str, float]:
    """Metrics of one day."""
    return over(config, [report])


def over(config: WorldConfig, reports: Sequence[Report]) -> dict[str, float]:
    """Metrics over consecutive days. Ratios are of sums, so that busy days count for more.

    Returns:
        metric name → value, units as in docs/metrics.md. ``d1_retention`` and ``d7_retention`` are read on the day
        the users return; ``cold_start_success`` on the contents' fourth day.
    """

    def total(name: str) -> float:
        return float(sum(float(r[name]) for r in reports))

    def mean(name: str) -> float:
        return total(name) / len(reports)

    def ratio(over: str, under: str) -> float:
        return total(over) / max(total(under), 1e-9)

    days = len(reports)
    dau_days = max(total("active"), 1.0)
    coins = float(sum(float(r["coins"]) for r in reports))
    heating, sizes = config.heating, config.sizes
    pool_coins = heating.pool * 500.0 * sizes.contents * heating.budget / heating.first_ask
    yuan = coins * heating.yuan_per_dau * (dau_days / days) / pool_coins
    hour_share = [r["hour_heated"] / np.maximum(r["hour_impressions"], 1.0) for r in reports]
    satisfaction = [float(r["satisfaction"]) for r in reports]
    metrics = {
        "new_content_ctr": ratio("new_clicks", "new_impressions"),
        "interest_tags": mean("tags"),
        "cold_start_success": ratio("successes", "graduates"),
        "d1_retention": mean("returned1"),
        "d7_retention": mean("returned7"),
        "heating_cost_per_success": coins / max(total("successes"), 1.0),
        "heating_spend_per_day": coins / days,
        "heating_yuan_per_day": yuan / days,
        "gmv_per_day": total("gmv") / days,
        "gmv_per_dau": total("gmv") / dau_days,
        "watch_minutes_per_dau": total("dwell_s") / 60.0 / dau_days,
        "ctr": ratio("clicks", "impressions"),
        "real_engagement": (total("valid") + 2.0 * total("shares")) / max(total("impressions"), 1.0),
        "mid_tail_ctr": ratio("tail_clicks", "tail_impressions"),
        "exposure_gini": mean("gini"),
        "top100_share": mean("top100"),
        "heated_share": ratio("heated", "impressions"),
        "heated_share_max_hour": float(max(share.max() for share in hour_share)),
        "explored_share": ratio("explored", "impressions"),
        "new_content_heated_share": ratio("chances", "graduates"),
        "creator_churn": 30.0 * total("creators_left") / days / sizes.creators,
        "satisfaction_mean": float(np.mean(satisfaction)),
        "satisfaction_std": float(np.std(satisfaction[len(satisfaction) // 2 :])),
        "dau": dau_days / days,
        "impressions_per_dau": total("impressions") / dau_days,
    }
    metrics["interest_diversity"] = min(1.0, metrics["interest_tags"] / config.healthy_tags)
    metrics["net_gmv_per_dau"] = (total("gmv") - yuan) / dau_days
    metrics["expected_net_gmv_per_dau"] = (total("expected_gmv") - yuan) / dau_days
    return metrics


def objective(config: WorldConfig, metrics: dict[str, float], raw: dict[str, float]) -> float:
    """The weighted sum under the goal: satisfaction; revenue after heating over raw's; mean of three shares."""
    goal = config.goal
    long_term = (metrics["d7_retention"] + metrics["interest_diversity"] + metrics["cold_start_success"]) / 3.0
    revenue = metrics["net_gmv_per_dau"] / max(raw["net_gmv_per_dau"], 1e-9)
    total = goal.user_satisfaction + goal.platform_revenue + goal.long_term
    return (
        goal.user_satisfaction * metrics["satisfaction_mean"]
        + goal.platform_revenue * revenue
        + goal.long_term * long_term
    ) / total


def expected(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics with money as it was to be expected of what was watched: a simulated platform's alone.

    A few hundred purchases of unlike prices make most of the objective's noise, and none of a policy.
    """
    return metrics | {"net_gmv_per_dau": metrics["expected_net_gmv_per_dau"]}


def curves(config: WorldConfig, reports: Sequence[Report]) -> dict[str, list[float]]:
    """Each metric, one value a day."""
    rows = [daily(config, report) for report in reports]
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def lorenz(today: np.ndarray, points: int = 101) -> list[float]:
    """Cumulative exposure of the poorest x% of contents, x = 0, 1, … 100%."""
    ranked = np.concatenate([[0.0], np.cumsum(np.sort(today.astype(np.float64)))])
    share = ranked / max(ranked[-1], 1.0)
    return [float(v) for v in np.interp(np.linspace(0, len(today), points), np.arange(len(ranked)), share)]


def as_json(metrics: dict[str, Any]) -> dict[str, float]:
    """Plain floats, ready for JSON."""
    return {name: float(value) for name, value in metrics.items()}
