"""The service learns while its platform's world changes: tastes shift, a bad version is let in, liars tell of clicks.

Each scenario lives the same days, from the same morning, several times; only what its name says differs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import msgspec
import numpy as np

from upwell.agents.network import Layer, first_policy, pack_policy, save_policy
from upwell.demo import run
from upwell.demo.bootstrap import time_ms
from upwell.demo.kept import once
from upwell.demo.live import Figures
from upwell.demo.run import Live, Lived
from upwell.errors import BadRequest
from upwell.experiment import metrics
from upwell.model import Interaction
from upwell.online.rollout import first_share
from upwell.service import learned, versions
from upwell.service.records import key_of
from upwell.state import open_store
from upwell.state.batch import Batch
from upwell.world.config import WorldConfig
from upwell.world.state import WorldState

NOISE, FRESH_NOISE = 0.1, 0.2
"""Of users' dials, trained and untrained: who has more to learn tries more."""
LIARS = 50
"""One in so many users tells of clicks that were none."""
FLOOD = 2_000
"""Events a tick of the one user who tells of most."""
BAD = "bad"


class Variant(NamedTuple):
    """One life of the same days."""

    given: dict[str, object]  # settings of the service
    morning: run.Morning = lambda day, state, live: state


def scenario(name: str, days: int, steps: int, folder: Path) -> dict[str, Variant]:
    """The lives of a scenario by name. Raises BadRequest for one unknown.

    ``steps``: the setting ``learn_steps``. ``folder``: for a policy that was never trained.
    """
    learning: dict[str, object] = {"learn": True, "dial_noise": NOISE, "learn_steps": steps}
    still: dict[str, object] = {"dial_noise": NOISE}
    if name == "shift":
        return {
            "not told": Variant(still, shifted(days // 2, silent=True)),
            "told": Variant(still, shifted(days // 2)),
            "learning": Variant(learning, shifted(days // 2)),
            "no shift": Variant(learning),
        }
    if name == "versions":
        # With what was never trained there is something to learn within days.
        fresh: dict[str, object] = {"policy": str(untrained(folder)), "dial_noise": FRESH_NOISE}
        return {"still": Variant(still | fresh), "learning": Variant(learning | fresh, bad_version(days // 2))}
    if name == "poison":
        lies = {"false clicks": false_clicks, "replayed": replayed, "one user": flood}
        attacked = {what: Variant(learning, attacked_by(make)) for what, make in lies.items()}
        return {"unattacked": Variant(learning)} | attacked
    raise BadRequest(f"unknown scenario '{name}': choose from shift, versions, poison")


def untrained(folder: Path) -> Path:
    """A file of agents that play by the rules, and could learn."""
    path = folder / "untrained.npz"
    save_policy(path, first_policy(0), {})
    return path


def lived(
    config: WorldConfig, state: WorldState, variant: Variant, days: int, step: Callable[[Figures], None]
) -> tuple[Lived, list[dict[str, Any]]]:
    """A life, and the versions of the policy at its end, oldest first."""
    kept: list[dict[str, Any]] = []

    def morning(day: int, now: WorldState, live: Live) -> WorldState:
        if day < days:
            return variant.morning(day, now, live)
        kept.extend(versions_of(live))
        return now

    return run.live(config, state, days, step, float("inf"), morning, **variant.given), kept


def versions_of(live: Live) -> list[dict[str, Any]]:
    """All versions of the policy of a service, oldest first."""
    base = learned.load(live.settings.policy)
    if base is None:
        return []
    with closing(open_store(live.settings.store_url)) as store:
        _, policies = versions.read(store, base.version, 0)
    return [msgspec.to_builtins(one) | {"state": one.state} for one in policies.versions]


# ---- what happens


def shifted(on: int, silent: bool = False) -> run.Morning:
    """On a day all users come to love other tags: each loves the tag half a turn on as much as this one before.

    ``silent``: from then on the service hears of nothing that they do, so that neither it nor a learner can follow.
    """

    def morning(day: int, state: WorldState, live: Live) -> WorldState:
        if day != on:
            return state
        live.platform.tells = not silent
        users, half = state.users, live.platform.config.sizes.tags // 2
        others = {name: jnp.roll(getattr(users, name), half, -1) for name in ("interest", "discovered", "met_at")}
        return state._replace(users=users._replace(**others))

    return morning


def bad_version(on: int) -> run.Morning:
    """On a day a version that turns every correction of the order the wrong way is put on trial, past the gate."""

    def morning(day: int, state: WorldState, live: Live) -> WorldState:
        base = learned.load(live.settings.policy) if day == on else None
        if base is None:
            return state
        *others, last = base.policy.user
        turned = (*others, Layer(-np.asarray(last.weight), -np.asarray(last.bias)))
        body = pack_policy(base.policy._replace(user=turned), {"parent": base.version})
        now_ms = time_ms(24.0 * float(state.day))
        with closing(open_store(live.settings.store_url)) as store:
            number, policies = versions.read(store, base.version, now_ms)
            if policies.trial:
                policies.roll_back("made room for the bad one", now_ms)
            share = first_share(int(state.dau))
            policies.try_out(BAD, share, "let in past the gate, to see what becomes of it", now_ms)
            batch = Batch()
            versions.put(batch, number, policies, {BAD: body})
            store.write(batch)
        return state

    return morning


def attacked_by(make: Callable[[], Callable[[list[Interaction]], list[Interaction]]]) -> run.Morning:
    """From the first day on liars tell what they tell."""

    def morning(day: int, state: WorldState, live: Live) -> WorldState:
        if day == 0:
            live.platform.also = make()
        return state

    return morning


def false_clicks() -> Callable[[list[Interaction]], list[Interaction]]:
    """One user in ``LIARS`` tells, of each slate that they clicked in, of ten more purchases of what they clicked."""

    def also(events: list[Interaction]) -> list[Interaction]:
        liars = (event for event in events if key_of(event.user_id) % LIARS == 0)
        return [
            msgspec.structs.replace(
                event, event_id=f"{event.event_id}-lie{n}", completion=1.0, dwell_s=3_600.0, shared=True,
                purchased=True, value=1_000.0, kind="purchase",
            )
            for event in liars
            for n in range(10)
        ]  # fmt: skip

    return also


def replayed() -> Callable[[list[Interaction]], list[Interaction]]:
    """All that was told in this tick and in the one before is told again."""
    before: list[Interaction] = []

    def also(events: list[Interaction]) -> list[Interaction]:
        again = [*before, *events]
        before[:] = events
        return again

    return also


def flood() -> Callable[[list[Interaction]], list[Interaction]]:
    """One user tells of ``FLOOD`` events a tick, of the slates that they were shown first."""
    first: list[Interaction] = []
    number = 0

    def also(events: list[Interaction]) -> list[Interaction]:
        nonlocal number
        if not events:
            return []
        first.extend(events[: not first])
        (event, *_) = [event for event in events if event.user_id == first[0].user_id] or first
        begin, number = number, number + FLOOD
        return [
            msgspec.structs.replace(event, event_id=f"flood{n}", ts=events[0].ts, completion=1.0, value=100.0)
            for n in range(begin, number)
        ]

    return also


# ---- what came of it


def objectives(config: WorldConfig, raw: dict[str, float], reports: Iterable[metrics.Report]) -> list[float]:
    """Of each day, GMV against raw ranking's of the days before."""
    return [metrics.objective(config, metrics.expected(metrics.daily(config, report)), raw) for report in reports]


def recovered(curves: dict[str, list[float]], on: int, days: int = 7) -> dict[str, float]:
    """Share of the objective lost to a shift that is won back, over the last three of ``days`` days after it.

    What is lost is what the life without a shift has over the one whose service is told nothing.
    """
    end = min(on + days, len(curves["no shift"]))
    mean = {name: float(np.mean(curve[max(end - 3, on) : end])) for name, curve in curves.items()}
    lost = mean["no shift"] - mean["not told"]
    return {name: (mean[name] - mean["not told"]) / lost for name in ("told", "learning")} | {"lost": lost}


class Told(msgspec.Struct):
    """What is told of a life, and kept."""

    objective: list[float]  # of each day
    versions: list[dict[str, Any]]
    decisions: int
    events: int
    degraded: int
    p99_ms: float
    seconds: float


def summary(name: str, days: int, lives: dict[str, Told]) -> dict[str, Any]:
    """What is reported of a scenario."""
    curves = {what: life.objective for what, life in lives.items()}
    found: dict[str, Any] = {
        "objective": curves,
        "mean_objective": {what: float(np.mean(curve)) for what, curve in curves.items()},
    }
    for figure in ("versions", "decisions", "events", "degraded", "p99_ms", "seconds"):
        found[figure] = {what: getattr(life, figure) for what, life in lives.items()}
    if name == "shift" and curves.keys() >= {"not told", "no shift", "told", "learning"}:
        found["recovered"] = recovered(curves, days // 2)
    if name == "versions":
        if "still" in curves:
            found["won"] = {what: float(np.mean(curve[-7:])) for what, curve in curves.items()}
        kept = lives["learning"].versions if "learning" in lives else []
        bad = next((one for one in kept if one["id"] == BAD), None)
        found["bad_version_largest_share"] = max(event["share"] for event in bad["history"]) if bad else 0.0
        found["bad_version_ended_as"] = bad["state"] if bad else "forgotten"
    if name == "poison" and "unattacked" in curves:
        base = found["mean_objective"]["unattacked"]
        found["lost_to"] = {what: 1.0 - mean / base for what, mean in found["mean_objective"].items()}
    return found


class Morning(NamedTuple):
    """What every life begins with, and raw ranking's metrics of the days before."""

    state: WorldState
    raw: dict[str, float]


def run_all(
    name: str, variants: dict[str, Variant], config: WorldConfig, begin: Callable[[], Morning], days: int,
    step: Callable[[Figures], None], kept: Path,
) -> dict[str, Any]:  # fmt: skip
    """Lives of a scenario, one after the other; those that ``kept`` holds are not lived again."""
    morning: Morning | None = None

    def live(variant: Variant) -> Told:
        nonlocal morning
        morning = morning or begin()
        began = time.perf_counter()
        life, versions = lived(config, morning.state, variant, days, step)
        figures = life.figures
        return Told(
            objectives(config, morning.raw, life.reports), versions, figures.decisions, figures.events,
            figures.degraded, figures.quantile_ms(0.99), time.perf_counter() - began,
        )  # fmt: skip

    lives = {what: once(kept / f"{what}.json", Told, partial(live, variant)) for what, variant in variants.items()}
    return summary(name, days, lives)
