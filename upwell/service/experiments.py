"""Experiments of the running service: which there are, since when, how far they are widened, how they ended.

One record in the store, changed by comparison (``compared``). A name is used once: it is also the salt that people are
dealt by, and whoever was in an arm before would be in it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from upwell.errors import BadRequest
from upwell.model import Share, Weights
from upwell.regulator.layers import Arm, Experiment, Layer
from upwell.service import audit, compared
from upwell.service.audit import Who
from upwell.service.errors import Refused
from upwell.state.batch import Batch
from upwell.state.port import Store

ID = OFFSET = "experiments"
"""Of the record (kind ``meta``), and of the offset that counts its changes."""
NAME_BYTES = 200
"""Of names, which are joined in ids of the store."""
KEPT = 500
"""Experiments; of more, no new one is begun: their names must not come again."""
EVENTS = 100
Metric = Literal[
    "ctr",
    "real_engagement",
    "gmv_per_user",
    "watch_minutes_per_user",
    "impressions_per_user",
    "gmv_per_dau",
    "watch_minutes_per_dau",
    "heated_share",
    "d1_retention",
    "small_creator_share",
]
"""What is counted of each arm. A user here is one who came since the experiment began, ``dau`` users' days."""
MODES = ("ranker", "rules", "policy")
"""Who may decide, each doing more than the one before."""


class Guards(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Guards that an arm may set for its users. The others (cap, loss of clicks) are of the platform as a whole."""

    protection_days: Annotated[float, Meta(ge=0.0)] | None = None
    chance: Annotated[float, Meta(gt=0.0)] | None = None  # of contents, where arms have money of their own


NO_GUARDS = Guards()


class Treatment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an arm may set; what it leaves out is as without the experiment.

    ``ranker`` names one of the platform's, which ranks for the arm's users before it asks: who they are it learns from
    ``POST /v1/experiments/{id}/arms``. ``weights`` steer agents that learned; contents' and the system's where arms
    have money of their own.
    """

    mode: Literal["", "ranker", "rules", "policy"] = ""
    policy: Annotated[str, Meta(min_length=1)] | None = None  # the id of a version, or a shipped policy
    exploration: Share = 1.0  # factor
    heating: bool = True
    ranker: Annotated[str, Meta(min_length=1)] | None = None
    weights: Weights | None = None
    guards: Guards = NO_GUARDS


class Guardrail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A metric that may lose no more than a share of itself: an arm that does for certain ends the experiment."""

    metric: Metric
    tolerated: Share = 0.0
    up_is_good: bool = True


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An experiment as operators ask for it. Its first arm is the control."""

    experiment: Experiment
    layer: Annotated[str, Meta(min_length=1, max_length=64)] = "main"
    metric: Metric = "ctr"
    mde: Annotated[float, Meta(gt=0.0, le=10.0)] = 0.05  # relative effect that looks are made for
    tolerated: Share = 0.0  # relative loss of the metric that is no reason to stop; 1: none is
    guardrails: Annotated[tuple[Guardrail, ...], Meta(max_length=8)] = ()
    warmup_s: Annotated[int, Meta(ge=0, le=90 * 86_400)] = 0  # see ``Held.warming``


What = Literal["running", "started", "ramped", "stopped"]


class Event(msgspec.Struct, frozen=True):
    """What became of an experiment."""

    at_ms: int
    what: What
    who: str
    name: str = ""
    why: str = ""


class Held(msgspec.Struct):
    """An experiment and its life so far."""

    plan: Plan
    history: list[Event]

    stage: int = 0  # counts its start and ramps: with each, what is counted of its arms begins anew
    since_ms: int = 0  # of the present stage

    @property
    def name(self) -> str:
        return self.plan.experiment.name

    @property
    def running(self) -> bool:
        return self.history[-1].what != "stopped"

    @property
    def warming(self) -> bool:
        """Whether its users are still as everybody, and only counted by the arms that they will be in.

        What they do then is no effect of any arm, and explains much of how they differ later (CUPED).
        """
        return self.plan.warmup_s > 0 and self.stage == 0


class Experiments(msgspec.Struct):
    """All there were. Methods change it, and raise Refused where that cannot be."""

    every: list[Held] = []  # oldest first
    told: list[audit.Entry] = []  # of changes that are not written yet

    def of(self, name: str) -> Held:
        """An experiment. Raises Refused 404."""
        found = next((one for one in self.every if one.name == name), None)
        if found is None:
            raise Refused(404, "not_found", f"no experiment '{name}'", "name")
        return found

    @property
    def running(self) -> list[Held]:
        return [one for one in self.every if one.running]

    def layers(self) -> tuple[Layer, ...]:
        """Of the experiments that run."""
        names = dict.fromkeys(one.plan.layer for one in self.running)
        return tuple(
            Layer(name=name, experiments=tuple(one.plan.experiment for one in self.running if one.plan.layer == name))
            for name in names
        )

    def begin(self, plan: Plan, who: Who, at_ms: int) -> None:
        """A new experiment runs from now on. Raises Refused."""
        name = plan.experiment.name
        check(plan)
        if any(one.name == name for one in self.every):
            raise Refused(409, "conflict", f"there was an experiment '{name}': its name deals the same people", "name")
        if len(self.every) >= KEPT:
            raise Refused(409, "conflict", f"{KEPT} experiments were begun, and more are not remembered")
        mine = settings_of(plan.experiment)
        for other in self.running:
            if other.plan.layer != plan.layer and (both := mine & settings_of(other.plan.experiment)):
                why = f"{other.name}, of another layer, sets {', '.join(sorted(both))} too: one would undo the other"
                raise Refused(409, "conflict", why, "layer")
            if other.plan.experiment.splits_money and plan.experiment.splits_money:
                why = (
                    f"{other.name} splits the pool and contents' budgets already, and one at a time can: name a design"
                )
                raise Refused(409, "conflict", why, "experiment.design")
        held = Held(plan, [Event(at_ms, "running", who.key)], since_ms=at_ms)
        try:
            Experiments([*self.running, held]).layers()
        except BadRequest as error:
            raise Refused(409, "conflict", str(error), "experiment") from None
        held.history = []
        self.every.append(held)
        self._note(held, "running", who, at_ms, "")

    def start(self, name: str, who: Who, at_ms: int) -> None:
        """The warm-up is over: arms decide from now on. Nothing where they do already. Raises Refused."""
        held = self._running(name)
        if held.warming:
            held.stage, held.since_ms = 1, at_ms
            self._note(held, "started", who, at_ms, "")

    def ramp(self, name: str, shares: Mapping[str, float], who: Who, at_ms: int, why: str) -> None:
        """Widen or narrow arms: nobody who stays in one changes arms. Raises Refused."""
        held = self._running(name)
        if held.warming:
            raise Refused(409, "conflict", f"experiment '{name}' is warming up: ramp it once its arms decide", "name")
        try:
            wider = held.plan.experiment.ramped(shares)
        except BadRequest as error:
            raise Refused(422, "invalid", str(error), "shares") from None
        held.plan = msgspec.structs.replace(held.plan, experiment=wider)
        held.stage, held.since_ms = held.stage + 1, at_ms
        self._note(held, "ramped", who, at_ms, why or ", ".join(f"{arm} {share:g}" for arm, share in shares.items()))

    def stop(self, name: str, who: Who, at_ms: int, why: str) -> None:
        """An experiment is over: all its users are as everybody again. Raises Refused."""
        self._note(self._running(name), "stopped", who, at_ms, why)

    def _running(self, name: str) -> Held:
        held = self.of(name)
        if not held.running:
            raise Refused(409, "conflict", f"experiment '{name}' is over", "name")
        return held

    def _note(self, held: Held, what: What, who: Who, at_ms: int, why: str) -> None:
        why = audit.cut(why, audit.TEXT_LETTERS)
        held.history = [*held.history, Event(at_ms, what, who.key, who.name, why)][-EVENTS:]
        self.told.append(audit.Entry(at_ms, who.key, f"experiment_{what}", held.name, who.name, why))


def check(plan: Plan) -> None:
    """Raises Refused 422 for what the service cannot carry out."""
    experiment = plan.experiment
    if len(experiment.arms) < 2:
        raise Refused(422, "invalid", "an experiment needs a control and another arm", "experiment.arms")
    if plan.warmup_s and experiment.design == "switchback":
        raise Refused(422, "invalid", "a switchback gives users no arm to be counted by: it has no warm-up", "warmup_s")
    if any(target.of != "user" for target in experiment.targets):
        why = "a whole slate is decided for its user: target by attributes of users"
        raise Refused(422, "invalid", why, "experiment.targets")
    if any("/" in arm.name for arm in experiment.arms) and experiment.splits_money:
        why = "arms that have money of their own are named without '/': their purses are experiment/arm"
        raise Refused(422, "invalid", why, "experiment.arms")
    if any(len(name.encode()) > NAME_BYTES for name in (experiment.name, *(arm.name for arm in experiment.arms))):
        raise Refused(422, "invalid", f"names of experiments and arms have at most {NAME_BYTES} bytes", "experiment")
    for arm in experiment.arms:
        treatment_of(arm)


def treatment_of(arm: Arm) -> Treatment:
    """An arm's settings, checked. Raises Refused 422."""
    where = f"experiment.arms.{arm.name}.settings"
    try:
        found = msgspec.convert(arm.settings, Treatment)
    except msgspec.ValidationError as error:
        raise Refused(422, "invalid", str(error), where) from None
    if found.weights is not None and not any(msgspec.structs.astuple(found.weights)):
        raise Refused(422, "invalid", "one of the weights must be above 0", where)
    return found


def settings_of(experiment: Experiment) -> set[str]:
    """What any of its arms sets; a policy is a mode."""
    return {"mode" if name == "policy" else name for arm in experiment.arms for name in arm.settings}


decoder = msgspec.json.Decoder(Experiments)


def read(store: Store) -> tuple[int, Experiments]:
    """The record as it is, and the number of its last change. Raises StoreDown."""
    number = store.offsets().get(OFFSET, 0)  # first: what is newer than its number is not written over
    (body,) = store.get("meta", [ID])
    return number, decoder.decode(body) if body is not None else Experiments()


def put(batch: Batch, number: int, experiments: Experiments) -> None:
    """Add a change of the record, and what the audit log says of it, to a batch."""
    told, experiments.told = experiments.told, []
    batch.put("meta", ID, msgspec.json.encode(experiments))
    audit.tell(batch, *told)
    batch.advance(OFFSET, number, number + 1)


def change(store: Store, changed: Callable[[Experiments], object]) -> Experiments:
    """Change the record. Raises StoreDown, what ``changed`` raises, and Refused 409."""

    def attempt(batch: Batch) -> Experiments:
        number, experiments = read(store)
        changed(experiments)
        put(batch, number, experiments)
        return experiments

    return compared.change(store, attempt, "experiments")
