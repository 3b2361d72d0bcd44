"""A live experiment on the simulated platform: the real service deals its users, decides for those whom Upwell serves,
shows everybody else what their arm's own ranker decides, and counts what comes of all; beside the truth.

The truth is known here: the same platform, from the same morning, under each arm alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from msgspec import Meta

from upwell.arms.registry import ARMS
from upwell.demo import run
from upwell.demo.bootstrap import Names, time_ms
from upwell.demo.live import Figures, Platform
from upwell.errors import BadRequest
from upwell.experiment import metrics
from upwell.experiment.runner import lived
from upwell.regulator import layers
from upwell.service.experiments import Plan
from upwell.world import divided, world
from upwell.world.arm import Arm
from upwell.world.config import WorldConfig
from upwell.world.divided import Split
from upwell.world.population import users_per_cell
from upwell.world.state import WorldState

DAY_S = 86_400
TRUTH = ("ctr", "real_engagement", "gmv_per_dau", "heated_share", "d1_retention")
"""Of the service's metrics of an arm, those that the simulated platform knows by the same name. It tells the service of
what is clicked alone, so that minutes watched are not among them."""
DESIGNS = ("user_split", "budget_split")
"""Those that a platform's own arms can be played under."""


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The simulated platform of a replay, the table ``platform`` of its file."""

    users: Annotated[int, Meta(ge=100, le=1_000_000)] = 2_000
    contents: Annotated[int, Meta(ge=100, le=1_000_000)] = 5_000
    days: Annotated[int, Meta(ge=1, le=365)] = 30
    burn_in: Annotated[int, Meta(ge=1, le=365)] = 56
    seed: Annotated[int, Meta(ge=0, le=2**31)] = 0


class Replay(NamedTuple):
    """An experiment and the platform that it is run on."""

    plan: Plan
    stage: Stage
    rankers: tuple[Arm | None, ...]  # of each arm, its own; None: Upwell decides

    @property
    def warmup_days(self) -> int:
        """In which Upwell decides for everybody."""
        return self.plan.warmup_s // DAY_S


class Lived(NamedTuple):
    """What came of a replay."""

    told: dict[str, Any]  # as ``GET /v1/experiments/{id}``
    morning: WorldState  # when the arms began
    reports: dict[str, list[metrics.Report]]  # of each arm's users, by day, as the platform sees them
    figures: Figures
    seconds: float


def read(given: dict[str, Any]) -> Replay:
    """A replay's file as data. Raises BadRequest."""
    given = dict(given)
    try:
        stage = msgspec.convert(given.pop("platform", {}), Stage)
        plan = msgspec.convert(given, Plan)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from None
    if plan.experiment.design not in DESIGNS:
        raise BadRequest(f"design {plan.experiment.design}: a replay plays {' and '.join(DESIGNS)}")
    if plan.warmup_s % DAY_S:
        raise BadRequest(f"warmup_s {plan.warmup_s}: a replay warms up for whole days, of {DAY_S} s")
    return Replay(plan, stage, tuple(ranker_of(arm) for arm in plan.experiment.arms))


def ranker_of(arm: layers.Arm) -> Arm | None:
    """The simulated platform's own that an arm names. Raises BadRequest."""
    name = arm.settings.get("ranker")
    if name is None:
        return None
    known = {member.name: member for family in ARMS.values() for member in family}
    if name not in known:
        raise BadRequest(f"arm {arm.name}: no ranker '{name}': one of {', '.join(known)}")
    if arm.settings.get("mode") != "ranker":
        raise BadRequest(f'arm {arm.name}: give it mode = "ranker" too, else Upwell decides over its own ranker')
    return known[str(name)]


def live(
    replay: Replay, config: WorldConfig, state: WorldState, step: Callable[[Figures], None], **given: object
) -> Lived:
    """The experiment, to its last day, or to that on which its guard ends it. ``state`` is left untouched.

    Who is in no arm, as everybody while it warms up, is decided for as if there were no experiment: the holdout is
    shown the ranker's order. ``given``: settings of the service.
    """
    experiment = replay.plan.experiment
    arms = experiment.arms
    split = Split(experiment.design, shares=(*(arm.share for arm in arms), 0.0))
    # The service holds out by its own names for users; of the others nobody is held out twice.
    config = config.override({"heating.holdout": 0.0})
    with run.served(config, state, step, **given) as around:
        platform, began_s = around.platform, time.perf_counter()
        players = tuple(platform.arm() if ranker is None else platform.ranked_by(ranker) for ranker in replay.rankers)
        players = (*players, platform.arm())
        platform.operate("POST", "/v1/experiments", replay.plan, time_ms(24.0 * float(state.day)))
        now = divided.opened(config, split, players, state)
        reports: dict[str, list[metrics.Report]] = {arm.name: [] for arm in arms}
        told = dict[str, Any]()
        nobody = jnp.full(now.state.users.created_day.shape, len(arms), jnp.int8)
        for _ in range(replay.warmup_days):
            now, _ = divided.run_day(config, split, players, now, nobody)
        morning = jax.tree.map(jnp.copy, now.state._replace(arm=state.arm))
        for _ in range(replay.stage.days):
            whose = dealt(platform, replay.plan, now.state)
            now, found = divided.run_day(config, split, players, now, whose)
            for name, report in zip(reports, found, strict=False):
                reports[name].append(world.to_host(report))
            at_ms = time_ms(24.0 * float(now.state.day))
            told = platform.operate("GET", f"/v1/experiments/{experiment.name}", None, at_ms)
            if not told["running"]:
                break
    return Lived(told, morning, reports, platform.figures, time.perf_counter() - began_s)


def dealt(platform: Platform, plan: Plan, state: WorldState) -> jax.Array:
    """Each user's arm as the service deals them, i8 ``[S, U]``; one past the last: none."""
    created = np.asarray(state.users.created_day)
    cell = users_per_cell(platform.config.sizes)
    names = [Names.user(s * cell + u, int(day)) for (s, u), day in np.ndenumerate(created)]
    now_ms = time_ms(24.0 * float(state.day))
    arms = platform.arms_of(plan.experiment.name, names, now_ms)
    code = {arm.name: k for k, arm in enumerate(plan.experiment.arms)}
    none = len(code)
    return jnp.asarray([none if arm is None else code[arm] for arm in arms], jnp.int8).reshape(created.shape)


def truth(
    replay: Replay, config: WorldConfig, state: WorldState, days: int, step: Callable[[], None]
) -> dict[str, dict[str, float]]:
    """Metrics of ``days`` days of each arm alone on the platform, from a state that is left untouched."""
    config = config.override({"heating.holdout": 0.0})
    arms = zip(replay.plan.experiment.arms, replay.rankers, strict=True)
    return {
        arm.name: lived(config, ranker if ranker is not None else alone(arm), state, days, step) for arm, ranker in arms
    }


def alone(arm: layers.Arm) -> Arm:
    """The simulated platform's arm that decides as the service does for an arm. Raises BadRequest."""
    mode, policy = arm.settings.get("mode", "policy"), arm.settings.get("policy", "marl")
    name = {"ranker": "raw", "rules": "rules", "policy": str(policy)}[str(mode)]
    if name not in ARMS or arm.settings.keys() - {"mode", "policy"}:
        raise BadRequest(
            f"arm {arm.name}: what it would do alone is known of a mode, or a shipped policy's name, alone"
        )
    return ARMS[name][0]


def compared(told: dict[str, Any], true: dict[str, dict[str, float]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Of each arm after the control, by metric, the lift that the service tells with its interval, the true one, and
    whether the interval covers it."""
    control = true[told["arms"][0]["arm"]]
    out: dict[str, dict[str, dict[str, Any]]] = {}
    for arm, effects in told["effects"].items():
        out[arm] = {}
        for metric in TRUTH:
            of, lift = effects[metric], true[arm][metric] / control[metric] - 1.0 if control[metric] else None
            known = None not in (of["low"], of["high"], lift)
            out[arm][metric] = {
                "lift": of["lift"], "low": of["low"], "high": of["high"], "true": lift,
                "covered": of["low"] <= lift <= of["high"] if known else None,
            }  # fmt: skip
    return out
