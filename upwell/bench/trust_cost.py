"""What trust costs: evidence an event, memory, and the ring search on a large platform."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy import sparse

from upwell.regulator.trust import evidence, judge, rings
from upwell.regulator.trust.evidence import Events


def cost(accounts: int, contents: int, creators: int, batch: int, batches: int, seed: int) -> dict[str, Any]:
    """Times in µs an event and s a search, and bytes each content and account take.

    Events are of a platform on which most come by the feed and a tenth directly; regulars of creators follow topics,
    and one ring of 30 accounts and 12 creators is hidden among them.
    """
    rng = np.random.default_rng(seed)
    creator_of = rng.integers(0, creators, contents)
    known, who = evidence.none_of_contents(np, contents), evidence.none_of_accounts(np, accounts)
    doubt = np.zeros(contents + 1, np.float32)
    spent = list[float]()
    for n in range(batches):
        content = rng.integers(0, contents, batch)
        direct = rng.random(batch) < 0.1
        clicked = direct | (rng.random(batch) < 0.1)
        valid = clicked & (rng.random(batch) < 0.6)
        events = Events(
            rng.integers(0, accounts, batch), content, creator_of[content], content % 64, np.full(batch, n), direct,
            ~direct, clicked, valid, valid & (rng.random(batch) < 0.05),
        )  # fmt: skip
        begun = time.perf_counter()
        known, who = evidence.learn(np, known, who, events, doubt)
        spent.append(time.perf_counter() - begun)
    heads = judge.shipped()
    nothing = np.zeros(creators + 1, np.float32), np.zeros(accounts + 1, np.float32)
    visitors = judge.Visitors(np.ones(contents + 1, np.float32), np.zeros(contents + 1, np.float32))
    begun = time.perf_counter()
    of = judge.traits(
        np, heads, known, who, creator_of, np.full(accounts + 1, 100.0, np.float32), *nothing, visitors,
        doubt, nothing[1],
    )  # fmt: skip
    judge.stand(np, heads, of)
    judging = time.perf_counter() - begun
    visits, topic, ring = regulars(rng, accounts, creators)
    begun = time.perf_counter()
    found = rings.find(visits, topic)
    search = time.perf_counter() - begun
    return {
        "us_an_event": 1e6 * float(np.median(spent)) / batch,
        "batch": batch,
        "judging_s": judging,
        "ring_search_s": search,
        "visits_kept": int(visits.nnz),
        "ring_found": float((found.creators[ring] > 0).mean()),
        "others_in_rings": int((found.creators > 0).sum() - (found.creators[ring] > 0).sum()),
        "bytes_a_content": sum(column.itemsize for column in known),
        "bytes_an_account": sum(column.itemsize for column in who),
        "bytes_a_visited_content": 8,
    }


def regulars(rng: np.random.Generator, accounts: int, creators: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """Direct visits of accounts to creators, the creators' topics, and who of them is in the ring."""
    topics = 500
    topic = np.arange(creators) % topics
    many = rng.integers(1, 6, accounts)
    rows = np.repeat(np.arange(accounts), many)
    liked = np.repeat(rng.integers(0, topics, accounts), many)
    columns = liked + topics * rng.integers(0, creators // topics, len(rows))
    ring, members = rng.choice(creators, 12, replace=False), rng.choice(accounts, 30, replace=False)
    rows = np.concatenate([rows, np.repeat(members, 10)])
    columns = np.concatenate([columns, *(rng.choice(ring, 10, replace=False) for _ in members)])
    times = rng.integers(1, 6, len(rows)).astype(np.float32)
    times[-300:] = 5.0
    return sparse.coo_matrix((times, (rows, columns)), (accounts, creators)).tocsr(), topic, ring
