"""Routes of goals and of the audit log: what operators want, what is proposed for it, what holds, and who said so."""

from __future__ import annotations

import asyncio
import secrets
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Query, Request
from msgspec import Meta
from starlette.responses import Response

from upwell.errors import BadRequest
from upwell.goals import program, reading
from upwell.goals.goal import Aim, Bound, Goal, Proposal
from upwell.goals.measures import PLATFORM
from upwell.goals.weights import USUAL, shares
from upwell.model import Id, Millis, Weights
from upwell.service import audit, goal_guard
from upwell.service.cold import answer, body_as, checked, node_of, who_of
from upwell.service.errors import Refused, store_down
from upwell.service.goals import OPEN, Goals, Held, InForce
from upwell.service.node import Node
from upwell.state.errors import StoreDown

Why = Annotated[str, Query(max_length=audit.WHY_LETTERS, description="for the audit log")]
LATEST_MS = 253_402_300_799_999


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """A goal as operators tell it. Without ``aims`` and ``bounds`` these are read from the words."""

    text: Annotated[str, Meta(min_length=1, max_length=4_000)]
    aims: Annotated[tuple[Aim, ...], Meta(max_length=16)] = ()
    bounds: Annotated[tuple[Bound, ...], Meta(max_length=16)] = ()
    from_ms: Millis | None = None
    until_ms: Millis | None = None
    id: Id | None = None


class Weighing(msgspec.Struct, forbid_unknown_fields=True):
    """A proposal of an operator's own: only the weights' ratios count."""

    weights: Weights
    program: Annotated[str, Meta(max_length=2_000)] = ""


def add_routes(app: FastAPI) -> None:
    app.add_api_route("/v1/goals", get_goals, methods=["GET"])
    app.add_api_route("/v1/goals", put_goal, methods=["PUT"])
    app.add_api_route("/v1/goals/{id:path}/proposal", put_proposal, methods=["PUT"])
    app.add_api_route("/v1/goals/{id:path}/approve", post_approve, methods=["POST"])
    app.add_api_route("/v1/goals/{id:path}/refuse", post_refuse, methods=["POST"])
    app.add_api_route("/v1/goals/{id:path}", delete_goal, methods=["DELETE"])
    app.add_api_route("/v1/audit", get_audit, methods=["GET"])


async def get_goals(http: Request) -> Response:
    """Goals with what is proposed for them, the weights that hold, and those that held before."""
    return answer(await told(node_of(http)))


async def put_goal(http: Request) -> Response:
    """Ask for something, in words; `aims` and `bounds` say the same as data. A goal that is not in force yet may be
    put again in other words."""
    node, who = node_of(http), who_of(http)
    wanted, now_ms = await body_as(http, Wanted), node.clock()
    goal, unread = await asyncio.to_thread(goal_of, wanted, now_ms)
    await node.change_goals(lambda goals: goals.ask(goal, who, now_ms))
    return answer(await told(node) | {"id": goal.id, "unread": unread})


async def put_proposal(id: str, http: Request) -> Response:
    """Weights of an operator's own for a goal, in place of what was proposed for it."""
    node, who = node_of(http), who_of(http)
    given, now_ms = await body_as(http, Weighing), node.clock()
    proposal = Proposal(
        goal_id=checked(id), weights=shared(given.weights), source="operator", created_at=now_ms,
        program=printed(given.program),
    )  # fmt: skip
    await node.change_goals(lambda goals: goals.propose(proposal, who, now_ms))
    return answer(await told(node))


async def post_approve(id: str, http: Request, why: Why = "") -> Response:
    """Take what is proposed: its weights hold from the next request on, or from `from_ms`. A large move of the weights
    needs both operators' tokens."""
    node, who = node_of(http), who_of(http)
    now_ms, keys = node.clock(), 1 + (node.settings.second_token is not None)
    await node.change_goals(lambda goals: goals.approve(checked(id), why, who, now_ms, USUAL.large, keys))
    return answer(await told(node))


async def post_refuse(id: str, http: Request, why: Why = "") -> Response:
    """A goal, or what is proposed for it, is not to come in force."""
    node, who, now_ms = node_of(http), who_of(http), node_of(http).clock()
    await node.change_goals(lambda goals: goals.refuse(checked(id), why, who, now_ms))
    return answer(await told(node))


async def delete_goal(id: str, http: Request, why: Why = "") -> Response:
    """Lift a goal: the weights before it hold again from the next request on."""
    node, who, now_ms = node_of(http), who_of(http), node_of(http).clock()
    await node.change_goals(lambda goals: goals.lift(checked(id), why, who, now_ms))
    return answer(await told(node))


async def get_audit(
    http: Request,
    since: Annotated[int, Query(ge=0, le=LATEST_MS, description="Unix ms")] = 0,
    limit: Annotated[int, Query(ge=1, le=audit.KEPT)] = 100,
) -> Response:
    """Who changed what, when and why: the latest entries since a time, oldest first."""
    node = node_of(http)
    try:
        entries = await asyncio.to_thread(audit.read, node.store, since, limit)
    except StoreDown:
        raise store_down() from None
    return answer({"entries": [msgspec.structs.asdict(entry) for entry in entries]})


# ---- what is taken


def goal_of(wanted: Wanted, now_ms: int) -> tuple[Goal, tuple[str, ...]]:
    """A goal, and what of its words was not understood. Raises Refused 422."""
    aims, bounds, until_ms, unread = wanted.aims, wanted.bounds, wanted.until_ms, ()
    if not aims and not bounds:
        aims, bounds, period_ms, unread = reading.read(wanted.text, now_ms)
        until_ms = until_ms if until_ms is not None else period_ms
    for name, metric in [
        *((f"aims[{i}].metric", aim.metric) for i, aim in enumerate(aims)),
        *((f"bounds[{i}].metric", bound.metric) for i, bound in enumerate(bounds)),
    ]:
        if metric not in PLATFORM:
            raise Refused(422, "invalid", f"no metric '{metric}': one of {', '.join(PLATFORM)}", name)
    for i, bound in enumerate(bounds):
        low, high = bound.low, bound.high
        if (low is None and high is None) or (low is not None and high is not None and low > high):
            raise Refused(422, "invalid", "give low, or high, or both with low below high", f"bounds[{i}]")
    if until_ms is not None and until_ms <= max(now_ms, wanted.from_ms or 0):
        raise Refused(422, "invalid", "it is over before it begins", "until_ms")
    id = checked(wanted.id) if wanted.id is not None else f"goal-{secrets.token_hex(4)}"
    goal = Goal(
        id=id, text=wanted.text, created_at=now_ms, aims=aims, bounds=bounds, from_ms=wanted.from_ms, until_ms=until_ms
    )
    return goal, unread


def shared(weights: Weights) -> Weights:
    """Weights as shares. Raises Refused 422."""
    found = shares(weights)
    if found is None:
        raise Refused(422, "invalid", "weights are finite, and one of them is above 0", "weights")
    return Weights(**dict(zip(Weights.__struct_fields__, found.tolist(), strict=True)))


def printed(text: str) -> str:
    """A program as it is kept; "" for none. Raises Refused 422."""
    try:
        return program.printed(program.parse(text)) if text.strip() else ""
    except BadRequest as error:
        raise Refused(422, "invalid", str(error), "program") from None


# ---- what is told


async def told(node: Node) -> dict[str, Any]:
    """All of goals, the latest first. Raises Refused 429."""
    now_ms = node.clock()
    try:
        goals = await asyncio.to_thread(node.course.read, now_ms)
        watched = await asyncio.to_thread(goal_guard.look, node.store, goals)
    except StoreDown:
        raise store_down() from None
    return {
        "in_force": version(goals.now),
        "watched": None if watched is None else {
            "goal_id": watched.held.goal.id, "unwatched": watched.unwatched,
            "seen": [goal_guard.line(one, watched.held.proposal) for one in watched.seen],
        },
        "proposer": node.settings.goals_world is not None,  # else goals wait for an operator's own proposal
        "goals": [goal(goals, one) for one in goals.goals[::-1]],
        "versions": [version(one) for one in goals.versions[::-1]],
    }  # fmt: skip


def version(one: InForce) -> dict[str, Any]:
    return {"version": one.version} | msgspec.structs.asdict(one)


def goal(goals: Goals, one: Held) -> dict[str, Any]:
    """A goal; ``stale``: other weights hold than when it was proposed, so that what was predicted is of other ones."""
    moves = goals.moves(one.proposal.weights) if one.proposal is not None else None
    return {
        "id": one.goal.id, "state": one.state, "goal": one.goal, "proposal": one.proposal, "moves": moves,
        "large": moves is not None and moves > USUAL.large,
        "stale": one.state in OPEN and bool(one.against) and one.against != goals.now.version,
        "unwatched": {} if one.proposal is None else goal_guard.claims_of(one.goal, one.proposal)[1],
        "approvals": one.approvals, "history": one.history,
    }  # fmt: skip
