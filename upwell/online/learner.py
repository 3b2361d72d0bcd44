"""The learner: reads the log beside the service, learns from it, and brings new versions before users, step by step.

Half of the users are pupils, of whose steps policies learn; on the steps of the other half a new version must pass the
gate. Then some users get it, and it is widened or rolled back by what becomes of them. All that the learner knows is
written with the offsets that it is the state of and with what it changed, in one write: whatever dies when, each entry
counts once. For one thread.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import msgspec
import numpy as np
import numpy.typing as npt

from upwell.agents.network import Network, Policy, pack_policy, signed
from upwell.errors import BadRequest
from upwell.events.port import CONTROL, DECISIONS, INTERACTIONS, Consumer, Entry, Offsets
from upwell.online import gate, kept, rollout, update
from upwell.online.experience import HELD, Experience, Step
from upwell.online.kept import Progress
from upwell.online.reader import Reader
from upwell.online.rollout import Tally, Terms
from upwell.regulator.assignment import HOLDOUT_SALT, assign, unit_id
from upwell.service import learned, own, wire
from upwell.service.keys import digest_of
from upwell.service.saver import LEARNER
from upwell.service.settings import Settings
from upwell.service.tables import Users
from upwell.service.versions import learned_of, put, read
from upwell.state.batch import Batch
from upwell.state.port import Store

log = logging.getLogger(__name__)

PUPIL_SALT = 7_002
DAY_MS = 86_400_000
MOST_SAVING = 20.0
"""Times as long as a save takes, at least, to the next: of millions of users it is many MB."""


class Pace(NamedTuple):
    """How much of what."""

    steps: int = 4_096  # new ones of pupils between two updates
    batch: int = 8_192  # that an update learns from, of those remembered
    remembered: int = 16_384  # the latest, of pupils and of judges each
    looks: int = 64  # steps of users on trial between two looks at them
    save_s: float = 15.0
    terms: Terms = Terms()


PACE = Pace()


class Learner(Reader):
    """``step`` until told to stop."""

    GROUP, PREFIX = "learner", LEARNER
    LEASE_S = 120.0  # longer than an update takes

    def __init__(
        self, settings: Settings, store: Store, open_log: Callable[[str, Offsets], Consumer], owner: str = "learner",
        pace: Pace = PACE,
    ) -> None:  # fmt: skip
        """See ``Reader``. Raises BadRequest where there is no policy to learn."""
        self.settings, self.pace = settings, pace
        base = learned.load(settings.policy)
        if base is None:
            raise BadRequest("learn: what learns is a policy, and `policy` is empty")
        self.base = base
        self.holdout = Users(settings.holdout, HOLDOUT_SALT)
        super().__init__(store, open_log, owner)
        self._next_save_s = time.monotonic() + pace.save_s

    def load(self, stored: dict[str, int]) -> None:
        """What the store has: of the learner, and of who gets which version."""
        self.owns = stored.get(own.OFFSET, 0)
        (body,) = self.store.get("meta", [kept.ID])
        self.number, self.policies = read(self.store, self.base.version, 0)
        fresh = update.first_judge(self.settings.seed)
        self.judge, self.lived, self.progress = fresh, Experience(), Progress(self.base.version)
        pupils, judges = list[Step](), list[Step]()
        if body is not None:
            try:
                judge, self.lived, progress, pupils, judges = kept.unpack(body, fresh)
                if progress.base == self.base.version:  # else somebody deployed another policy: learning begins with it
                    self.judge, self.progress = judge, progress
            except BadRequest as error:
                log.warning("%s: what was learned before is left, and learning begins anew", error)
        self.pupils, self.judges = (deque(of, self.pace.remembered) for of in (pupils, judges))
        self.now_ms = self.progress.now_ms

    def _policy(self, version: str) -> Policy:
        return learned_of(self.store, self.base, version).policy

    def step(self) -> None:
        """Take what the log has; update, look and save when it is time."""
        if not self.leads():
            return
        for entry in self.entries():
            self.take(entry)
            self.offsets[entry.partition] = entry.next
            # After the very entry, so that what is learned does not hang on how many came at once.
            if self.progress.new >= self.pace.steps:
                self.learn()
            if self.progress.tried >= self.pace.looks:
                self.look()
        if time.monotonic() >= self._next_save_s:
            self.save({})

    # ---- what comes in

    def take(self, entry: Entry) -> None:
        """One entry of the log. One that cannot be read is passed over: who folds the log reports it."""
        try:
            if entry.topic == DECISIONS:
                line = wire.logged_decoder.decode(entry.value)
                self.keep(self.lived.decided(line, self.holdout.holds_out(line.user_id)))
            elif entry.topic == INTERACTIONS:
                event = wire.event_decoder.decode(entry.value).event
                if event is not None:
                    self.lived.told(event)
            elif entry.topic == CONTROL:
                self.erase(wire.erased_decoder.decode(entry.value).digest)
        except msgspec.DecodeError:
            return

    def keep(self, step: Step | None) -> None:
        """A step that is over: counted for its version, and remembered to learn of or to judge by."""
        if step is None:
            return
        tallies = self.progress.tallies
        if step.ts >= self.progress.since_ms:
            tallies.setdefault(step.version, Tally()).add(step.user, step.gain, step.clicks, step.impressions)
            self.progress.tried += step.version == (self.policies.trial or self.policies.live)
        if step.version == HELD:
            return
        if float(assign(np, np.uint32(unit_id(step.user)), PUPIL_SALT)) < 0.5:
            self.pupils.append(step)
            self.progress.new += 1
        else:
            self.judges.append(step)

    def erase(self, digest: str) -> None:
        """Forget a user."""
        self.lived.erase(digest)
        for steps in (self.pupils, self.judges):
            others = [step for step in steps if digest_of(step.user) != digest]
            steps.clear()
            steps.extend(others)
        for tally in self.progress.tallies.values():
            tally.forget(digest)

    # ---- what comes of it

    def learn(self) -> None:
        """Update the policy; where nothing is on trial, ask the gate whether users may get it."""
        for gone in self.lived.gone(self.now_ms):
            self.keep(gone)
        steps = update.arrays_of(self._batch())
        key = jax.random.fold_in(jax.random.key(self.settings.seed), self.progress.updates)
        self._look_again()
        live = self._policy(self.policies.live).user
        self.judge, user, report = update.update(self.judge, live, steps, self.settings.dial_noise, key)
        self.progress.new, self.progress.updates = 0, self.progress.updates + 1
        log.info("update %d: %s", self.progress.updates, {name: round(float(v), 4) for name, v in report.items()})
        known = len(self.policies.versions)
        networks = {} if self.policies.trial else self.propose(jax.tree.map(np.asarray, user))
        self.save(networks, changed=len(self.policies.versions) > known)

    def _batch(self) -> list[Step]:
        """Steps to learn from: as many each time, so that the update is compiled once."""
        many, random = self.pace.batch, np.random.default_rng([self.settings.seed, self.progress.updates])
        counts, gain = gate.fairly(numbered(self.pupils), np.array([step.gain for step in self.pupils]))
        fair = [
            msgspec.structs.replace(step, gain=worth)
            for step, worth, here in zip(self.pupils, gain.tolist(), counts.tolist(), strict=True)
            if here
        ]
        return [fair[i] for i in random.choice(len(fair), many, replace=len(fair) < many)]

    def propose(self, user: Network) -> dict[str, bytes]:
        """Ask the gate about users' agents by ``user``; returns the networks of the version, if users get it."""
        live = self._policy(self.policies.live)
        new = live._replace(user=user)
        about = {"parent": self.policies.live, "updates": self.progress.updates}
        body = pack_policy(new, about)
        version = signed("learned", body)
        try:
            found = gate.gate(steps_of(self.judges), self.settings.dial_noise, live.user, new.user)
        except BadRequest as error:
            log.info("not judged yet: %s", error)
            return {}
        why = (
            f"{found.mean:+.4f} a step over {self.policies.live}, at least {found.low:+.4f}; "
            f"{found.steps:,} steps of {found.users:,} users, worth {found.effective_steps:,.0f}"
        )
        if found.passed:
            users = len({step.user for step in (*self.pupils, *self.judges)})
            self.policies.try_out(version, rollout.first_share(users), why, self.now_ms)
            self.progress.begin(self.now_ms)
            return {version: body}
        self.policies.gated_out(version, why, self.now_ms)
        return {}

    def look(self) -> None:
        """Whether what is on trial is widened or rolled back; and whether what is live costs clicks."""
        self.progress.tried = 0
        self._look_again()
        policies, tallies, terms = self.policies, self.progress.tallies, self.pace.terms
        of = {name: tallies.get(name, Tally()) for name in (policies.live, policies.trial, HELD)}
        if policies.trial:
            judged = rollout.judge(of[policies.trial], of[policies.live], of[HELD], terms)
            days = (self.now_ms - self.progress.since_ms) / DAY_MS
            if judged.verdict == "wait" and days < terms.most_days:
                return
            if judged.verdict == "wait":
                policies.roll_back(f"not shown to be as good in {days:.0f} days: {judged.why}", self.now_ms)
            elif judged.verdict == "widen":
                share = next(share for share in rollout.SHARES if share > policies.share)
                policies.widen(share, judged.why, self.now_ms)
            else:
                policies.roll_back(judged.why, self.now_ms)
        else:
            lost = rollout.click_loss(of[policies.live], of[HELD], terms)
            if not policies.before or lost.low <= terms.click_loss:
                return
            policies.roll_back(f"loses {lost.mean:.1%} of the holdout's click rate", self.now_ms)
        self.progress.begin(self.now_ms)
        self.save({}, changed=True)

    def _look_again(self) -> None:
        """What an operator may have changed meanwhile. Nothing of ours is lost: what we change is written at once."""
        stage = self.policies.stage
        self.number, self.policies = read(self.store, self.base.version, self.now_ms)
        if self.policies.stage != stage:
            self.progress.begin(self.now_ms)

    def save(self, networks: dict[str, bytes], changed: bool = False) -> None:
        """Write all that is known, with the offsets that it is the state of. Raises Conflict, Fenced, StoreDown.

        ``changed``: who gets which version too, with the ``networks`` of a new one.
        """
        began_s, self.progress.now_ms = time.monotonic(), self.now_ms
        batch = Batch(fence=self.lease)
        self.advance(batch)
        if changed:
            put(batch, self.number, self.policies, networks)
        # Whom memory had no room for begins anew: there is nothing to tell of them.
        adapted = sorted(self.lived.adapted & self.lived.adaptation.users.keys())
        for user in adapted:
            batch.put(own.KIND, user, self.lived.adaptation.factors(user).tobytes())
        own.told(batch, self.owns, adapted)
        self.lived.adapted = set()
        body = kept.pack(self.judge, self.lived, self.progress, self.pupils, self.judges)
        batch.put("meta", kept.ID, body)
        self.store.write(batch)
        self.saved = dict(self.offsets)
        took_s = time.monotonic() - began_s
        self._next_save_s = began_s + max(self.pace.save_s, MOST_SAVING * took_s)
        self.number, self.owns = self.number + changed, self.owns + len(adapted)


def steps_of(steps: Sequence[Step]) -> gate.Steps:
    """Steps as the gate takes them. Raises BadRequest where there are none."""
    if not steps:
        raise BadRequest("steps of users are needed, and there are none yet")
    seen, action, noise = (
        np.stack([getattr(step, name) for step in steps]).astype(np.float64) for name in ("seen", "action", "noise")
    )
    return gate.Steps(numbered(steps), seen, action, noise, np.array([step.gain for step in steps]))


def numbered(steps: Sequence[Step]) -> npt.NDArray[np.int64]:
    """Whose step each is, a number a user."""
    number = {user: i for i, user in enumerate(dict.fromkeys(step.user for step in steps))}
    return np.array([number[step.user] for step in steps], np.int64)
