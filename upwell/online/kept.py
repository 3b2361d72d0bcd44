"""What the learner keeps in the store: networks, hours that are open, steps, and how far it has come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from upwell.agents import arrays, trees
from upwell.agents.dials import TURNS
from upwell.agents.observe import SEES
from upwell.online.experience import Experience, Step
from upwell.online.rollout import Tally
from upwell.online.update import Judge

ID = "learner"
"""Of the record (kind ``meta``)."""
VERSION = 2
NETWORKS, LIVED, PROGRESS = "networks.", "lived", "progress"


class Progress(msgspec.Struct):
    """How far the learner has come."""

    base: str  # the settings' policy
    now_ms: int = 0  # the latest time in the log
    new: int = 0  # steps since the last update
    updates: int = 0
    tried: int = 0  # steps of users on trial since the last look
    since_ms: int = 0  # when the shares of today began
    tallies: dict[str, Tally] = {}  # by version, since then

    def begin(self, now_ms: int) -> None:
        """Shares are others: count anew."""
        self.since_ms, self.tallies, self.tried = now_ms, {}, 0


def pack(judge: Judge, lived: Experience, progress: Progress, pupils: Sequence[Step], judges: Sequence[Step]) -> bytes:
    """All of it as one file's bytes."""
    named = {NETWORKS + name: np.asarray(leaf) for name, leaf in trees.named(judge).items()}
    for what, of in ((LIVED, lived), (PROGRESS, progress)):
        named[what] = np.frombuffer(msgspec.msgpack.encode(of), np.uint8)
    users: dict[str, list[tuple[str, str]]] = {}
    for what, steps in (("pupils", pupils), ("judges", judges)):
        users[what] = [(step.user, step.version) for step in steps]
        named |= {f"{what}.{name}": column for name, column in columns(steps).items()}
    return arrays.pack(ID, VERSION, named, users)


def unpack(body: bytes, like: Judge) -> tuple[Judge, Experience, Progress, list[Step], list[Step]]:
    """What ``pack`` packed. Raises BadRequest where it is of another version of Upwell."""
    named, users = arrays.unpack(body, ID, VERSION, ID)
    networks = {name.removeprefix(NETWORKS): x for name, x in named.items() if name.startswith(NETWORKS)}
    judge = trees.put_back(ID, networks, like, "version's learner")
    lived = msgspec.msgpack.decode(named[LIVED].tobytes(), type=Experience)
    progress = msgspec.msgpack.decode(named[PROGRESS].tobytes(), type=Progress)
    pupils, judges = (steps_back(what, named, users[what]) for what in ("pupils", "judges"))
    return judge, lived, progress, pupils, judges


def progress_of(body: bytes) -> Progress:
    """How far a learner has come, alone."""
    return msgspec.msgpack.decode(arrays.unpack(body, ID, VERSION, ID)[0][PROGRESS].tobytes(), type=Progress)


def columns(steps: Sequence[Step]) -> dict[str, np.ndarray]:
    """Numbers of steps, but for whose they are and of which version."""
    seen, dials = len(SEES["user"]), len(TURNS["user"])
    return {
        "ts": np.array([step.ts for step in steps], np.int64),
        "seen": stacked([step.seen for step in steps], seen),
        "action": stacked([step.action for step in steps], dials),
        "noise": stacked([step.noise for step in steps], dials),
        "gain": np.array([step.gain for step in steps], np.float64),
        "goes_on": np.array([step.next_seen is not None for step in steps], bool),
        "next_seen": stacked([step.seen if step.next_seen is None else step.next_seen for step in steps], seen),
        "counts": np.array([(step.clicks, step.impressions) for step in steps], np.int64).reshape(-1, 2),
    }


def stacked(rows: Sequence[Any], width: int) -> np.ndarray:
    return np.stack(rows).astype(np.float32) if len(rows) else np.zeros((0, width), np.float32)


def steps_back(what: str, named: dict[str, Any], whose: Sequence[tuple[str, str]]) -> list[Step]:
    ts, seen, action, noise, gain, goes_on, next_seen, counts = (named[f"{what}.{name}"] for name in columns(()))
    return [
        Step(
            user, int(ts[i]), version, seen[i], action[i], noise[i], float(gain[i]),
            next_seen[i] if goes_on[i] else None, int(counts[i, 0]), int(counts[i, 1]),
        )
        for i, (user, version) in enumerate(whose)
    ]  # fmt: skip
