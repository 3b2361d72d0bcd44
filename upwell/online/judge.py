"""The judge: reads the log beside the service, keeps evidence of who clicks what, and tells servers who cheats.

What it has counted is written with the offsets that it is the state of, so each entry counts once, whatever dies when.
What it thinks is worked out anew from that, told as one record (``service.trust``), and never saved. For one thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from upwell.errors import BadRequest
from upwell.events.port import CONTROL, DECISIONS, INTERACTIONS, Consumer, Entry, Offsets
from upwell.online import known
from upwell.online.known import DAY_MS, Known
from upwell.online.reader import Reader
from upwell.regulator.trust import judge, rings
from upwell.regulator.trust.judge import NARROWED, TRUSTED, Heads, Standing
from upwell.service import trust, wire
from upwell.service.saver import JUDGE
from upwell.service.settings import Settings
from upwell.service.trust import Told, Verdict
from upwell.state.batch import Batch
from upwell.state.port import Store, pages

log = logging.getLogger(__name__)

ID = "judge"
"""Of the record of what it has counted (kind ``meta``)."""
ALIVE_S = 2.0
TOLD_FROM = NARROWED / 2
"""Lower bound from which a content is told of, though nothing follows yet."""
MOST_TOLD = 100_000
"""Contents, and users, told of at most: the most doubtful."""
REASONS = 5
"""Of a verdict: those that weigh most."""


class Pace(msgspec.Struct, frozen=True):
    """How often, seconds."""

    judge: float = 2.0
    rings: float = 60.0
    save: float = 15.0
    most_busy: float = 20.0  # times as long as judging, searching and saving take, at least, to the next


class Judge(Reader):
    """``step`` until told to stop."""

    GROUP, PREFIX = "judge", JUDGE
    LEASE_S = 60.0

    def __init__(
        self, settings: Settings, store: Store, open_log: Callable[[str, Offsets], Consumer], owner: str = "judge",
        pace: Pace | None = None, heads: Heads | None = None,
    ) -> None:  # fmt: skip
        """See ``Reader``."""
        self.settings, self.pace = settings, pace or Pace()
        self.heads = heads or judge.shipped()
        super().__init__(store, open_log, owner)

    def load(self, stored: dict[str, int]) -> None:
        """What the store has."""
        self.number = stored.get(trust.OFFSET, 0)
        (body,) = self.store.get("meta", [ID])
        self.known = Known()
        if body is not None:
            try:
                self.known = known.unpacked(body)
            except BadRequest as error:
                log.warning("%s: what was counted before is left, and the judge begins anew", error)
        for _, content in pages(self.store.scan, "content"):
            self.known.content(wire.content_decoder.decode(content))
        self.now_ms = 0
        self.standing: Standing | None = None
        self.rings: rings.Rings | None = None
        self._new = True
        self._next: dict[str, float] = {
            "alive": 0.0,
            "judge": 0.0,
            "rings": 0.0,
            "save": time.monotonic() + self.pace.save,
        }

    def step(self) -> None:
        """Take what the log has; search, judge and save when it is time."""
        if not self.leads():
            return
        for entry in self.entries():
            self.take(entry)
            self.offsets[entry.partition] = entry.next
            self._new = True
            if self.known.due:
                self.count()
        self._when("alive", ALIVE_S, self.say)
        self._when("rings", self.pace.rings, self.search)
        self._when("judge", self.pace.judge, self.tell)
        self._when("save", self.pace.save, self.save)

    def _when(self, what: str, period_s: float, do: Callable[[], None]) -> None:
        began_s = time.monotonic()
        if began_s >= self._next[what]:
            do()
            ended_s = time.monotonic()
            self._next[what] = ended_s + max(period_s, self.pace.most_busy * (ended_s - began_s))

    def take(self, entry: Entry) -> None:
        """One entry of the log. One that cannot be read is passed over: who folds the log reports it."""
        try:
            if entry.topic == DECISIONS:
                line = wire.logged_decoder.decode(entry.value)
                self._register([place.id for place in line.places])
                self.known.decided(line)
            elif entry.topic == INTERACTIONS:
                told = wire.event_decoder.decode(entry.value)
                if told.event is not None:
                    self._register([told.event.content_id])
                    self.known.told(told.event)
                if told.user is not None:
                    self.known.account(told.user.id, told.user.created_at)
            elif entry.topic == CONTROL:
                self.count()
                self.known.erase(wire.erased_decoder.decode(entry.value).digest)
        except msgspec.DecodeError:
            return

    def _register(self, ids: list[str]) -> None:
        """Contents that were put since."""
        new = self.known.unknown(ids)
        for body in self.store.get("content", new) if new else ():
            if body is not None:
                self.known.content(wire.content_decoder.decode(body))

    # ---- what comes of it

    def count(self) -> None:
        """Count what is new, with what was thought of contents last."""
        self.known.count(None if self.standing is None else self.standing.content.probability)

    def search(self) -> None:
        """Look for rings."""
        now = self.known
        visits = rings.to_creators(now.visited(), np.array(now.creator_of, np.int64), len(now.creators))
        self.rings = rings.find(visits, now.topics()) if visits.nnz else None

    def judged(self) -> tuple[Standing, judge.Traits, judge.Visitors]:
        """What is thought of everybody on all that is counted, contents by what is thought of their visitors by now."""
        self.count()
        self._judged()
        return self._judged()

    def _judged(self) -> tuple[Standing, judge.Traits, judge.Visitors]:
        now, accounts, contents = self.known, len(self.known.accounts), len(self.known.contents)
        before = self.standing
        doubt = known.sized(None if before is None else before.content.probability, contents)
        of_accounts = known.sized(None if before is None else before.account.probability, accounts)
        visits = now.visited()
        sums = np.asarray(visits.sum(0)).ravel(), visits.T @ of_accounts[:-1]
        visitors = judge.Visitors(*(np.append(x, 0.0).astype(np.float32) for x in sums))
        age_days = np.zeros(accounts + 1, np.float32)
        age_days[:accounts] = (self.now_ms - np.array(now.since_ms, np.float64)) / DAY_MS
        in_ring = known.sized(None, len(now.creators)), known.sized(None, accounts)
        if self.rings is not None:  # who came since is in none
            in_ring[0][: len(self.rings.creators)] = self.rings.creators
            in_ring[1][: len(self.rings.accounts)] = self.rings.accounts
        traits = judge.traits(
            np, self.heads, now.of_contents, now.of_accounts, np.array(now.creator_of, np.int64), age_days, *in_ring,
            visitors, doubt, of_accounts,
        )  # fmt: skip
        self.standing = judge.stand(np, self.heads, traits)
        return self.standing, traits, visitors

    def say(self) -> None:
        """That the judge is there."""
        batch = Batch(fence=self.lease)
        batch.put("meta", trust.ALIVE, str(round(time.time() * 1_000)).encode())
        self.store.write(batch)

    def tell(self) -> None:
        """Judge, and tell servers, where there is anything new."""
        if not self._new:
            return
        batch = Batch(fence=self.lease)
        batch.put("meta", trust.ID, trust.encoder.encode(self.verdicts(*self.judged())))
        batch.advance(trust.OFFSET, self.number, self.number + 1)
        self.store.write(batch)
        self.number, self._new = self.number + 1, False

    def verdicts(self, standing: Standing, traits: judge.Traits, visitors: judge.Visitors) -> Told:
        """What is told of whom there is anything to tell."""
        now, of = self.known, standing.content
        rows = worst(of.low[:-1], TOLD_FROM)
        named = judge.reasons(self.heads.content, judge.CONTENT_TRAITS, traits.content[rows])
        direct = np.maximum(now.of_contents.direct[rows], 1.0)
        clicks = visitors.doubts[rows]
        valid = clicks * now.of_contents.direct_valid[rows] / direct
        contents = {
            now.contents.names[row]: Verdict(
                round(float(of.probability[row]), 4), round(float(of.low[row]), 4), round(float(of.high[row]), 4),
                largest({name: float(part[i]) for name, part in named.items()}),
                round(float(clicks[i]), 2), round(float(valid[i]), 2),
            )
            for i, row in enumerate(rows.tolist())
        }  # fmt: skip
        creators, accounts = standing.creator.probability[:-1], standing.account.probability[:-1]
        return Told(
            self.now_ms,
            contents,
            {now.creators.names[row]: round(float(creators[row]), 4) for row in worst(creators, TRUSTED).tolist()},
            [now.accounts.names[row] for row in worst(accounts, TRUSTED).tolist() if now.accounts.names[row]],
            [] if self.rings is None else [now.creators.names[row] for row in np.flatnonzero(self.rings.creators)],
        )

    def save(self) -> None:
        """Write all that is counted, with the offsets that it is the state of. Raises Conflict, Fenced, StoreDown."""
        batch = Batch(fence=self.lease)
        self.advance(batch)
        if batch.offsets:
            self.count()
            batch.put("meta", ID, self.known.pack())
            self.store.write(batch)
            self.saved = dict(self.offsets)


def worst(values: npt.NDArray[np.float32], least: float) -> npt.NDArray[np.int64]:
    """Rows of values of at least so much, the largest first, ``MOST_TOLD`` of them at most."""
    rows = np.flatnonzero(values >= least)
    return rows[np.argsort(-values[rows], kind="stable")[:MOST_TOLD]]


def largest(parts: dict[str, float]) -> dict[str, float]:
    """The parts that weigh most."""
    kept = sorted(parts, key=lambda name: -abs(parts[name]))[:REASONS]
    return {name: round(parts[name], 3) for name in kept}
