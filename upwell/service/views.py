"""What people are shown of a content, a user and a decision."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import numpy as np

from upwell.agents import content as agent
from upwell.regulator import slate, words
from upwell.regulator.ledger import COIN
from upwell.service import fold, story, trust, why, wire
from upwell.service.errors import Refused, store_down
from upwell.service.node import Node
from upwell.service.records import COUNTS
from upwell.service.tables import Contents
from upwell.service.ticker import Books
from upwell.service.versions import Policies, Version
from upwell.state.errors import StoreDown

MIND = ("exploitation", "curiosity", "fatigue", "satisfaction")
STORY = 1_000
"""Lines of a content's story that are read."""
KINDS = {slate.ORGANIC: "organic", slate.EXPLORED: "explored", slate.HEATED: "heated", slate.PUSHED: "pushed"}


async def content(node: Node, id: str) -> dict[str, Any]:
    """A content's state and its story, oldest first. Raises Refused 404."""
    contents, every = node.live.contents, node.regulator.every
    row = contents.rows.at.get(id)
    if row is None:
        raise Refused(404, "not_found", f"no content '{id}'", "id")
    lines = await asyncio.to_thread(node.store.tail, "grant", id, STORY)
    counts = dict(zip(COUNTS, contents.counts[row].tolist(), strict=True))
    ctr = node.live.platform_ctr
    accounts = {purse: account(books, contents, row) for purse, books in every.items()}
    coins = sum(one["budget_coins"] for one in accounts.values()) if every[""].opened[row] else node.settings.budget
    quality = agent.quality(np, counts["valid"], counts["clicks"], counts["impressions"], ctr)
    promise = agent.promise(np, counts["clicks"], counts["impressions"], ctr)
    return {
        "content": contents.info[row],
        "counts": counts,
        "posterior": {"quality": float(quality), "promise": float(promise)},
        "grant": accounts.pop(""),
        "budget_coins": coins,
        "purses": accounts,  # of experiments' arms that have money of their own
        "trust": {
            "proven_cheat": bool(contents.cheat[row]),
            "consequence": trust.consequence(float(contents.low[row])),
        },
        "age_days": (node.clock() - int(contents.published_ms[row])) / 86_400_000,
        "story": [story.told(line) for line in lines],
    }


def account(books: Books, contents: Contents, row: int) -> dict[str, Any]:
    """A content's account of a purse."""
    books.fit(row + 1)
    granted, released = int(books.of["granted"][row]), int(books.of["released"][row])
    spent = int(contents.spent(books.purse, np.asarray([row]))[0])
    return {
        "granted": granted,
        "spent": spent,
        "released": released,
        "outstanding": max(granted - released - spent, 0),
        "price_coins": int(books.of["price_units"][row]) / COIN,
        "budget_coins": int(books.of["budget_units"][row]) / COIN,
    }


def trusted_of(node: Node, id: str) -> dict[str, Any]:
    """What is thought of a content. Raises Refused 404."""
    if id not in node.live.contents.rows.at:
        raise Refused(404, "not_found", f"no content '{id}'", "id")
    return {"content": id, **node.trust.of(id)}


async def trusted(node: Node) -> dict[str, Any]:
    """Who is doubted, the most doubtful first. Raises Refused 429."""
    try:
        silent = await asyncio.to_thread(node.trust.silent)
    except StoreDown:
        raise store_down() from None
    told = node.trust.told
    return {
        "judge": "none" if not node.trust.wanted else "silent" if silent else "there",
        "contents": [{"content": id, **node.trust.of(id)} for id in list(told.contents)[:STORY]],
        "creators": dict(list(told.creators.items())[:STORY]),
        "ring": told.ring[:STORY],
        "doubted_users": len(told.doubted),
        "appeals": node.trust.appeals.of,
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


async def decision(node: Node, line: wire.Logged, content: str | None) -> dict[str, Any]:
    """A decision: each place with its contributions and in words; of ``content``, what it lacked to be shown."""
    shown = [place.id for place in [*line.places, *line.instead] if place.kind == slate.HEATED]
    stories = await asyncio.to_thread(lambda: {id: node.store.tail("grant", id, STORY) for id in shown})
    out = {
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
        "experiments": {one.experiment: one.arm for one in line.experiments},
        "mind": dict(zip(MIND, line.mind, strict=True)) if line.mind else None,
        "explore_probability": line.question.probability if line.question is not None else 0.0,
        "items": [item(place, k, stories, line) for k, place in enumerate(line.places)],
        "instead": [item(place, k, stories, line) for k, place in enumerate(line.instead)],
    }
    return out if content is None else out | {"content": content, "ways": why.ways(line, content)}


def item(place: wire.Place, position: int, stories: dict[str, list[bytes]], line: wire.Logged) -> dict[str, Any]:
    """A place; of a heated one also the grant that paid for it."""
    about = words.groups(place.contributions)
    says = words.of_place(place.reasons, about)
    return {
        "id": place.id,
        "position": position,
        "kind": KINDS[place.kind],
        "propensity": place.propensity,
        "stochastic": place.stochastic,
        "reasons": place.reasons,
        "logit": place.logit,
        "contributions": place.contributions,
        "groups": about,
        "grant": story.paying(stories.get(place.id, ()), line.ts, line.purse),
        "sentence": says.en,
        "sentence_zh": says.zh,
    }


async def policies_of(node: Node) -> Policies:
    """Who gets which version. Raises Refused 409 where there are none, and 429."""
    try:
        return await asyncio.to_thread(node.versions.read, node.clock())
    except StoreDown:
        raise store_down() from None


async def policies(node: Node) -> dict[str, Any]:
    """Versions of the policy, the latest first. Raises Refused."""
    found = await policies_of(node)
    return {
        "live": found.live, "trial": found.trial or None, "share": found.share, "base": found.base,
        "before": found.before[::-1], "versions": [version(one) for one in found.versions[::-1]],
    }  # fmt: skip


def version(one: Version) -> dict[str, Any]:
    """A version and its life so far."""
    return {"id": one.id, "parent": one.parent or None, "state": one.state, "history": one.history}
