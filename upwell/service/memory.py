"""What one process remembers of users, contents and slates, and how lines of the log change it.

Synchronous, for one thread; nothing here waits. ``show`` and ``take`` fold lines of the log. ``unsaved`` is all that a
store does not have yet, as one batch with the offsets that it is the state of.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from upwell.model import Content, Interaction, User
from upwell.regulator import slate
from upwell.regulator.assignment import HOLDOUT_SALT
from upwell.service import fold, records, steps, wire
from upwell.service.keys import EARLY, OUTCOME, organic_key, organic_of, request_key
from upwell.service.records import COLUMN, Early, Outcome, is_click, merge
from upwell.service.settings import Settings
from upwell.service.steps import Step
from upwell.service.tables import NOBODY, Contents, Users
from upwell.service.trail import KEPT_MS, Shown, Trails
from upwell.state.batch import DELTA_MAX, Batch

DAY_S = 86_400.0
HOUR_MS = 3_600_000
WEIGHED = "weights "
"""Before a version of the weights: counters (kind ``meta``) of what came of slates that were decided under them."""
GROUPS = 64
"""Of users, counted apart, so that chance can be told from how groups differ: what one user does hangs together."""
NEW, SMALL = "new", "small"
"""Segments that are counted apart for experiments: of users, and of the creators of what they are shown."""
TRAIL_S = 3 * KEPT_MS / 1_000
"""A stored trail is of use for so long after its last step."""
ERASED = 10_000
"""Erased users who are remembered."""


class Before(NamedTuple):
    """What was known of a place before an event."""

    clicked: bool
    valid: bool
    shared: bool
    purchased: bool
    value: float
    dwell_s: float


class Slate(NamedTuple):
    """What events of a decision are matched with."""

    user_id: str
    ids: tuple[str, ...]
    kinds: tuple[int, ...]
    ts: int
    weights: str = ""  # version of those it was decided under; "": it was decided, and something else shown
    exposed: tuple[str, ...] = ()  # counters of experiments' arms that it counts for
    new: bool = False  # whether its user was, and
    small: tuple[int, ...] = ()  # its places with contents of small creators: known of slates that are exposed


def slate_of(line: wire.Logged) -> Slate:
    """What is remembered of a decision."""
    ids, kinds = tuple(p.id for p in line.places), tuple(p.kind for p in line.places)
    if line.instead:
        return Slate(line.user_id, ids, kinds, line.ts)
    exposed = tuple(exposed_of(one.experiment, one.stage, one.arm) for one in line.experiments)
    return Slate(line.user_id, ids, kinds, line.ts, line.weights_version, exposed, line.new, line.small)


def exposed_of(experiment: str, stage: int, arm: str) -> str:
    """Counters (kind ``meta``) of what came of slates that an experiment's arm decided, by group of users."""
    return f"arm {experiment} {stage} {arm}"


def beside_of(experiment: str, stage: int, arm: str) -> str:
    """Among an experiment's counters: its users who are in another one's arm, too."""
    return f"beside {exposed_of(experiment, stage, arm)}"


def by_group(tally: Mapping[str, int], side: str, name: str) -> npt.NDArray[np.float64]:
    """A counter of a side's users, ``free`` or ``held``, by group, ``[GROUPS]``."""
    return np.array([tally.get(f"{side}{group}_{name}", 0) for group in range(GROUPS)], np.float64)


def add(counter: Counter[str], who: str, gained: Mapping[str, int]) -> None:
    """Count for some users what is not nothing."""
    for name, amount in gained.items():
        if amount:
            counter[f"{who}_{name}"] += int(amount)


class Memory:
    """Users, contents and slates of one process: the state that the log folds to."""

    def __init__(self, settings: Settings, server: str, saves: bool = True, trails: bool = False) -> None:
        """``trails``: what is folded may come in late, see ``trail``."""
        self.settings, self.server = settings, server
        self.saves = saves  # else what is folded here is provisional: another folds the log for the store
        self.users = Users(settings.holdout, HOLDOUT_SALT)
        self.trails = Trails(self.users, self._play, self._show) if trails else None
        self.contents = Contents()
        self.slates: OrderedDict[str, Slate] = OrderedDict()
        self.outcomes: OrderedDict[str, Outcome] = OrderedDict()
        self.early: OrderedDict[str, Early] = OrderedDict()  # by decision, where what is folded may come in late
        self.offsets: dict[str, int] = {}  # partition → next offset of what is folded
        self.saved: dict[str, int] = {}  # … of what the store has
        # By hour, and by version of the weights: impressions, clicks and more, of the holdout and of the rest.
        self.platform: dict[str, Counter[str]] = {}
        self.failures: Counter[str] = Counter()
        self.erased: dict[str, int] = {}  # users whose slates are gone for good, and since when: see ``erase``
        self._batch = Batch()
        self._touched: dict[str, tuple[Outcome, str]] = {}  # outcomes that the store does not have, and whose they are

    def show(self, line: wire.Logged, body: bytes) -> None:
        """Fold one decision, ``body`` in the log: the same state as when it was decided."""
        ids = tuple(p.id for p in line.places)
        self._step(line.user_id, Step(line.ts, steps.SLATE, line.decision_id, "", line.platform_ctr, ids))
        kinds = np.asarray([[p.kind for p in line.places]]).reshape(1, -1)
        rows = steps.rows_of_slate(self.contents, ids)
        fold.counted(self.contents, rows, kinds == slate.HEATED, kinds == slate.EXPLORED, line.purse)
        self._remember(line, body)

    def _step(self, user_id: str, step: Step) -> None:
        if self.trails is None:
            self._show([(user_id, step)]) if step.kind == steps.SLATE else self._play(user_id, step)
        else:
            self.trails.add(user_id, step)

    def _play(self, user_id: str, step: Step) -> None:
        steps.play(self.settings, self.users, self.contents, user_id, step)

    def _show(self, slates: Sequence[Shown]) -> None:
        """Change records of different users by slates."""
        whole: list[tuple[str, Step, tuple[str, ...]]] = []
        for user_id, step in slates:
            # Known no more where its decision has expired since.
            known = self.slates.get(step.key) if step.ids is None else None
            whole.append((user_id, step, step.ids or (known.ids if known is not None else ())))
        steps.show(self.settings, self.users, self.contents, whole)

    def _remember(self, line: wire.Logged, body: bytes) -> None:
        shown = self.slates[line.decision_id] = slate_of(line)
        # Made with the slate, so that one at hand without an outcome need not be looked for in the store.
        self.outcomes[line.decision_id] = Outcome()
        while len(self.slates) > self.settings.slates_in_memory:
            self.outcomes.pop(self.slates.popitem(last=False)[0], None)
        if not self.saves:
            return
        self._batch.put("decision", line.decision_id, body, line.user_id)
        if line.request_id is not None:
            key = request_key(line.user_id, line.request_id)
            self._batch.put("request", key, line.decision_id.encode(), line.user_id)
        side = "held" if self.users.holds_out(line.user_id) else "free"
        self._hour(line.ts)[f"{side}_impressions"] += len(line.places)
        if shown.weights:
            side, boosted = self._side(line.user_id), [kind in wire.BOOSTED for kind in shown.kinds]
            whole = {
                "slates": 1, "impressions": len(boosted), "heated": sum(boosted), "daily": line.daily,
                "returned": line.returned,
            }  # fmt: skip
            for came in self._counters(shown):
                add(came, side, whole)
            few = {"impressions": len(shown.small), "heated": sum(boosted[at] for at in shown.small)}
            for id, one in zip(shown.exposed, line.experiments, strict=True):
                came = self.platform[id]
                add(came, f"{side}_{SMALL}", few)
                if shown.new:
                    add(came, f"{side}_{NEW}", whole)
                if one.first:
                    came[f"{side}_users"] += 1
                for other in line.experiments:
                    if other is not one and (one.first or other.first):  # the first time that both have this user
                        came[beside_of(other.experiment, other.stage, other.arm)] += 1

    def take(self, event: Interaction, at_ms: int = 0) -> bool:
        """Fold one interaction of the log, its slate and outcome at hand; False: it was known already.

        ``at_ms``: when it was logged, where trails are kept.
        """
        decision = event.decision_id or organic_key(event)
        outcome = self.outcomes.get(decision)
        if outcome is None:
            outcome = self.outcomes[decision] = Outcome()
            while (
                len(self.outcomes) > 2 * self.settings.slates_in_memory
            ):  # those of slates, and as many of what was seen elsewhere
                self.outcomes.popitem(last=False)
        shown = self.slates.get(decision)
        if shown is not None:
            at_ms = max(at_ms, shown.ts)  # logged by another server, whose clock may be behind
        kind = steps.ELSEWHERE if event.decision_id is None else steps.CLICK
        click = Step(at_ms, kind, decision, event.content_id, event.ts if shown is None else shown.ts)
        if self.trails is not None and is_click(event):
            self.trails.sooner(event.user_id, click)
        if event.event_id in outcome.events:
            return False
        outcome.events.add(event.event_id)
        at = shown.ids.index(event.content_id) if shown else 0
        place = outcome.places.setdefault(at, records.Place())
        before = Before(place.clicked, place.valid, place.shared, place.purchased, place.value, place.dwell_s)
        merge(place, event)
        if place.clicked and not before.clicked:
            self._step(event.user_id, click)
        if place.valid and not before.valid:
            self._step(event.user_id, click._replace(kind=steps.VIEW))
        self._count(event, place, before, bool(shown and shown.kinds[at] == slate.HEATED))
        if shown is not None and shown.weights:
            self._weigh(shown, at, event.user_id, place, before)
        if self.saves:
            self._touched[decision] = outcome, event.user_id
            if self.settings.history:
                self._batch.append("history", event.user_id, wire.encoder.encode(event))
        return True

    def park(self, event: Interaction, decision: str, at_ms: int) -> None:
        """Keep an event whose slate has not come in yet, until it does: in the store, so that its offset may move on.

        What was kept for the slate before is at hand.
        """
        early = self.early.setdefault(decision, Early(event.user_id, []))
        early.events.append((at_ms, event))
        self._batch.put("decision", f"{decision}{EARLY}", records.early_encoder.encode(early), event.user_id)
        while len(self.early) > self.settings.slates_in_memory:
            self.early.popitem(last=False)

    def unpark(self, decision: str) -> None:
        """A slate came in: fold what was kept for it."""
        early = self.early.pop(decision, None)
        if early is None:
            return
        self._batch.withdraw("decision", f"{decision}{EARLY}")
        for at_ms, event in early.events:
            self.take(event, at_ms)

    def account(self, user: User, at_ms: int = 0) -> None:
        """Fold what was told of an account: how old it is. ``at_ms``: when it was logged, where trails are kept."""
        self._step(user.id, Step(at_ms, steps.ACCOUNT, "", "", user.created_at))

    def _count(self, event: Interaction, place: records.Place, before: Before, heated: bool) -> None:
        row = self.contents.rows.at.get(event.content_id, NOBODY)
        gained: dict[str, int] = {
            "clicks": place.clicked and not before.clicked,
            "valid": place.valid and not before.valid,
            "shares": place.shared and not before.shared,
            "purchases": place.purchased and not before.purchased,
            "value_fen": round(place.value * 100) - round(before.value * 100),
            "dwell_ms": round(place.dwell_s * 1000) - round(before.dwell_s * 1000),
        }
        if heated:
            gained |= {"heated_clicks": gained["clicks"], "heated_valid": gained["valid"]}
        if row != NOBODY:
            for name, amount in gained.items():
                if amount:
                    self.contents.count(row, COLUMN[name], int(amount))
        if gained["clicks"]:
            self._hour(event.ts)["held_clicks" if self.users.holds_out(event.user_id) else "free_clicks"] += 1

    def _weigh(self, shown: Slate, at: int, user_id: str, place: records.Place, before: Before) -> None:
        """Count what came of a slate's place for the weights that it was decided under, and for experiments' arms."""
        side = self._side(user_id)
        gained = {
            "clicks": place.clicked and not before.clicked, "valid": place.valid and not before.valid,
            "shares": place.shared and not before.shared,
            "fen": round(place.value * 100) - round(before.value * 100),
            "seconds": round(place.dwell_s) - round(before.dwell_s),
        }  # fmt: skip
        for came in self._counters(shown):
            add(came, side, gained)
        segments = [name for name, inside in ((NEW, shown.new), (SMALL, at in shown.small)) if inside]
        for id in shown.exposed:
            for segment in segments:
                add(self.platform[id], f"{side}_{segment}", gained)

    def _counters(self, shown: Slate) -> list[Counter[str]]:
        """Those that a slate counts for."""
        ids = (f"{WEIGHED}{shown.weights}", *shown.exposed)
        return [self.platform.setdefault(id, Counter()) for id in ids]

    def _side(self, user_id: str) -> str:
        """Whether a user is of the holdout, and of which group: ``free17``, ``held3``."""
        return f"{'held' if self.users.holds_out(user_id) else 'free'}{records.key_of(user_id) % GROUPS}"

    def _hour(self, ts: int) -> Counter[str]:
        return self.platform.setdefault(f"hour {ts // HOUR_MS}", Counter())

    # ---- what the store does not have yet

    def unsaved(self) -> Batch | None:
        """All that is new since the last call; None when nothing is. The caller writes it, or gives it back."""
        batch, self._batch = self._batch, Batch()
        for row in self.users.dirty:
            name = self.users.rows.names[row]
            batch.put("user", name, self.users.record[row].tobytes())
            trail = self.trails.stored(name) if self.trails is not None else None
            if trail is not None:
                batch.put("trail", name, trail)
        self.users.dirty.clear()
        for decision, (outcome, user_id) in self._touched.items():
            batch.put("decision", f"{decision}{OUTCOME}", records.outcome_encoder.encode(outcome), user_id)
        self._touched.clear()
        # A store takes no larger steps than this; whoever sends so much at once gets the rest counted with the next.
        for name, fields in self.contents.new_counts(DELTA_MAX).items():
            batch.add("content", name, fields)
        for id, counted in self.platform.items():
            batch.add("meta", id, {name: max(min(n, DELTA_MAX), -DELTA_MAX) for name, n in counted.items()})
        self.platform.clear()
        for partition, offset in self.offsets.items():
            if offset != self.saved.get(partition, 0):
                batch.advance(partition, self.saved.get(partition, 0), offset)
        batch.ttl_s["trail"] = TRAIL_S
        batch.ttl_s["meta"] = 30 * DAY_S
        batch.ttl_s["decision"] = batch.ttl_s["request"] = self.settings.decisions_days * DAY_S
        batch.keep = max(self.settings.history, 1)
        return batch if batch.kinds() or batch.offsets else None

    def discard(self) -> None:
        """Drop what is new: this server's fold is provisional, another one's goes to the store."""
        self.users.dirty.clear()
        self.contents.discard()
        self.platform.clear()

    def written(self, batch: Batch) -> None:
        """The store has this batch."""
        self.saved |= {partition: after for partition, (_, after) in batch.offsets.items()}

    def erase(self, user_id: str, at_ms: int) -> None:
        """Forget a user and all slates shown to them. What is on its way to the store must be there already.

        Who was erased is remembered for what comes late, and of the latest only: an event that names a slate of
        somebody forgotten again waits for it as for any that is lost, a while, and is dropped then.
        """
        self.users.forget(user_id)
        if self.trails is not None:
            self.trails.forget(user_id)
        self.erased.pop(user_id, None)
        self.erased[user_id] = at_ms
        while len(self.erased) > ERASED:
            del self.erased[next(iter(self.erased))]
        for decision in [id for id, shown in self.slates.items() if shown.user_id == user_id]:
            del self.slates[decision]
            self.outcomes.pop(decision, None)
        for decision in [id for id, early in self.early.items() if early.user == user_id]:
            del self.early[decision]
        for key in [key for key in self.outcomes if organic_of(key, user_id)]:
            del self.outcomes[key]

    def shrink(self) -> bool:
        """Forget users beyond what memory is to hold, who were not here for longest; whether there were any."""
        most = self.settings.users_in_memory
        over = len(self.users.rows) - most
        if over <= 0:
            return False
        for name in self.users.oldest(over + most // 10):
            self.users.forget(name)
            if self.trails is not None:
                self.trails.forget(name)
        return True

    def add_content(self, content: Content, counted: dict[str, int] | None = None) -> int:
        """A content as it is now, with what the store has counted of it; None leaves the counts as they are."""
        row = self.contents.put(content)
        if counted is not None:
            self.contents.load(row, counted)
        return row
