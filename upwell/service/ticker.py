"""The slow tick, live: contents ask, the system agent approves, the ledger pays, grants are matched to segments.

The books are counters in the store, written by whoever holds the lease ``tick``: of each content, impressions granted
and released, and coins; of each purse apart, where an experiment splits money (``purses``). What was spent is not
written twice: it is the heated impressions of the decision log, counted once each. So granted = spent + released +
outstanding by construction, whatever was killed when; the tests check that outstanding is never below zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import astuple
from scipy.cluster.vq import ClusterError, kmeans2

from upwell.agents.dials import Dials
from upwell.agents.xp import hash_uniform
from upwell.goals.program import Program
from upwell.model import Weights
from upwell.regulator import guards, policy, tick
from upwell.regulator.bonus import bonus
from upwell.regulator.ledger import COIN, Ledger
from upwell.regulator.match import held_by
from upwell.regulator.trust.judge import ZEROED
from upwell.service import figures, learned, story, trust
from upwell.service.learned import Learned
from upwell.service.recommend import Grants
from upwell.service.records import COLUMN, DIMS, in_purse
from upwell.service.settings import Settings
from upwell.service.tables import NOBODY, Contents, Floats, Users
from upwell.state.batch import Batch

DAY_MS = 86_400_000
SEGMENTS, PLACES = 16, 16
SAMPLE = 4_096
"""Users whose profiles the segments are found from."""
ASK, TURN = 501, 611
RULES = Dials()
BOOKS = ("granted", "released", "budget_units", "price_units", "seized_units")
SPLIT = ("inherited", "stage")
"""Of an arm's account: heated impressions that it began with as its part of those before, and the experiment's stage
that it was split in, plus 1; 0: it is closed."""
EARNING_CTR, EARNED_UNITS = 0.03, 50 * COIN
DEAREST = 70_000_000
"""Units that an impression costs at most at the reserve price: bids of 27 times as much fit 32 bits."""
Longs = npt.NDArray[np.int64]


@dataclass
class Books:
    """A purse's ledger: its counters by row of the contents' table, and the day's pool. Whole numbers.

    ``purse``: see ``arms.Split``; ``""``: everybody's, or what arms leave of it.
    """

    purse: str = ""
    of: dict[str, Longs] = field(default_factory=lambda: {name: np.zeros(256, np.int64) for name in BOOKS + SPLIT})
    opened: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(256, bool))
    withdrawn: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(256, bool))  # by the last tick
    verdict: npt.NDArray[np.int8] = field(default_factory=lambda: np.zeros(256, np.int8))  # ``story.CODES``, the last
    day: int = -1
    granted_today: int = 0
    released_today: int = 0
    carried: int = 0  # outstanding when the day began, and what came of the pool to or from other purses since
    stage_today: int = 0  # of an arm: the experiment's stage, plus 1, that the day's pool is split in

    def fit(self, rows: int) -> None:
        """Room for ``rows`` rows."""
        short = rows - len(self.opened)
        if short > 0:
            more = short + len(self.opened)
            self.opened, self.withdrawn = (np.pad(flags, (0, more)) for flags in (self.opened, self.withdrawn))
            self.verdict = np.pad(self.verdict, (0, more))
            self.of = {name: np.pad(values, (0, more)) for name, values in self.of.items()}

    def load(self, row: int, counters: dict[str, int]) -> None:
        """What the store has of one content's account."""
        self.fit(row + 1)
        self.opened[row] = counters.get("stage", 0) > 0 if self.purse else bool(counters)
        for name in BOOKS + SPLIT:
            self.of[name][row] = counters.get(name, 0)

    def close(self, rows: list[int]) -> None:
        """Accounts of contents that are gone: their rows will be others'."""
        self.opened[rows] = self.withdrawn[rows] = False
        self.verdict[rows] = story.QUIET
        for values in self.of.values():
            values[rows] = 0

    @property
    def used_today(self) -> int:
        """Impressions that the day's pool holds no more."""
        return self.carried + self.granted_today - self.released_today

    def outstanding(self, contents: Contents, rows: Longs) -> Longs:
        """Impressions granted and neither shown nor released, of each content."""
        return self.of["granted"][rows] - self.of["released"][rows] - contents.spent(self.purse, rows)


@dataclass(frozen=True)
class Ticked:
    """What a tick came to: counters to write, and what servers go by until the next."""

    batch: Batch
    grants: Grants
    centres: Floats  # [S, DIMS], unit length
    outstanding: Longs  # by row, of what may be shown: nothing of what is withdrawn
    withdrawn: npt.NDArray[np.bool_]  # by row
    rows: Longs  # of the contents that were there
    cheat: npt.NDArray[np.bool_]  # by row
    changes: dict[str, Longs]  # of the books, by row
    verdict: npt.NDArray[np.int8]  # by row, see ``story.CODES``
    arms: dict[str, Ticked] = field(default_factory=dict[str, "Ticked"])  # of everybody's tick: those of arms' purses


def pool_of(settings: Settings, daily_impressions: float) -> int:
    """Impressions of a full pool."""
    return round(settings.pool * daily_impressions)


def segments(users: Users, seed: int) -> Floats:
    """Unit centres f32 ``[S, DIMS]`` of the k-means cells of users' profiles."""
    rows = np.fromiter(users.rows.at.values(), np.int64, len(users.rows))
    profiles = users.record["profile"][rows].astype(np.float32) if len(rows) else np.zeros((0, DIMS), np.float32)
    profiles = profiles[(profiles**2).sum(-1) > 0]
    rng = np.random.default_rng(seed)
    if len(profiles) > SAMPLE:
        profiles = profiles[rng.choice(len(profiles), SAMPLE, replace=False)]
    if len(profiles) < 4 * SEGMENTS:  # too few to tell apart
        centres = profiles.mean(0, keepdims=True) if len(profiles) else np.zeros((1, DIMS), np.float32)
    else:
        centres = cells(profiles, rng)
    return (centres / np.maximum(np.linalg.norm(centres, axis=-1, keepdims=True), 1e-6)).astype(np.float32)


def cells(profiles: Floats, rng: np.random.Generator) -> Floats:
    """Centres of k-means cells, none of them empty."""
    different = np.unique(profiles, axis=0)
    if len(different) <= SEGMENTS:
        return different
    for _ in range(3):
        try:
            return kmeans2(profiles, SEGMENTS, minit="++", missing="raise", rng=rng)[0]
        except ClusterError:
            continue
    return different[rng.choice(len(different), SEGMENTS, replace=False)]


def once(
    settings: Settings,
    contents: Contents,
    books: Books,
    centres: Floats,
    number: int,
    now_ms: int,
    heated_share: float,
    throttle: float,
    platform_ctr: float,
    daily_impressions: float,
    weights: Weights,
    lent: Longs | None = None,
    playing: Learned | None = None,
    program: Program | None = None,
    platform: Mapping[str, float] | None = None,
    silent: bool = False,
    heated: Longs | None = None,
    mine: npt.NDArray[np.bool_] | None = None,
    chance: Longs | None = None,
    batch: Batch | None = None,
) -> Ticked:
    """One slow tick over all live contents. Changes nothing: the caller writes ``batch`` and then calls ``applied``.

    A grant that ends is withdrawn first: matched to nobody any more. The tick after that releases what is left of it,
    when nothing of it can be shown that the books do not know of. ``lent``: by row, impressions that servers in other
    processes may still be showing, for all they have heard; while there are any, it waits. ``playing``: the learned
    policy; None: the rules. ``program``: the goal's reward program, and ``platform`` the figures that are known of
    users (``figures.of_users``). ``silent``: the judge of who cheats says nothing, so that nobody is heated.
    Where money is split: ``heated``: of live contents, the heated impressions that count; None: all. ``mine``: who of
    them may have grants of this purse; None: all, and whoever may not loses the one they have. ``chance``: impressions
    of the chance that this purse owes each of them. ``batch``: what the tick is added to, if it is not alone.
    """
    rows, purse = contents.all_rows, books.purse
    mine = np.ones(len(rows), bool) if mine is None else mine
    books.fit(len(contents.live))
    counts = contents.counts[rows]
    column = {name: counts[:, i] for name, i in COLUMN.items()}
    if heated is not None:
        column["heated"] = heated
    age_days = (now_ms - contents.published_ms[rows]) / DAY_MS
    scale = daily_impressions / settings.live_contents / 500.0
    opened = books.opened[rows] | bool(purse)  # an arm's accounts are opened by what is moved to them
    budget = np.where(opened, books.of["budget_units"][rows], round(settings.budget * COIN))
    low = contents.low[rows]
    cleared = low == trust.CLEARED
    # Amends come too late for a budget that was lost, unless an operator says so.
    restored = np.where(cleared, books.of["seized_units"][rows], 0)
    budget = budget + restored
    outstanding = np.maximum(books.outstanding(contents, rows), 0)
    pool = pool_of(settings, daily_impressions)
    day_share = (now_ms % DAY_MS) / DAY_MS
    left = max(pool - books.used_today, 0)
    zero = np.int64(0)
    before = Ledger(np.int64(left), budget, outstanding, books.of["price_units"][rows], zero, zero, zero, np.float32(0))
    cheat = cheats(contents)
    frozen = trust.frozen(low, silent)
    state = tick.opened(np, 1, 0.0)._replace(
        ledger=before, hour_impressions=np.float32(1.0), hour_heated=np.float32(heated_share),
        throttle=np.float32(throttle),
    )  # fmt: skip
    match = centres @ contents.embedding[rows].T if len(rows) else np.zeros((len(centres), 0), np.float32)
    u = hash_uniform(np, settings.seed, ASK, number, contents.key[rows])
    floats = {name: values.astype(np.float32) for name, values in column.items()}
    # What is paid for is what trusted users did.
    for i, name in enumerate(("clicks", "valid")):
        floats[name] = np.maximum(floats[name] - contents.doubted[rows, i], 0.0)
    known = policy.Standing(
        floats["impressions"], floats["clicks"], floats["valid"], floats["heated"], age_days,
        contents.followers[rows], budget / COIN,
    )  # fmt: skip
    best_match = match.max(0) if len(rows) else np.zeros(0, np.float32)
    dials, heat = RULES, None
    if playing is not None:
        seen = learned.platform(
            weights, scale, platform_ctr, throttle, guards.load(np, heated_share, settings.cap), left / max(pool, 1)
        )
        ours, theirs = learned.contents_turn(playing, known, best_match, settings.budget, seen)
        dials = Dials(content=ours, system=theirs)
        heat = np.zeros((len(contents.live), len(learned.HEAT)), np.float32)
        heat[rows] = learned.heat_dials(ours, theirs, len(rows))
    wanted = policy.requests(
        np, known, best_match, u, np.float32(scale), np.float32(platform_ctr), settings.first_ask, astuple(weights),
        dials,
        None if program is None else bonus(
            np, program, known, best_match, scale, settings.chance,
            figures.given(program, contents, rows, platform_ctr, heated_share, platform or {}),
        ),
    )  # fmt: skip
    barred = cheat | frozen
    # Heated impressions are counted whole, and so is the chance.
    one_chance = np.ceil(settings.chance * scale) if chance is None else chance.astype(np.float64)
    owed = guards.owed_a_chance(floats["heated"], age_days, np.float32(1.0), one_chance, barred | ~mine)
    quality = (floats["valid"] + 1.0) / (floats["impressions"] * platform_ctr + 2.0)
    assert wanted.wanted is not None
    wanted = wanted._replace(give_up=wanted.give_up | ~mine, wanted=np.where(mine, wanted.wanted, 0))
    ends = (wanted.give_up & ~owed) | barred
    settled = books.withdrawn[rows] & (lent[rows] == 0 if lent is not None else True)
    asked = np.where(barred | ~mine, 0, wanted.impressions)
    wanted = wanted._replace(give_up=wanted.give_up & settled, impressions=asked)
    over = settled | (outstanding == 0)
    state = state._replace(cheat=cheat & over, frozen=frozen & over)
    # Where there is hardly any traffic, an impression is worth a whole budget and no more.
    price = tick.reference_price(np, settings.first_ask, settings.budget, scale)
    price = np.minimum(price, min(max(round(settings.budget * COIN), 1), DEAREST))
    after = before
    if len(rows):
        after = tick.allocate(
            np, state, wanted, owed, np.clip(quality, 0.0, 1.0), one_chance, price, settings.cap, day_share, pool,
        ).ledger  # fmt: skip
    granted = np.maximum(after.outstanding - outstanding, 0)
    back = np.maximum(outstanding - after.outstanding, 0)
    changes = {
        "granted": granted.astype(np.int64),
        "released": back.astype(np.int64),
        "budget_units": after.budget.astype(np.int64) - books.of["budget_units"][rows],
        "price_units": after.price.astype(np.int64) - books.of["price_units"][rows],
    }
    lost = np.where(state.cheat, budget + back * before.price, 0) if len(rows) else np.zeros(0, np.int64)
    changes["seized_units"] = (lost - restored).astype(np.int64)
    batch = Batch() if batch is None else batch
    closed = ~opened
    moved = np.flatnonzero(np.any([closed, *(values != 0 for values in changes.values())], axis=0)).tolist()
    for i in moved:
        # An account is opened with its budget, even with one of nothing.
        kept = ("budget_units",) if closed[i] else ()
        deltas = {
            in_purse(name, purse): int(values[i]) for name, values in changes.items() if values[i] or name in kept
        }
        batch.add("grant", contents.rows.names[int(rows[i])], deltas)
    count_day(batch, purse, now_ms // DAY_MS, granted=int(granted.sum()), released=int(back.sum()))
    reserve = price * float(guards.price_factor(np, np.float32(heated_share), settings.cap))
    verdict = story.verdicts(
        wanted, owed, cheat, frozen, granted, back, reserve, price, known, scale, outstanding, mine
    )
    told = story.lines(
        now_ms, verdict, books.verdict[rows], wanted, granted, back, after.price, price, best_match, purse
    )
    for i, line in told:
        batch.append("grant", contents.rows.names[int(rows[i])], line)
    withdrawn = np.zeros(len(contents.live), bool)
    withdrawn[rows] = ends & (after.outstanding > 0)
    full = np.zeros(len(contents.live), np.int64)
    full[rows] = np.where(withdrawn[rows], 0, after.outstanding)
    by_row = {name: scattered(values, rows, len(full)) for name, values in changes.items()}
    # Who keeps still keeps their verdict: asking again after that is nothing new.
    verdict = np.where(verdict == story.QUIET, books.verdict[rows], verdict)
    turn = hash_uniform(np, settings.seed, TURN, number, contents.key)

    def fit(active: Any) -> Any:
        return centres @ contents.embedding[active].T

    many = min(len(full), max(4 * PLACES, 16 * PLACES * len(centres) // 8))
    held, there = held_by(np, full, scattered(owed, rows, len(full)), turn, fit, many, PLACES)
    given = np.where(there, held, NOBODY).astype(np.int32)
    grants = Grants(given, None if heat is None else heat[given], purse)
    cheat, verdict = (scattered(values, rows, len(full)) for values in (cheat, verdict))
    return Ticked(batch, grants, centres, full, withdrawn, rows, cheat, by_row, verdict)


def cheats(contents: Contents) -> npt.NDArray[np.bool_]:
    """Which live contents cheat for certain, unless an operator says that they do not."""
    rows = contents.all_rows
    clicks, valid = (contents.counts[rows, COLUMN[name]] for name in ("clicks", "valid"))
    low = contents.low[rows]
    return (guards.proven_cheat(np, clicks, valid) | (low >= ZEROED)) & (low != trust.CLEARED)


def count_day(batch: Batch, purse: str, day: int, **counted: int) -> None:
    """Add to a day's counters of a purse."""
    batch.add("meta", f"day {day}", {in_purse(name, purse): n for name, n in counted.items()})


def scattered(values: Any, rows: Longs, size: int) -> Any:
    """Values of rows by row of a table of ``size`` rows, 0 elsewhere."""
    out = np.zeros(size, values.dtype)
    out[rows] = values
    return out


def applied(books: Books, ticked: Ticked) -> None:
    """Take a written tick into the books."""
    books.fit(len(ticked.outstanding))
    for name, values in ticked.changes.items():
        books.of[name][: len(values)] += values
    if not books.purse:  # an arm's account is opened and closed by what is moved
        books.opened[ticked.rows] = True
    books.withdrawn[: len(ticked.withdrawn)] = ticked.withdrawn
    books.verdict[: len(ticked.verdict)] = ticked.verdict
    books.granted_today += int(ticked.changes["granted"].sum())
    books.released_today += int(ticked.changes["released"].sum())


@dataclass(frozen=True)
class Day:
    """What the first tick of a day comes to."""

    batch: Batch
    number: int
    carried: int  # outstanding as it begins
    earning: Longs  # rows of contents that earn coins
    earned: Longs  # units, each
    stage: int


def new_day(
    settings: Settings, contents: Contents, books: Books, now_ms: int, earned: Longs | None = None, stage: int = 0,
    batch: Batch | None = None,
) -> Day:  # fmt: skip
    """The first tick of a day: the pool is full again, less what is outstanding; contents that earn clicks earn coins.

    50 coins a day while the click rate is above 3%, in a content's first week (the seed's rule). Changes nothing: the
    caller writes ``batch`` and then calls ``begun``. ``earned``: of live contents, this purse's part of the coins,
    units; ``stage``: see ``Books.stage_today``. ``batch``: what the day is added to, if it is not alone.
    """
    rows = contents.all_rows
    books.fit(len(contents.live))
    number = now_ms // DAY_MS
    carried = int(np.maximum(books.outstanding(contents, rows), 0).sum())
    impressions, clicks = (contents.counts[rows, COLUMN[name]] for name in ("impressions", "clicks"))
    earning = (
        (impressions >= 50.0 * settings.scale)
        & (clicks > EARNING_CTR * impressions)
        & (now_ms - contents.published_ms[rows] < 7 * DAY_MS)
        & books.opened[rows]
    )
    earned = np.full(len(rows), EARNED_UNITS) if earned is None else earned
    batch = Batch() if batch is None else batch
    for row, units in zip(rows[earning].tolist(), earned[earning].tolist(), strict=True):
        batch.add("grant", contents.rows.names[row], {in_purse("budget_units", books.purse): units})
    for row in rows[books.opened[rows]].tolist() if not books.purse else ():
        batch.append("grant", contents.rows.names[row], story.day(now_ms, contents.counts[row].tolist()))
    count_day(batch, books.purse, number, carried=carried, **({"stage": stage} if stage else {}))
    # A day begins once, however often its server is started anew.
    batch.put("meta", "day", str(number).encode())
    return Day(batch, number, carried, rows[earning], earned[earning], stage)


def begun(books: Books, day: Day) -> None:
    """Take a day whose beginning is written into the books."""
    books.day, books.granted_today, books.released_today, books.carried = day.number, 0, 0, day.carried
    books.stage_today = day.stage
    books.of["budget_units"][day.earning] += day.earned
