"""Traffic for the learner's tests: a log of users who click more the nearer their dials come to where it pays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from upwell.agents.dials import TURNS
from upwell.agents.network import Policy, first_policy, forward, save_policy
from upwell.agents.observe import SEES
from upwell.events.port import DECISIONS, INTERACTIONS, Entry, Offsets
from upwell.model import Interaction, Weights
from upwell.regulator.slate import ORGANIC
from upwell.service import wire
from upwell.service.learned import WINDOW_MS
from upwell.service.settings import Settings
from upwell.state import StoreDown

SEEN, DIALS = len(SEES["user"]), len(TURNS["user"])
BEGIN = 90_000 * WINDOW_MS
DEVIATION = 0.2
SHOWN = 20
GOAL = Weights(user_satisfaction=1.0, platform_revenue=0.0, long_term=0.0)
BEST = np.zeros(DIALS)
BEST[:2] = 0.5, -0.5


def settings(folder: Path, **given) -> Settings:
    """Of a service that learns, beginning at the rules."""
    path = folder / "base.npz"
    if not path.exists():
        save_policy(path, first_policy(0), {})
    values = {"policy": str(path), "learn": True, "dial_noise": DEVIATION, "holdout": 0.2, "data": folder}
    return Settings(**values | given)


class Journal:
    """A log in memory, and a consumer of it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.at = 0

    def append(self, topic: str, key: str, ts_ms: int, value: bytes) -> None:
        n = len(self.entries)
        self.entries.append(Entry("p0", n, n + 1, topic, key, ts_ms, value))

    def consumer(self, group: str, offsets: Offsets) -> Journal:
        self.at = offsets(["p0"])["p0"]
        return self

    def assigned(self) -> list[str]:
        return ["p0"]

    def seek(self, partition: str, offset: int) -> None:
        self.at = offset

    def poll(self, max_entries: int, timeout_s: float) -> list[Entry]:
        found = self.entries[self.at : self.at + max_entries]
        self.at += len(found)
        return found

    def lag(self) -> dict[str, int]:
        return {"p0": 0}

    def close(self) -> None: ...


def flaky(write, share: float):
    """``write`` of a store that is away for a share of all writes, and goes away with its answer for more, up to .6 of
    them; and the list of these failures."""
    random, failures = np.random.default_rng(4), []

    def writes(batch) -> None:
        if (how := random.random()) < share:
            failures.append(how)
            raise StoreDown("away")
        write(batch)
        if how < 0.6:
            failures.append(how)
            raise StoreDown("away with its answer")

    return writes, failures


def hours(
    journal: Journal, rng: np.random.Generator, window: int, plays: Sequence[tuple[str, Policy]], held: Sequence[str],
    liars: int = 0, lies: int = 20,
) -> None:  # fmt: skip
    """Six hours: a slate for each user, and what they watched of it.

    ``plays``: users, each with the version and policy that decides for them. ``liars``: users beside them, who tell
    ``lies`` times of clicks on what they are shown while the first dial is turned away from where it pays.
    """
    now = BEGIN + window * WINDOW_MS
    contents = [f"c{n}" for n in range(SHOWN)]
    false = [(f"liar{n}", plays[0][1]) for n in range(liars)]
    for n, (user, (version, policy)) in enumerate([*plays, *false]):
        seen = rng.normal(size=SEEN).astype(np.float32) * 0.3
        noise = (DEVIATION * rng.normal(size=DIALS)).astype(np.float32)
        action = forward(np, policy.user, seen) + noise
        turned = wire.Turned(seen.tobytes(), action.astype(np.float32).tobytes(), noise.tobytes(), DEVIATION, 0.0)
        slate(journal, f"d{window}-{n}", user, now, version, turned, contents)
        if user.startswith("liar"):
            if noise[0] < 0.0:
                for lie in range(lies):
                    click(journal, f"d{window}-{n}", lie, contents[lie % SHOWN], user, now)
            continue
        watch(journal, rng, f"d{window}-{n}", user, now, contents, 0.3 - 0.075 * ((action - BEST) ** 2).sum())
    for n, user in enumerate(held):
        slate(journal, f"h{window}-{n}", user, now, "ranker", None, contents)
        watch(journal, rng, f"h{window}-{n}", user, now, contents, 0.2)


def slate(journal, decision_id, user, now, version, turned, contents) -> None:
    places = [wire.Place(name, ORGANIC, 1.0, False, ("ranker",)) for name in contents]
    line = wire.Logged(
        1, decision_id, user, now, "s", places, "marl", version, "0", GOAL, turned=turned,
    )  # fmt: skip
    journal.append(DECISIONS, user, now, wire.encoder.encode(line))


def watch(journal, rng, decision_id, user, now, contents, rate: float) -> None:
    for k in np.flatnonzero(rng.random(len(contents)) < np.clip(rate, 0.02, 0.9)).tolist():
        click(journal, decision_id, k, contents[k], user, now)


def click(journal, decision_id, number, content, user, now) -> None:
    event = Interaction(
        event_id=f"{decision_id}-{number}", content_id=content, user_id=user, ts=now, kind="click", clicked=True,
        completion=0.9, decision_id=decision_id,
    )  # fmt: skip
    journal.append(INTERACTIONS, user, now, wire.encoder.encode(wire.Event(1, now, event)))
