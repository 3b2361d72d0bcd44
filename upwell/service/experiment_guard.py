"""The guard that ends an experiment whose arm harms users, and the looks at experiments that are kept."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import msgspec

from upwell.service import experiments
from upwell.service.audit import CLOCK, GUARD
from upwell.service.errors import Refused
from upwell.service.experiment_effects import Seen, judged, tallies, told
from upwell.service.experiments import Held
from upwell.state.batch import Batch
from upwell.state.port import Store

log = logging.getLogger(__name__)

LOOK_MS = 6 * 3_600_000
"""Between two looks that are kept: what curves are drawn of."""
LOOKS = 400
"""Of those kept, how many are told, the latest."""


def looks_id(name: str) -> str:
    """Of the list (kind ``meta``) of looks at an experiment."""
    return f"experiment {name}"


def looks(store: Store, name: str, many: int = LOOKS) -> list[dict[str, Any]]:
    """Kept looks, oldest first. Raises StoreDown."""
    return [msgspec.json.decode(body) for body in store.tail("meta", looks_id(name), many)]


def keep_look(store: Store, held: Held, seen: Seen, now_ms: int) -> None:
    """Keep what is seen now, where the last look is long enough ago. Raises StoreDown."""
    last = looks(store, held.name, 1)
    if last and now_ms - last[0]["at_ms"] < LOOK_MS:
        return
    found = told(held, seen)
    batch = Batch()
    look = {"at_ms": now_ms, "stage": held.stage, "arms": found["arms"], "effects": found["effects"]}
    batch.append("meta", looks_id(held.name), msgspec.json.encode(look))
    store.write(batch)


def watch(store: Store, now_ms: int) -> None:
    """Start arms whose warm-up is over, end experiments whose arms harm users for certain, or whose assignment is
    broken. Raises StoreDown."""
    for held in experiments.read(store)[1].running:
        if held.warming:
            if now_ms >= held.since_ms + 1_000 * held.plan.warmup_s:
                with suppress(Refused):  # others may have ended it by now
                    experiments.change(store, lambda every, name=held.name: every.start(name, CLOCK, now_ms))
            continue
        seen = tallies(store, held)
        keep_look(store, held, seen, now_ms)
        stop = next((one for one in judged(held, seen) if one.decision == "stop"), None)
        if stop is None:
            continue
        log.warning("experiment %s is ended: %s", held.name, stop.why)
        with suppress(Refused):
            experiments.change(store, lambda every, name=held.name, why=stop.why: every.stop(name, GUARD, now_ms, why))
