"""How far each design of an experiment is from the truth where arms compete for heating.

On a simulated platform the truth is known: the same platform under either arm alone. An experiment sees both at once,
on halves, and its estimate is off by what the arms do to each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from upwell.experiment import metrics
from upwell.experiment.runner import lived
from upwell.statistics.evidence import Interval
from upwell.world import divided, world
from upwell.world.arm import Arm
from upwell.world.config import WorldConfig
from upwell.world.divided import Split
from upwell.world.state import WorldState

H = 3_600
DESIGNS = (
    Split("user_split"),
    Split("budget_split"),
    Split("co_diverted"),
    Split("switchback", slot_s=12 * H, washout_s=H),
)
METRICS = (
    "heated_share", "ctr", "new_content_ctr", "real_engagement", "watch_minutes_per_dau", "expected_net_gmv_per_dau",
    "satisfaction_mean", "interest_tags", "cold_start_success",
)  # fmt: skip
LASTING = ("satisfaction_mean", "interest_tags", "cold_start_success")
"""What a user or a content is, not what a slate brings: it belongs to no slot of a switchback."""
OF_CONTENTS = ("cold_start_success",)
"""What an arm can only be told apart by where contents are its own."""
RESAMPLES = 10_000
Floats = npt.NDArray[np.float64]


def compared(
    config: WorldConfig, split: Split, arms: tuple[Arm, Arm], state: WorldState, days: int, step: Callable[[], None]
) -> Floats:
    """What each arm's users have of ``METRICS`` in an experiment, ``[2, M]``."""
    now, reports = divided.opened(config, split, arms, state), (list[metrics.Report](), list[metrics.Report]())
    for _ in range(days):
        now, told = divided.run_day(config, split, arms, now)
        for mine, report in zip(reports, told, strict=True):
            mine.append(world.to_host(report))
        step()
    return np.stack([values(metrics.over(config, mine)) for mine in reports])


def seen_by(design: str, metric: str) -> bool:
    """Whether a design can tell the arms apart by a metric."""
    if design == "switchback":
        return metric not in LASTING
    return design == "co_diverted" or metric not in OF_CONTENTS


def values(found: dict[str, float]) -> Floats:
    return np.array([found[name] for name in METRICS])


def study(
    config: WorldConfig, arms: tuple[Arm, Arm], designs: Sequence[Split], seeds: Sequence[int], burn_in: int, days: int,
    step: Callable[[], None],
) -> dict[str, Any]:  # fmt: skip
    """True and estimated effects, treated over control, of each metric under each design.

    Nobody is held out, so that halves make a whole.
    """
    config = config.override({"heating.holdout": 0.0})
    true, found = list[Floats](), {split.design: list[Floats]() for split in designs}
    for seed in seeds:
        state = world.burnt_in(config, seed, burn_in, step)
        true.append(np.stack([values(lived(config, arm, state, days, step)) for arm in arms]))
        for split in designs:
            found[split.design].append(compared(config, split, arms, state, days, step))
    truth = np.stack(true)
    return {
        "arms": [arm.name for arm in arms],
        "seeds": len(seeds),
        "days": days,
        "true": {name: told(truth[:, :, i]) for i, name in enumerate(METRICS)},
        "designs": {
            design: {
                name: {"effect": told(each[:, :, i]), "bias": told(each[:, :, i], truth[:, :, i])}
                for i, name in enumerate(METRICS)
                if seen_by(design, name)
            }
            for design, each in ((design, np.stack(rows)) for design, rows in found.items())
        },
    }


def told(pairs: Floats, truth: Floats | None = None) -> dict[str, float]:
    """Effect of pairs (control, treated) ``[seeds, 2]``, in units of the metric, with a paired bootstrap over seeds.

    Given the true pairs, how far it is off, as a share of the true effect.
    """
    picks = np.random.default_rng(0).integers(0, len(pairs), (RESAMPLES, len(pairs)))

    def of(at: npt.NDArray[np.int64] | slice) -> Floats:
        effect = pairs[at].mean(-2)
        lift = effect[..., 1] - effect[..., 0]
        if truth is None:
            return lift
        right = truth[at].mean(-2)
        return lift / (right[..., 1] - right[..., 0]) - 1.0

    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.nanpercentile(of(picks), [2.5, 97.5])
        return Interval(float(of(slice(None))), float(low), float(high))._asdict()
