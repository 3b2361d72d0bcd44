"""What people are shown of a content, a user and a decision."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import numpy as np

from upwell.agents import content as agent
from upwell.regulator import slate
from upwell.regulator.explain import REASONS
from upwell.regulator.ledger import COIN
from upwell.service import fold, wire
from upwell.service.errors import Refused
from upwell.service.node import Node
from upwell.service.records import COUNTS

MIND = ("exploitation", "curiosity", "fatigue", "satisfaction")
KINDS = {slate.ORGANIC: "organic", slate.EXPLORED: "explored", slate.HEATED: "heated"}


def content(node: Node, id: str) -> dict[str, Any]:
    """A content's state. Raises Refused 404."""
    contents, books = node.live.contents, node.regulator.books
    row = contents.rows.at.get(id)
    if row is None:
        raise Refused(404, "not_found", f"no content '{id}'", "id")
    counts = dict(zip(COUNTS, contents.counts[row].tolist(), strict=True))
    ctr = node.live.platform_ctr
    books.fit(row + 1)
    granted, released = int(books.of["granted"][row]), int(books.of["released"][row])
    quality = agent.quality(np, counts["valid"], counts["clicks"], counts["impressions"], ctr)
    promise = agent.promise(np, counts["clicks"], counts["impressions"], ctr)
    return {
        "content": contents.info[row],
        "counts": counts,
        "posterior": {"quality": float(quality), "promise": float(promise)},
        "grant": {
            "granted": granted,
            "spent": counts["heated"],
            "released": released,
            "outstanding": max(granted - released - counts["heated"], 0),
            "price_coins": int(books.of["price_units"][row]) / COIN,
        },
        "budget_coins": int(books.of["budget_units"][row]) / COIN if books.opened[row] else node.settings.budget,
        "trust": {"proven_cheat": bool(contents.cheat[row])},
        "age_days": (node.clock() - int(contents.published_ms[row])) / 86_400_000,
    }


async def user(node: Node, id: str) -> dict[str, Any]:
    """A user's mind state now, and their history, oldest first. Raises Refused 404."""
    await node.recall.users([id])
    row = node.live.users.rows.at.get(id)
    if row is None:
        raise Refused(404, "not_found", f"no user '{id}'", "id")
    record = node.live.users.record[[row]]
    now = fold.arrive(node.settings, record, node.clock())
    await node.saver.flush()
    history = await asyncio.to_thread(node.store.tail, "history", id, 100)
    return {
        "id": id,
        "created_at": int(record["created_ms"][0]),
        "mind": dict(zip(MIND, map(float, now["mind"][0]), strict=True)),
        "expected_click_rate": float(now["expected"][0]),
        "requests": int(record["requests"][0]),
        "last_request_at": int(record["visited_ms"][0]) or None,
        "held_out": bool(node.live.users.held_out[row]),
        "history": [msgspec.Raw(line) for line in history],
    }


def decision(line: wire.Logged) -> dict[str, Any]:
    """A decision, each place with its contributions and a sentence."""
    return {
        "decision_id": line.decision_id,
        "user_id": line.user_id,
        "ts": line.ts,
        "arm": line.arm,
        "policy_version": line.policy_version,
        "weights_version": line.weights_version,
        "weights": line.weights,
        "degraded": line.why is not None,
        "why": line.why,
        "shadow": bool(line.instead),
        "items": [shown(place, k) for k, place in enumerate(line.places)],
        "instead": [shown(place, k) for k, place in enumerate(line.instead)],
    }


def shown(place: wire.Place, position: int) -> dict[str, Any]:
    largest = sorted(place.contributions.items(), key=lambda part: -abs(part[1]))[:3]
    because = ", ".join(f"{name} {value:+.2f}" for name, value in largest if value)
    sentence = " ".join(REASONS[reason] for reason in place.reasons)
    return {
        "id": place.id,
        "position": position,
        "kind": KINDS[place.kind],
        "propensity": place.propensity,
        "stochastic": place.stochastic,
        "reasons": place.reasons,
        "logit": place.logit,
        "contributions": place.contributions,
        "sentence": f"{sentence} ({because})" if because else sentence,
    }
