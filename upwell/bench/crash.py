"""Kill after kill under load: is what was acknowledged there, once, and is everybody's state what it would have been?

``lost``: acknowledged events that the store knows nothing of, and counts below what its decisions and outcomes add up
to. ``doubled``: events twice in a history, and counts above that. ``ledger_error``: impressions shown beyond
granted - released, plus units of a coin that budgets are off, over all purses of a budget-split experiment that is
begun, widened and ended in the run. ``continuity``: share of users whose stored record is, byte for byte, what the same
log folded in one go comes to.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from upwell.bench import crash_audit as audit
from upwell.bench import crash_operator as operator
from upwell.bench.crash_load import Account, Caller, merged, register
from upwell.bench.crash_parts import Backend, Member, Service
from upwell.bench.crash_watch import Archive, Auditor, in_kafka
from upwell.errors import BadRequest, UpwellError
from upwell.events.port import Entry
from upwell.regulator.ledger import COIN
from upwell.service.records import purse_of
from upwell.service.settings import Settings, load
from upwell.state import StoreDown, open_store

CALLERS, USERS = 4, 50
CATCH_UP_S = 120.0
EARLY = 0.2
"""Share of kills that come while the service is still starting after the one before."""
SETTINGS: dict[str, Any] = {"daily_impressions": 60_000.0, "live_contents": 100.0, "tick_s": 0.5, "history": 10_000}


class Part(Protocol):
    """Something to kill. ``start`` brings it back, where it does not come back by itself."""

    name: str

    def kill(self) -> bool: ...
    def start(self) -> None: ...


class Whole:
    """The one process of a service on the embedded log."""

    name = "server"

    def __init__(self, service: Service) -> None:
        self._service = service

    def kill(self) -> bool:
        return self._service.kill()

    def start(self) -> None:
        self._service.start()


def backends_of(store: str, events: str, folder: Path) -> list[Backend]:
    """Servers to be started for this run. Raises BadRequest."""
    if store not in ("sqlite", "redis") or events not in ("embedded", "kafka"):
        raise BadRequest("--store is sqlite or redis, --events is embedded or kafka")
    names = [*(["redis"] if store == "redis" else []), *(["kafka"] if events == "kafka" else [])]
    return [Backend(name, folder / name) for name in names]


def run(
    kills: int, store: str, events: str, workers: int, seed: int, folder: Path, step: Callable[[], None]
) -> dict[str, Any]:
    """The figures of one run in an empty folder."""
    backends = backends_of(store, events, folder)
    address = {one.name: one.address for one in backends}
    given = SETTINGS | {"workers": workers, "seed": seed, "data": folder / "data"}
    if store == "redis":
        given["store"] = f"redis://{address['redis']}/0"
    if events == "kafka":
        given["events"] = f"kafka://{address['kafka']}?partitions=4"
    config = folder / "service.toml"
    config.write_text("".join(f"{k} = {json.dumps(str(v) if isinstance(v, Path) else v)}\n" for k, v in given.items()))
    settings = load(config)
    service = Service(config, folder / "service.log")
    try:
        service.start()
        service.ready()
        parts: list[Part] = [Member(service, "server"), Member(service, "worker")] if settings.shared else []
        parts = [*parts, *backends] if parts else [Whole(service), *backends]
        return _judge(settings, service, folder, _killing(kills, parts, settings, service, folder, seed, step))
    finally:
        service.kill()
        for one in backends:
            one.stop()


def _killing(
    kills: int,
    parts: list[Part],
    settings: Settings,
    service: Service,
    folder: Path,
    seed: int,
    step: Callable[[], None],
) -> tuple[Account, Counter[str], Archive, Auditor]:
    draw = random.Random(seed)
    archive, auditor = Archive(settings.data / "journal", folder / "kept"), Auditor(settings)
    operator.begin(service.url)  # before there is anything to heat: the day's pool is granted at once
    contents = register(service.url, time.time_ns() // 1_000_000)
    changes = {kills // 2: operator.widen, max(3 * kills // 4, kills // 2 + 1): operator.end}
    callers = [Caller(n, service.url, contents, USERS, seed) for n in range(CALLERS)]
    for thread in (archive, auditor, *callers):
        thread.start()
    killed = Counter[str]()
    while killed.total() < kills:
        if draw.random() >= EARLY:
            service.ready()
            time.sleep(draw.uniform(0.2, 2.0))
        else:
            time.sleep(draw.uniform(0.0, 1.0))
        part = draw.choice(parts)
        archive.look()
        if part.kill():
            killed[part.name] += 1
            step()
            time.sleep(draw.uniform(0.0, 0.3))
            part.start()
            change = changes.pop(killed.total(), None)
            if change is not None:
                change(service.url)
    service.ready()
    time.sleep(2.0)
    for caller in callers:
        caller.stop()
    for caller in callers:
        caller.join()
        if caller.error is not None:
            raise UpwellError(f"{caller.name} failed: {caller.error!r}")
    return merged([caller.account for caller in callers]), killed, archive, auditor


def _judge(
    settings: Settings, service: Service, folder: Path, ran: tuple[Account, Counter[str], Archive, Auditor]
) -> dict[str, Any]:
    account, killed, archive, auditor = ran
    caught_up_s = _caught_up(settings, account)
    archive.finish()
    auditor.finish()
    service.stop()
    entries: list[Entry] = archive.entries()
    undelivered = 0
    if settings.events_url.startswith("kafka:"):
        entries, journals = in_kafka(settings, folder / "reader"), entries
        undelivered = audit.undelivered(journals, entries)
    with_store = open_store(settings.store_url)
    stored = audit.Stored(with_store)
    live, decisions = audit.replayed(settings, stored.contents, entries)
    same, differ = audit.continuity(stored, live)
    below, above = audit.miscounted(stored)
    missing, again = audit.missing(stored, account.events), audit.repeated(with_store, stored.users, settings.history)
    with_store.close()
    return {
        "kills": killed.total(), "killed": dict(killed), "acknowledged": len(account.events),
        "slates": account.answered,
        "lost": missing + below, "doubled": again + above,
        "lost_events": missing, "counts_below": below, "counts_above": above,
        "undelivered": undelivered,
        "ledger_error": audit.overspent(stored) + auditor.error_units,
        "ledger_steps": auditor.steps, "ledger_steps_unclear": auditor.unclear,
        "heated": sum(of.get("heated", 0) for of in stored.counted.values()),
        "heated_by_arms": sum(n for of in stored.counted.values() for name, n in of.items() if purse_of(name)[1]),
        "coins_in_arms": sum(n for of in stored.books.values() for name, n in of.items() if in_arm(name)) / COIN,
        "continuity": same, "differ": differ, "users": len(stored.users),
        "decisions_stored": len(stored.lines), "decisions_replayed": decisions, "rejected": account.rejected,
        "unlogged": account.unlogged, "retries": account.retries, "caught_up_s": caught_up_s,
    }  # fmt: skip


def in_arm(counter: str) -> bool:
    """Whether it counts an arm's coins: none may be left there once its experiment is over."""
    what, purse = purse_of(counter)
    return bool(purse) and what == "budget_units"


def _caught_up(settings: Settings, account: Account) -> float:
    """Seconds until the store has all that was acknowledged; the most that is waited for when it does not come."""
    began = time.monotonic()
    store = open_store(settings.store_url)
    while time.monotonic() - began < CATCH_UP_S:
        try:
            if not audit.missing(audit.Stored(store), account.events):
                break
        except StoreDown:
            pass
        time.sleep(0.5)
    store.close()
    # Decisions that nothing was told of are folded in the same time.
    time.sleep(2.0)
    return round(time.monotonic() - began, 1)
