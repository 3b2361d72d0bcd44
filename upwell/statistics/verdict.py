"""What to do with a running experiment: ship, keep going or stop, in a sentence; looked at as often as one likes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from upwell.statistics.effects import sequential_effect
from upwell.statistics.evidence import Interval
from upwell.statistics.moments import Moments
from upwell.statistics.srm import ALARM

Decision = Literal["ship", "keep going", "stop"]
ZH: dict[Decision, str] = {"ship": "上线", "keep going": "继续", "stop": "停止"}


class Metric(NamedTuple):
    """A metric as the two arms have it so far, CUPED taken or not; above zero."""

    name: str
    control: Moments
    treated: Moments
    mde: float  # see sequential_effect
    tolerated: float = 0.0  # relative loss that is no reason to stop
    up_is_good: bool = True


class Verdict(NamedTuple):
    """What to do, and why in English and Chinese. ``lifts`` by metric, all of them right together with 1 - alpha."""

    decision: Decision
    why: str
    why_zh: str
    lifts: dict[str, Interval]


def verdict(goal: Metric, guardrails: Sequence[Metric], mismatch: float, alpha: float = 0.05) -> Verdict:
    """What to do at a look, be it one of thousands.

    Stop where assignment is broken, or the interval of a metric's lift lies wholly beyond the loss that is tolerated in
    it; ship where the goal has gained and no guardrail can have lost more than is tolerated; else keep going. Intervals
    are always valid, and alpha is parted among the metrics (Bonferroni): the chance that an arm which harms none beyond
    what is tolerated is ever stopped is ``alpha`` at most, beside that of a false alarm of assignment.

    Args:
        mismatch: ``srm.sequential_srm``'s p-value.
    """
    watched = [goal, *guardrails]
    lifts = {one.name: lift(one, alpha / len(watched)) for one in watched}

    def said(decision: Decision, why: str, why_zh: str) -> Verdict:
        return Verdict(decision, f"{decision.capitalize()}: {why}.", f"{ZH[decision]}：{why_zh}。", lifts)

    if mismatch < ALARM:
        return said(
            "stop",
            f"the arms do not hold their shares of users (p = {mismatch:.1g}), so no effect can be trusted",
            f"各组样本比例与设定不符（p = {mismatch:.1g}），任何效果都不可信",
        )
    for one in watched:
        if gain(one, lifts).high < -one.tolerated:
            beyond, beyond_zh = limit(one)
            return said("stop", f"{told(one, lifts)}, a loss {beyond}", f"{told_zh(one, lifts)}，损失{beyond_zh}")
    for one in watched:
        if not np.isfinite(lifts[one.name].high):
            return said("keep going", f"too little is known of {one.name} yet", f"{one.name} 的数据尚不足以判断")
    if gain(goal, lifts).high < 0.0:
        beyond, beyond_zh = limit(goal)
        certain = gain(goal, lifts).low >= -goal.tolerated
        return said(
            "keep going",
            f"{told(goal, lifts)}, a loss {'within what is tolerated' if certain else f'that may be {beyond}'}",
            f"{told_zh(goal, lifts)}，损失{'在容忍范围内' if certain else f'可能{beyond_zh}'}",
        )
    if gain(goal, lifts).low <= 0.0:
        return said(
            "keep going",
            f"{told(goal, lifts)}, which may be a gain or a loss",
            f"{told_zh(goal, lifts)}，尚不能判断是增是损",
        )
    for one in guardrails:
        if gain(one, lifts).low < -one.tolerated:
            beyond, beyond_zh = limit(one)
            return said(
                "keep going",
                f"{told(goal, lifts)}, a gain, but {told(one, lifts)}, which may be a loss {beyond}",
                f"{told_zh(goal, lifts)}，确有增益，但{told_zh(one, lifts)}，损失仍可能{beyond_zh}",
            )
    held = ", and no guardrail lost more than is tolerated" if guardrails else ""
    held_zh = "，且各护栏指标的损失均在容忍范围内" if guardrails else ""
    return said("ship", f"{told(goal, lifts)}, a gain{held}", f"{told_zh(goal, lifts)}，确有增益{held_zh}")


def lift(metric: Metric, alpha: float) -> Interval:
    """The metric's lift, always valid."""
    return Interval(*map(float, sequential_effect(metric.control, metric.treated, metric.mde, alpha).lift))


def gain(metric: Metric, lifts: Mapping[str, Interval]) -> Interval:
    """The lift in the metric's good direction."""
    found = lifts[metric.name]
    return found if metric.up_is_good else Interval(-found.mean, -found.high, -found.low)


def told(metric: Metric, lifts: Mapping[str, Interval]) -> str:
    mean, low, high = lifts[metric.name]
    return f"{metric.name} changed by {mean:+.1%} ({low:+.1%} to {high:+.1%})"


def told_zh(metric: Metric, lifts: Mapping[str, Interval]) -> str:
    mean, low, high = lifts[metric.name]
    return f"{metric.name} 变化 {mean:+.1%}（{low:+.1%} 至 {high:+.1%}）"


def limit(metric: Metric) -> tuple[str, str]:
    """What a loss of it must not go beyond."""
    if not metric.tolerated:
        return "where none is tolerated", "超出零容忍的限度"
    return f"beyond the {metric.tolerated:.1%} tolerated", f"超出可容忍的 {metric.tolerated:.1%}"
