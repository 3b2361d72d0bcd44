"""Verdicts on running experiments."""

import re

import numpy as np
import pytest

from upwell.statistics.moments import Table, moments
from upwell.statistics.verdict import Metric, verdict

RNG = np.random.default_rng(0)


def metric(name: str, lift: float, tolerated: float = 0.0, users: int = 100_000, **more) -> Metric:
    """So many users an arm, whose mean is one and deviation a third; the arm's, ``lift`` above it."""
    arm = np.repeat([0, 1], users)
    values = RNG.gamma(9.0, 1.0 / 9.0, 2 * users) * (1.0 + lift * arm)
    found = moments(Table(arm, values), 2)
    return Metric(name, found.at(0), found.at(1), mde=0.02, tolerated=tolerated, **more)


def test_ship_when_the_goal_has_gained_and_guardrails_hold():
    found = verdict(metric("ctr", 0.05), [metric("gmv", -0.01, 0.02), metric("gini", -0.1, up_is_good=False)], 1.0)
    assert found.decision == "ship"
    assert re.fullmatch(
        r"Ship: ctr changed by \+[45]\.\d% \(\+4\.\d% to \+5\.\d%\), a gain, "
        r"and no guardrail lost more than is tolerated\.",
        found.why,
    )
    assert re.fullmatch(
        r"上线：ctr 变化 \+[45]\.\d%（\+4\.\d% 至 \+5\.\d%），确有增益，且各护栏指标的损失均在容忍范围内。",
        found.why_zh,
    )
    assert verdict(metric("ctr", 0.05), [], 1.0).why.endswith("a gain.")


@pytest.mark.parametrize(
    ("guardrail", "says"),
    [
        (metric("gmv", -0.05, 0.02), "a loss beyond the 2.0% tolerated"),
        (metric("gmv", 0.05, 0.02, up_is_good=False), "a loss beyond the 2.0% tolerated"),
        (metric("gmv", -0.02), "a loss where none is tolerated"),
    ],
)
def test_stop_when_a_guardrail_is_wholly_beyond_what_is_tolerated(guardrail, says):
    found = verdict(metric("ctr", 0.05), [guardrail], 1.0)
    assert found.decision == "stop"
    assert found.why.startswith("Stop: gmv changed by")
    assert says in found.why
    assert "损失超出" in found.why_zh


def test_keep_going_while_a_loss_may_still_be_tolerable():
    found = verdict(metric("ctr", 0.05), [metric("gmv", -0.02, 0.02)], 1.0)
    assert found.decision == "keep going"
    assert "gain, but gmv" in found.why
    assert "损失仍可能超出可容忍的 2.0%" in found.why_zh


def test_stop_when_the_goal_itself_has_lost():
    assert verdict(metric("ctr", -0.05), [], 1.0).decision == "stop"


def test_a_loss_of_the_goal_that_is_tolerated_is_called_a_loss():
    for tolerated, says, says_zh in (
        (1.0, "a loss within what is tolerated", "损失在容忍范围内"),
        (0.05, "a loss that may be beyond the 5.0% tolerated", "损失可能超出可容忍的 5.0%"),
    ):
        found = verdict(metric("ctr", -0.05, tolerated), [], 1.0)
        assert found.decision == "keep going"
        assert says in found.why
        assert says_zh in found.why_zh


def test_keep_going_when_nothing_is_certain():
    assert verdict(metric("ctr", 0.0), [], 1.0).why.endswith("which may be a gain or a loss.")
    early = verdict(metric("ctr", 0.05), [metric("gmv", -0.5, users=1)], 1.0)
    assert (early.decision, early.why) == ("keep going", "Keep going: too little is known of gmv yet.")


def test_stop_when_assignment_is_broken_whatever_the_effects_are():
    found = verdict(metric("ctr", 0.05), [], 2e-5)
    assert found.decision == "stop"
    assert "p = 2e-05" in found.why


def test_more_metrics_make_wider_intervals():
    goal = metric("ctr", 0.05)
    alone, one_of_five = verdict(goal, [], 1.0), verdict(goal, [metric(f"m{n}", 0.0, 0.1) for n in range(4)], 1.0)
    widths = [of.lifts["ctr"].high - of.lifts["ctr"].low for of in (alone, one_of_five)]
    assert widths[1] > 1.1 * widths[0]


def test_an_arm_that_does_nothing_is_not_stopped_nor_shipped():
    rng, sims, looks, users = np.random.default_rng(1), 60, 15, 100
    ended = 0
    for _ in range(sims):
        each = [
            moments(Table(np.repeat(np.arange(looks * 2), users), rng.exponential(1.0, looks * 2 * users)), looks * 2)
            for _ in range(2)
        ]
        for look in range(looks):
            arms = [[type(of)(*(x[a : 2 * look + 2 : 2].sum(0) for x in of)) for a in (0, 1)] for of in each]
            goal, guardrail = (Metric(name, *of, mde=0.1) for name, of in zip(("goal", "guardrail"), arms, strict=True))
            if verdict(goal, [guardrail], 1.0).decision != "keep going":
                ended += 1
                break
    assert ended / sims <= 0.05
