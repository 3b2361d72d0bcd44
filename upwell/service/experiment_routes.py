"""Routes of experiments: begin, widen, watch and end them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Query, Request
from msgspec import Meta
from starlette.responses import Response

from upwell.errors import BadRequest
from upwell.model import Id, Share
from upwell.regulator.designs import fitting
from upwell.service import (
    arms,
    audit,
    experiment_checks,
    experiment_effects,
    experiment_guard,
    experiment_segments,
    experiments,
)
from upwell.service.cold import answer, body_as, checked, node_of, who_of
from upwell.service.errors import Refused, store_down
from upwell.service.experiments import Held, Plan
from upwell.service.live import attributes
from upwell.service.node import Node
from upwell.state.errors import StoreDown

Why = Annotated[str, Query(max_length=audit.WHY_LETTERS, description="for the audit log")]


class Ramp(msgspec.Struct, forbid_unknown_fields=True):
    """Other shares for some arms."""

    shares: Annotated[dict[str, Share], Meta(min_length=1, max_length=64)]


class Asker(msgspec.Struct, forbid_unknown_fields=True):
    """A user, and what the platform says of them as it would in a request: for targets."""

    id: Id
    context: dict[str, str | float | bool] = {}


class Askers(msgspec.Struct, forbid_unknown_fields=True):
    """Users whose arm is asked for."""

    users: Annotated[tuple[Asker, ...], Meta(min_length=1, max_length=10_000)]


def add_routes(app: FastAPI) -> None:
    app.add_api_route("/v1/experiments", get_experiments, methods=["GET"])
    app.add_api_route("/v1/experiments", post_experiment, methods=["POST"], status_code=201)
    app.add_api_route("/v1/experiments/{id:path}/arms", post_arms, methods=["POST"])
    app.add_api_route("/v1/experiments/{id:path}", get_experiment, methods=["GET"])
    app.add_api_route("/v1/experiments/{id:path}", patch_experiment, methods=["PATCH"])
    app.add_api_route("/v1/experiments/{id:path}", delete_experiment, methods=["DELETE"])


async def get_experiments(http: Request) -> Response:
    """Experiments, the latest first."""
    try:
        _, found = await asyncio.to_thread(experiments.read, node_of(http).store)
    except StoreDown:
        raise store_down() from None
    return answer({"experiments": [line(one) for one in found.every[::-1]]})


async def post_experiment(http: Request) -> Response:
    """Begin an experiment: its arms decide from the next request on. Without a `design` it gets the one that fits what
    its arms change."""
    node, who, now_ms = node_of(http), who_of(http), node_of(http).clock()
    try:
        plan = await body_as(http, Plan)
    except BadRequest as error:
        raise Refused(422, "invalid", str(error), "experiment") from None
    if "design" not in msgspec.json.decode(await http.body())["experiment"]:
        design = fitting(plan.experiment)
        plan = msgspec.structs.replace(plan, experiment=msgspec.structs.replace(plan.experiment, design=design))
    await node.change_experiments(lambda every: every.begin(plan, who, now_ms))
    return answer(await told(node, plan.experiment.name), 201)


async def get_experiment(id: str, http: Request) -> Response:
    """An experiment with its arms' figures, effects, checks and what to do."""
    return answer(await told(node_of(http), checked(id)))


async def post_arms(id: str, http: Request) -> Response:
    """The arm that each of these users is in, in their order; null who is in none. Exposes nobody.

    For what the platform itself does by arm, such as to rank by the arm's ranker before it asks for a slate.
    """
    node, body = node_of(http), await body_as(http, Askers)
    now_ms, name = node.clock(), checked(id)
    try:
        found = (await asyncio.to_thread(experiments.read, node.store))[1]
    except StoreDown:
        raise store_down() from None
    held = found.of(name)
    rows = node.live.users.rows.at
    known = [
        attributes(one.context, node.live.users.record[row] if (row := rows.get(one.id)) is not None else None, now_ms)
        for one in body.users
    ]
    users = [one.id for one in body.users]
    return answer({"stage": held.stage, "arms": arms.dealt(found, name, node.settings.holdout, users, known, now_ms)})


async def patch_experiment(id: str, http: Request, why: Why = "") -> Response:
    """Widen or narrow arms; what is counted of them begins anew."""
    node, who, now_ms = node_of(http), who_of(http), node_of(http).clock()
    ramp = await body_as(http, Ramp)
    await node.change_experiments(lambda every: every.ramp(checked(id), ramp.shares, who, now_ms, why))
    return answer(await told(node, id))


async def delete_experiment(id: str, http: Request, why: Why = "") -> Response:
    """End an experiment: all of its users are as everybody from the next request on. Its figures stay."""
    node, who, now_ms = node_of(http), who_of(http), node_of(http).clock()
    await node.change_experiments(lambda every: every.stop(checked(id), who, now_ms, why))
    return answer(await told(node, id))


async def told(node: Node, name: str) -> dict[str, Any]:
    """An experiment and what came of it so far. Raises Refused 404 and 429."""
    try:
        found = (await asyncio.to_thread(experiments.read, node.store))[1]
        held = found.of(name)
        seen = await asyncio.to_thread(experiment_effects.tallies, node.store, held)
        looks = await asyncio.to_thread(experiment_guard.looks, node.store, name)
    except StoreDown:
        raise store_down() from None
    others = [one for one in found.every if one.name != name]
    return line(held) | experiment_effects.told(held, seen) | {
        "segments": experiment_segments.told(held, seen),
        "checks": experiment_checks.told(held, seen, others),
        "looks": looks,
    }  # fmt: skip


def line(held: Held) -> dict[str, Any]:
    return {
        "name": held.name, "running": held.running, "since_ms": held.since_ms, "stage": held.stage,
        "plan": held.plan, "history": held.history,
    }  # fmt: skip
