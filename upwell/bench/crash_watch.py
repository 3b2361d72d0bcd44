"""Two witnesses of a crash run: one keeps the journal's files, one follows the ledger from tick to tick."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from upwell.events.local import beyond
from upwell.events.port import DECISIONS, INTERACTIONS, Entry
from upwell.regulator.ledger import COIN
from upwell.service.records import in_purse, purse_of
from upwell.service.settings import Settings
from upwell.service.ticker import BOOKS
from upwell.state import StoreDown, open_store
from upwell.state.port import pages

LOOK_S = 0.05


class Move(NamedTuple):
    """What became of a content's purse between two looks."""

    granted: int  # impressions
    released: int
    budget_units: int
    due_units: int  # by the grants and releases
    emptied: bool


def moved(before: Mapping[str, int], after: Mapping[str, int], purse: str) -> Move:
    """Of a content's counters, in all purses."""
    then, now = ({name: of.get(in_purse(name, purse), 0) for name in BOOKS} for of in (before, after))
    granted, released, budget_units = (now[name] - then[name] for name in ("granted", "released", "budget_units"))
    due_units = released * then["price_units"] - granted * now["price_units"]
    return Move(granted, released, budget_units, due_units, now["budget_units"] == 0)


class Witness(threading.Thread):
    """Looks until told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()

    def look(self) -> None:
        raise NotImplementedError

    def run(self) -> None:
        while not self._over.wait(LOOK_S):
            self.look()

    def finish(self) -> None:
        self._over.set()
        self.join()
        self.look()


class Archive(Witness):
    """Links to every segment of the journals, so that what a service drops once it is saved can be read still."""

    def __init__(self, journal: Path, kept: Path) -> None:
        super().__init__()
        self._journal, self._kept = journal, kept

    def look(self) -> None:
        for path in self._journal.glob("*/*.frames"):
            there = self._kept / path.parent.name / path.name
            if not there.exists():
                there.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError, FileExistsError):
                    os.link(path, there)

    def entries(self) -> list[Entry]:
        """All that was ever in the journals, each journal's in its order."""
        folders = sorted(self._kept.iterdir()) if self._kept.exists() else []
        return [e for path in folders for part in beyond(path, path.name, {}, 10_000) for e in part]


class Auditor(Witness):
    """Adds up coins of every content, over all its purses: what grants take and releases give back must be what its
    budgets lost, and what moves from one purse to another stays the same."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._url, self._first = settings.store_url, round(settings.budget * COIN)
        self._store = open_store(self._url)
        self._before: dict[str, dict[str, int]] = {}
        self.steps = 0
        self.unclear = 0  # several moves between two looks
        self.error_units = 0

    def look(self) -> None:
        try:
            now = dict(pages(self._store.scan_counters, "grant"))
        except StoreDown:
            return
        for id, book in now.items():
            before = self._before.get(id) or {"budget_units": self._first}
            if book == before:
                continue
            purses = {purse_of(name)[1] for name in book}
            moves = [moved(before, book, purse) for purse in purses]
            if any(one.granted and one.released for one in moves):
                self.unclear += 1
                continue
            self.steps += 1
            if any(one.released for one in moves) and all(one.emptied for one in moves):
                continue  # a cheat's, or of a content taken down: forfeit
            self.error_units += abs(sum(one.budget_units - one.due_units for one in moves))
        self._before = now


def in_kafka(settings: Settings, folder: Path) -> list[Entry]:
    """All that the topics hold."""
    from upwell.events import open_log

    log = open_log(settings.events_url, folder, folding=False)
    consumer = log.consumer(f"crash-{os.getpid()}", lambda partitions: {}, (DECISIONS, INTERACTIONS))
    found: list[Entry] = []
    quiet = 0
    try:
        while quiet < 10:
            part = consumer.poll(5_000, 0.5)
            found += part
            quiet = 0 if part or not consumer.assigned() or sum(consumer.lag().values()) else quiet + 1
    finally:
        consumer.close()
        log.close()
    return found
