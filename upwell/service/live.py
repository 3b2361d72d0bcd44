"""What one server decides from and how: its memory, the grants and the policy of the last tick, the cap's window.

Synchronous, for one thread; nothing here waits. ``recommend`` decides a batch and returns its lines for the log.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec.structs import astuple

from upwell.regulator import slate
from upwell.regulator.assignment import Reach, unit_id
from upwell.service import fold, goals, learned, recommend, records, wire
from upwell.service.arms import AS_IS, NOTHING, Arms, Play
from upwell.service.experiments import MODES
from upwell.service.goals import InForce
from upwell.service.keys import decision_keys
from upwell.service.learned import Learned, Playing, Trial
from upwell.service.memory import HOUR_MS, Memory
from upwell.service.recommend import Asked, Grants, Window
from upwell.service.records import key_of
from upwell.service.settings import Settings
from upwell.service.tables import NOBODY

log = logging.getLogger(__name__)

NO_GRANTS = Grants(np.zeros((1, 1), np.int32))


class Live(Memory):
    """One server's memory, and what it decides by."""

    def __init__(self, settings: Settings, server: str, saves: bool = True, trails: bool = False) -> None:
        super().__init__(settings, server, saves, trails)
        self.grants = NO_GRANTS
        self.learned = learned.backed(settings)
        self.mode = "rules" if self.learned is None else "policy"
        self.trial: Trial | None = None  # another version of it, for some users
        self.playing: Playing | None = None  # by the learned policy, as of the last tick
        self.window_hour, self.window_shown, self.window_heated = -1, 0, 0
        self.throttle = 1.0
        self.platform_ctr = settings.click_rate
        self.in_force = goals.first(goals.weights_of(settings.weights)).now
        self.arms: Arms | None = None  # of experiments, while any run
        self.centres: np.ndarray | None = None  # of segments: f32 [S, DIMS], unit length
        self.purses: dict[str, Grants] = {}  # of experiments' arms that have money of their own (``arms.Split``)
        # Heated impressions of each content since this server began, by purse.
        self.shown_of: dict[str, Counter[str]] = {"": Counter()}
        self.shown = 0  # impressions since then
        self.outbox: list[tuple[str, int, bytes]] = []  # decided, and to be logged: key, time, line
        self._decisions = 0

    def obey(self, switch: bytes | None) -> None:
        """Let decide who the stored switch says, if it says so."""
        if switch is not None and switch.decode() in MODES:
            self.mode = switch.decode()

    def look(self, scale: float, now_ms: int) -> None:
        """See anew what the learned policy decides by, once a tick. ``scale``: the platform's now."""
        if self.learned is not None:
            ctr, weights = self.platform_ctr, self.in_force.weights
            seen = learned.platform(weights, scale, ctr, self.throttle, 0.0, 1.0)  # users see no pool, no load
            record = learned.record_of(self.contents, scale, ctr, now_ms)
            self.playing = Playing(self.learned, seen, record, self.trial)

    def play(self, learned: Learned, trial: Trial | None) -> None:
        """Go by these versions of the policy from the next request on."""
        self.learned, self.trial = learned, trial
        if self.playing is not None:
            self.playing = self.playing._replace(learned=learned, trial=trial)

    def steer(self, in_force: InForce) -> None:
        """Go by these weights: users' agents from the next request on, contents and the system from the next tick."""
        self.in_force = in_force
        if self.playing is not None:
            seen = self.playing.seen._replace(weights=astuple(in_force.weights))
            self.playing = self.playing._replace(seen=seen)

    def next_id(self, now_ms: int) -> str:
        """An id for a decision: server, time and count, so that no two are alike, on any server."""
        self._decisions += 1
        return f"{self.server}-{now_ms:x}-{self._decisions:x}"

    def recommend(
        self, asked: Sequence[Asked], ids: Sequence[str], now_ms: int, why: str | None = None
    ) -> list[wire.Logged]:
        """Decide a batch whose requests are of one size and of different users, and fold what was shown.

        ``why``: a reason to answer in the ranker's order, the last step of the ladder.
        """
        asked = [self._current(one, now_ms) for one in asked]
        if self.arms is None:
            return self._decided(asked, ids, now_ms, why, AS_IS, ((),) * len(asked))
        users = [one.request.user_id for one in asked]
        record = self.users.record[[one.user for one in asked]]
        known = [NOTHING] * len(asked)
        if self.arms.targeted:
            known = [attributes(one.request.context, of, now_ms) for one, of in zip(asked, record, strict=True)]
        lines: dict[int, wire.Logged] = {}
        for play, at, exposures in self.arms.parts(users, record["visited_ms"].tolist(), known, now_ms):
            part = self._decided([asked[i] for i in at], [ids[i] for i in at], now_ms, why, play, exposures)
            lines |= zip(at, part, strict=True)
        return [lines[i] for i in range(len(asked))]

    def _decided(
        self, asked: Sequence[Asked], ids: Sequence[str], now_ms: int, why: str | None, play: Play,
        exposures: Sequence[tuple[wire.Exposure, ...]],
    ) -> list[wire.Logged]:  # fmt: skip
        """Requests that are decided alike. Whatever becomes of them, they are logged as exposed."""
        size = asked[0].request.size
        if why is None and self._mode(play) != "ranker":
            before = len(self.outbox)
            try:
                return self._regulated(asked, ids, size, now_ms, play, exposures)
            except Exception:
                # Whatever the regulator cannot do, the ranker's order can be shown.
                log.exception("the regulator failed on a batch of %d; the ranker's order is shown", len(asked))
                self.failures["regulator"] += 1
                del self.outbox[before:]
                why = "regulator_failed"
        return self._in_order(asked, ids, size, now_ms, why, exposures, play.reach)

    def _mode(self, play: Play) -> str:
        """Who decides: whom an arm names, but never more than the switch allows."""
        return MODES[min(MODES.index(self.mode), MODES.index(play.mode or self.mode))]

    def policy_of(self, play: Play) -> Learned | None:
        """The policy that turns the dials of contents and of the system for an arm; None: the rules."""
        return (play.learned or self.learned) if self._mode(play) == "policy" else None

    def _current(self, one: Asked, now_ms: int) -> Asked:
        """The request with the rows of now: a user or content may have been forgotten while it waited."""
        name = one.request.user_id
        row = self.users.rows.at.get(name)
        if row is None:
            # New at the time that the log will tell, so that whoever folds it makes the same record.
            row = self.users.put(name, records.new_user(now_ms, self.platform_ctr))
        if one.dropped == self.contents.rows.dropped:
            return one if row == one.user else one._replace(user=row)
        return recommend.prepare(self.contents, one.request, one.number, row)

    def _regulated(
        self, asked: Sequence[Asked], ids: Sequence[str], size: int, now_ms: int, play: Play,
        exposures: Sequence[tuple[wire.Exposure, ...]],
    ) -> list[wire.Logged]:  # fmt: skip
        settings = play.guarded(self.settings)
        hour = now_ms // HOUR_MS
        if hour != self.window_hour:
            self.window_hour, self.window_shown, self.window_heated = hour, 0, 0
        window = Window(self.window_shown, self.window_heated, self.throttle)
        if self.playing is None:
            self.look(settings.scale, now_ms)
        playing, why = self.playing if self._mode(play) == "policy" else None, None
        if playing is not None and play.learned is not None:
            playing = playing._replace(learned=play.learned, trial=None)
        if playing is not None and play.weights is not None:
            playing = playing._replace(seen=playing.seen._replace(weights=astuple(play.weights.weights)))
        grants = NO_GRANTS
        if play.heating:
            grants = self.purses.get(play.purse, NO_GRANTS) if play.purse else self.grants

        def decided_by(playing: Playing | None) -> recommend.Decided:
            return recommend.decide(
                settings, self.users, self.contents, grants, window, self.platform_ctr, asked, size, now_ms,
                playing, play.exploration, play.reach,
            )  # fmt: skip

        try:
            decided = decided_by(playing)
        except Exception:
            if playing is None:
                raise
            log.exception("the policy failed on a batch of %d; the rules decide", len(asked))
            self.failures["policy"] += 1
            decided, playing, why = decided_by(None), None, "policy_failed"
        names, arm = self.contents.rows.names, "rules" if playing is None else "marl"
        lines = [
            self._line(one, id, places, arm, now_ms, why, exposed, play.purse)
            for one, id, places, exposed in zip(
                asked, ids, wire.places_of(asked, decided, names), exposures, strict=True
            )
        ]
        if playing is not None and play.learned is not None:
            for line in lines:
                line.policy_version = play.learned.version
        if play.weights is not None:
            for line in lines:
                line.weights_version, line.weights = play.weights
        if playing is not None and playing.trial is not None and decided.on_trial is not None:
            for line, tried in zip(lines, decided.on_trial.tolist(), strict=True):
                line.policy_version = playing.trial.learned.version if tried else line.policy_version
        questions = wire.questions_of(asked, decided, names, settings.seed)
        minds = decided.arrived["mind"].astype(np.float64).round(4).tolist()  # for people: short in the log
        turned = wire.turned_of(decided, settings.dial_noise)
        for one, line, question, mind, turn in zip(asked, lines, questions, minds, turned, strict=True):
            line.question, line.mind, line.turned = question, tuple(mind), turn
            if one.request.shadow:
                line.instead, line.places = line.places, ranked(one, size, play.reach)
        if any(one.request.shadow for one in asked):
            for line in lines:
                self.show(line, self._to_log(line))
                heated = [self.contents.rows.at[p.id] for p in line.places if p.kind == slate.HEATED]
                self._count_window(len(line.places), np.asarray(heated, np.int64), play.purse)
            return lines
        picked = decided.picked
        rows = np.where(decided.empty[:, 0], recommend.NO_CONTENT, picked.ids[:, 0])
        kind = np.where(decided.empty[:, 0], slate.ORGANIC, picked.kind[:, 0])
        if decided.empty.any():  # empty places go to the end, as in the answer
            order = np.argsort(decided.empty[:, 0], axis=-1, kind="stable")
            rows, kind = np.take_along_axis(rows, order, -1), np.take_along_axis(kind, order, -1)
        keys = self.contents.key[np.maximum(rows, NOBODY)]
        for b, k in zip(*np.nonzero(rows < recommend.NO_CONTENT), strict=True):
            keys[b, k] = key_of(lines[b].places[k].id)
        heated = kind == slate.HEATED
        users = np.fromiter((one.user for one in asked), np.int64, len(asked))
        fold.seen(self.users, self.contents, users, decided.arrived, decision_keys(ids), rows, keys, now_ms)
        fold.counted(self.contents, rows, heated, kind == slate.EXPLORED, play.purse)
        self._count_window(int((rows != recommend.NO_CONTENT).sum()), rows[heated], play.purse)
        for line in lines:
            self._remember(line, self._to_log(line))
        return lines

    def _to_log(self, line: wire.Logged) -> bytes:
        """The line as the log and the store keep it; encoded once, for it is the largest thing a request makes."""
        body = wire.encoder.encode(line)
        self.outbox.append((line.user_id, line.ts, body))
        return body

    def _in_order(
        self, asked: Sequence[Asked], ids: Sequence[str], size: int, now_ms: int, why: str | None,
        exposures: Sequence[tuple[wire.Exposure, ...]], reach: Reach | None,
    ) -> list[wire.Logged]:  # fmt: skip
        lines = [
            self._line(one, id, ranked(one, size, reach), "raw", now_ms, why, exposed)
            for one, id, exposed in zip(asked, ids, exposures, strict=True)
        ]
        for line in lines:
            self.show(line, self._to_log(line))
        return lines

    def unread(self, one: Asked, id: str, now_ms: int, why: str) -> wire.Logged:
        """A slate in the ranker's order for a user who is not in memory, where another folds for the store."""
        line = self._line(one, id, ranked(one, one.request.size), "raw", now_ms, why)
        self._remember(line, self._to_log(line))
        return line

    def _line(
        self, one: Asked, id: str, places: list[wire.Place], arm: str, now_ms: int, why: str | None,
        exposed: tuple[wire.Exposure, ...] = (), purse: str = "",
    ) -> wire.Logged:  # fmt: skip
        version = {"rules": "rules-1", "raw": "ranker"}.get(arm) or (self.learned.version if self.learned else "")
        if why is None and self.mode == "policy" and self.learned is None:
            why = "no_policy"
        last_day, today = int(self.users.record["visited_ms"][one.user]) // fold.DAY_MS, now_ms // fold.DAY_MS
        exposed = exposed if not one.request.shadow else ()
        new, small = (self._is_new(one.user, now_ms), self._of_small(places)) if exposed else (False, ())
        return wire.Logged(
            wire.SCHEMA, id, one.request.user_id, now_ms, self.server, places, arm, version, self.in_force.version,
            self.in_force.weights, self.platform_ctr, why, one.request.request_id,
            experiments=exposed, new=new, small=small,
            # When a user came before is not known of one who could not be read.
            daily=one.user != NOBODY and last_day < today, returned=last_day == today - 1, purse=purse,
        )  # fmt: skip

    def _is_new(self, user: int, now_ms: int) -> bool:
        created_ms = int(self.users.record["created_ms"][user])
        return user != NOBODY and now_ms - created_ms < self.settings.new_user_days * fold.DAY_MS

    def _of_small(self, places: Sequence[wire.Place]) -> tuple[int, ...]:
        """Places with contents of creators who have few followers; of how many is not told, it is not known."""
        at, info, few = self.contents.rows.at, self.contents.info, self.settings.small_creator_followers
        followers = [info[row].creator_followers if (row := at.get(p.id)) is not None else None for p in places]
        return tuple(k for k, many in enumerate(followers) if many is not None and many < few)

    def _count_window(self, impressions: int, heated_rows: np.ndarray, purse: str) -> None:
        self.window_shown += impressions
        self.window_heated += len(heated_rows)
        self.shown += impressions
        if len(heated_rows):
            np.subtract.at(self.contents.left_in(purse), heated_rows, 1)
            shown_of = self.shown_of.setdefault(purse, Counter())
            shown_of.update(self.contents.rows.names[row] for row in heated_rows.tolist())


def attributes(context: Mapping[str, Any], record: np.void | None, now_ms: int) -> dict[str, Any]:
    """What experiments may target a user by: what the platform says of them in the request, and what is known here."""
    if record is None:
        return dict(context)
    age_days = (now_ms - int(record["created_ms"])) / fold.DAY_MS
    return {**context, "age_days": age_days, "requests": float(record["requests"])}


def ranked(one: Asked, size: int, reach: Reach | None = None) -> list[wire.Place]:
    """The ranker's own order, less what the request excludes; what is out of reach comes last, what is pushed is so
    marked."""
    no = set(one.request.exclude)
    kept = [name for name in one.ids if name not in no]
    if reach is not None and kept:
        mine = reach.has(np.fromiter(map(unit_id, kept), np.uint32, len(kept))).tolist()
        kept = [name for name, own in zip(kept, mine, strict=True) if own] + [
            name for name, own in zip(kept, mine, strict=True) if not own
        ]
    pushed = {candidate.id for candidate in one.request.candidates if candidate.pushed}
    return [
        wire.Place(name, slate.PUSHED, 1.0, False, ("pushed",))
        if name in pushed
        else wire.Place(name, slate.ORGANIC, 1.0, False, ("ranker",))
        for name in kept[:size]
    ]
