"""The audit log: who changed what, when and why. A list in the store, written with the change itself.

So an entry is there exactly when its change is, for all servers, whatever is killed when.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import msgspec

from upwell.state.batch import KEEP, Batch
from upwell.state.port import Store

ID = "audit"
"""Of the list (kind ``meta``)."""
KEPT = KEEP
"""Entries; the oldest beyond them fall off."""
NAME_LETTERS, WHY_LETTERS, TEXT_LETTERS = 128, 500, 8_000


class Who(NamedTuple):
    """Who changes something: a key, or a part of the service; and the name that a caller gave, which proves nothing."""

    key: str
    name: str = ""


AUTOMATIC, CLOCK, GUARD, LEARNER, PROPOSER = map(Who, ("automatic", "clock", "guard", "learner", "proposer"))


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change. ``detail``: what came of it, and of a proposal what a model was asked and said; never a secret."""

    at_ms: int
    who: str
    what: str
    of: str = ""  # the goal or version
    name: str = ""
    why: str = ""
    detail: dict[str, Any] = {}


decoder = msgspec.json.Decoder(Entry)


def cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def tell(batch: Batch, *entries: Entry) -> None:
    """Add entries to a batch, of which no other list keeps less."""
    for entry in entries:
        batch.append("meta", ID, msgspec.json.encode(entry))


def read(store: Store, since_ms: int, limit: int) -> list[Entry]:
    """The latest ``limit`` entries since a time, oldest first. Raises StoreDown."""
    entries = map(decoder.decode, store.tail("meta", ID, KEPT))
    # Servers' clocks differ by a little: what was written later is later.
    later = list(itertools.dropwhile(lambda entry: entry.at_ms < since_ms, entries))
    return later[-limit:]
