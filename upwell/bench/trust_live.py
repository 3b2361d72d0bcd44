"""A click farm against the running service: what it wins, what honest contents lose, how soon an alarm is raised."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import httpx
import numpy as np

from upwell.bench.crash_parts import free_port
from upwell.client import Client
from upwell.errors import UpwellError
from upwell.model import Content, Interaction, User

DAY_MS = 86_400_000
CONTENTS, TARGETS, USERS, BOTS = 200, 5, 400, 5_000
CALLERS = 4
BOTS_WATCH = 6
"""Of ten clicks; people watch eight."""
MANY = 50
BATCH = 100
"""Fake events a call."""
PATIENCE_S = 60.0
LIVES = {"quiet": (True, False), "farm, nobody judges": (False, True), "farm, judged": (True, True)}
"""Whether there is a judge, and whether there is a farm."""


def run(seconds: float, events_per_minute: int, seed: int, step: Callable[[], None]) -> dict[str, Any]:
    """The same honest traffic three times, each on a service of its own."""
    result = dict[str, Any]()
    for name, (trust, farm) in LIVES.items():
        with TemporaryDirectory(prefix="upwell-farm-") as folder, served(Path(folder), trust) as url:
            result[name] = lived(url, seconds, events_per_minute if farm else 0, seed)
        step()
    quiet, judged = result["quiet"], result["farm, judged"]
    return result | {
        "events_per_minute": events_per_minute,
        "honest_heated_kept": judged["honest_heated_share"] / max(quiet["honest_heated_share"], 1e-9),
        "honest_impressions_kept": judged["honest_impression_share"] / max(quiet["honest_impression_share"], 1e-9),
    }


@contextmanager
def served(folder: Path, trust: bool) -> Generator[str]:
    """A service on a folder, on this machine alone."""
    port = free_port()
    command = [sys.executable, "-c", "from upwell.cli import main; main()", "serve", "--port", str(port)]
    given = {
        "UPWELL_TRUST": str(trust).lower(), "UPWELL_TICK_S": "1", "UPWELL_DAILY_IMPRESSIONS": "100000",
        "UPWELL_LIVE_CONTENTS": str(CONTENTS),
    }  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with (folder / "service.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--data", str(folder / "data")], stdout=log, stderr=log, env=os.environ | given
        )
        try:
            until_s = time.monotonic() + PATIENCE_S
            while time.monotonic() < until_s and process.poll() is None:
                try:
                    if httpx.get(f"{url}/readyz").is_success:
                        yield url
                        return
                except httpx.TransportError:
                    time.sleep(0.1)
            raise UpwellError(f"the service did not start: {(folder / 'service.log').read_text()[-500:]}")
        finally:
            process.terminate()
            process.wait()


def lived(url: str, seconds: float, events_per_minute: int, seed: int) -> dict[str, Any]:
    """Honest traffic for so long, with a farm beside it from the beginning on."""
    rng, now_ms = np.random.default_rng(seed), time.time_ns() // 1_000_000
    quality = rng.beta(1.5, 8.0, CONTENTS)
    quality[:TARGETS] = 0.01  # what buys clicks is no good
    with Client(url, timeout_s=10.0) as client:
        for n in range(CONTENTS):
            young = n < TARGETS or n % 4 == 0
            client.put_content(
                Content(
                    id=f"c{n}",
                    creator_id=f"by{n}",
                    tags=(f"t{n % 12}",),
                    published_at=now_ms - (DAY_MS // 2 if young else 20 * DAY_MS),
                )
            )
        for n in range(USERS):
            client.put_user(User(id=f"u{n}", created_at=now_ms - 300 * DAY_MS))
    stop, began_s = Event(), time.monotonic()
    with ThreadPoolExecutor(CALLERS + 2) as pool:
        callers = [pool.submit(people, url, quality, seed + n, stop) for n in range(CALLERS)]
        farm = pool.submit(clicks, url, events_per_minute, stop) if events_per_minute else None
        alarm = pool.submit(alarmed, url, began_s, stop)
        time.sleep(seconds)
        stop.set()
        slates = sum(one.result() for one in callers)
        sent = farm.result() if farm is not None else 0
        alarm_s = alarm.result()
    with Client(url, timeout_s=10.0) as client:
        each = [client.content(f"c{n}") for n in range(CONTENTS)]
    heated = np.array([one["counts"]["heated"] for one in each])
    shown = np.array([one["counts"]["impressions"] for one in each])
    price = np.array([one["grant"]["price_coins"] for one in each])
    young = np.array([n % 4 == 0 and n >= TARGETS for n in range(CONTENTS)])
    return {
        "slates": slates,
        "fake_events": sent,
        "farm_heated": int(heated[:TARGETS].sum()),
        "farm_coins": float((heated * price)[:TARGETS].sum()),
        "all_coins": float((heated * price).sum()),
        "honest_heated_share": float(heated[TARGETS:].sum() / shown.sum()),
        "honest_impression_share": float(shown[young].sum() / shown.sum()),
        "alarm_s": alarm_s,
        "consequences": sorted({one["trust"]["consequence"] for one in each[:TARGETS]}),
        "honest_frozen": sum(one["trust"]["consequence"] in ("frozen", "zeroed") for one in each[TARGETS:]),
    }


def people(url: str, quality: np.ndarray, seed: int, stop: Event) -> int:
    """Users who look at slates, click what is good and watch it; returns how many slates there were."""
    rng, slates = np.random.default_rng([seed, 7]), 0
    with Client(url, timeout_s=10.0) as client:
        while not stop.is_set():
            user = f"u{int(rng.integers(USERS))}"
            among = rng.choice(CONTENTS, 60, replace=False)
            scores = quality[among] + 0.05 * rng.normal(size=60)
            order = np.argsort(-scores)
            answer = client.recommend(user, [(f"c{among[i]}", float(scores[i])) for i in order], size=10)
            told = [
                answer.click(item.id, completion=0.9 if rng.random() < 0.8 else 0.1)
                for item in answer.items
                if rng.random() < quality[int(item.id[1:])]
            ]
            if told:
                client.interactions(told)
            slates += 1
            time.sleep(0.05)
    return slates


def clicks(url: str, events_per_minute: int, stop: Event) -> int:
    """Bots who click the targets and watch what they click as often as people do nearly, at an even rate.

    Returns how many events were taken.
    """
    taken, n, next_s = 0, 0, time.monotonic()
    with Client(url, timeout_s=10.0) as client:
        while not stop.is_set():
            batch = [
                Interaction(
                    event_id=f"f{n + k}", content_id=f"c{(n + k) % TARGETS}", user_id=f"b{(n + k) // TARGETS % BOTS}",
                    ts=time.time_ns() // 1_000_000, kind="click", clicked=True,
                    completion=0.9 if (n + k) % 10 < BOTS_WATCH else 0.1,
                )
                for k in range(BATCH)
            ]  # fmt: skip
            taken += client.interactions(batch).accepted
            n += BATCH
            next_s += 60.0 * BATCH / events_per_minute
            stop.wait(max(next_s - time.monotonic(), 0.0))
    return taken


def alarmed(url: str, began_s: float, stop: Event) -> float | None:
    """Seconds until the metrics tell of a content that is frozen or of ``MANY`` doubted users; None: they never do."""
    with closing(httpx.Client(base_url=url, timeout=10.0)) as http:
        while not stop.is_set():
            told = dict(re.findall(r"^upwell_trust_(\w+) (\S+)$", http.get("/metrics").text, re.M))
            if float(told["frozen"]) > 0 or float(told["doubted_users"]) >= MANY:
                return time.monotonic() - began_s
            stop.wait(0.5)
    return None
