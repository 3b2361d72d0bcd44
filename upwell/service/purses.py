"""Money of an experiment whose arms have some of their own (``arms.Split``): what is split, moved and given back.

A content's account is split when a tick first sees it in a stage of the experiment: what all its purses have, its coins
and the heated impressions that agents see of it, is shared out anew as users are; so is what was used of the day's
pool. So a ramp moves coins, and makes none; what is outstanding stays with the purse that granted it. When the
experiment is over, coins go back at once, and what was outstanding as any grant that ends does: it is matched to
nobody, and released when nothing of it can be under way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from upwell.regulator.designs import parts
from upwell.regulator.layers import BUCKETS
from upwell.regulator.ledger import COIN
from upwell.service import story, ticker
from upwell.service.arms import AS_IS, Play, Split
from upwell.service.recommend import Grants
from upwell.service.records import COLUMN, in_purse
from upwell.service.settings import Settings
from upwell.service.tables import NOBODY, Contents, Floats
from upwell.service.ticker import DAY_MS, Books, Longs, Ticked
from upwell.state.batch import Batch

KEPT = ("budget_units", "seized_units")
"""What goes back to everybody's account when an arm's is closed."""


@dataclass(frozen=True)
class Moved:
    """Coins, and what the day's pool was used for, on their way between purses.

    A write of its own, so that no crash finds them half-way.
    """

    batch: Batch
    rows: Longs  # of the contents that were there
    changes: dict[str, dict[str, Longs]]  # of the books, by purse and name, each as ``rows``
    anew: npt.NDArray[np.bool_]  # whose accounts are split anew, as ``rows``
    today: dict[str, dict[str, int]]  # of the day's counters, by purse


def running(split: Split | None) -> dict[str, Play]:
    """Arms by their purses' names."""
    return {play.purse: play for play in split.plays} if split is not None else {}


def dealt(split: Split, amount: Longs, unit: npt.NDArray[Any]) -> dict[str, Longs]:
    """Amounts by purse, as users are: whole numbers that add up to ``amount``, of each unit (a content's key)."""
    each = parts(np, split.experiment, amount, unit).astype(np.int64)
    return dict(zip([*running(split), ""], np.moveaxis(each, -1, 0), strict=True))


def shares(split: Split) -> dict[str, float]:
    """Of the platform, by purse."""
    first, end = split.experiment.buckets
    each = [(end - first) * width for width in split.experiment.widths]
    return {
        name: n / BUCKETS**2 for name, n in zip([*running(split), ""], [*each, BUCKETS**2 - sum(each)], strict=True)
    }


def heats(split: Split | None, purse: str) -> bool:
    """Whether a purse may grant anything: its arm runs, heats, and has users."""
    if split is None:
        return not purse
    play = running(split).get(purse, AS_IS if not purse else None)
    return play is not None and play.heating and play.mode != "ranker" and shares(split)[purse] > 0.0


def its_own(settings: Settings, split: Split, purse: str, daily_impressions: float, day: int) -> Settings:
    """The platform as a purse's agents see it: its part of the pool, and of the chance that new contents are owed.

    What contents ask for is as much smaller as their accounts are.
    """
    pool = dealt(split, np.asarray(ticker.pool_of(settings, daily_impressions)), np.asarray(day))[purse]
    chance = settings.chance * shares(split)[purse]
    return settings.model_copy(update={"pool": int(pool) / daily_impressions, "chance": chance})


def seen(contents: Contents, books: Mapping[str, Books]) -> dict[str, Longs]:
    """Of live contents, heated impressions that each purse's agents see: all together, those that there were."""
    rows = contents.all_rows
    left = contents.counts[rows, COLUMN["heated"]].copy()
    out: dict[str, Longs] = {}
    for name, one in books.items():
        if name:
            own = one.of["inherited"][rows] + contents.spent(name, rows)
            out[name] = np.where(one.opened[rows], own, 0)
            left -= out[name]
    return out | {"": left}


def earned(contents: Contents, books: Iterable[str], split: Split | None) -> dict[str, Longs]:
    """Of each live content, by purse: units of the coins that it earns in a day. An arm that is over earns none."""
    whole = np.full(len(contents.all_rows), ticker.EARNED_UNITS)
    each = {"": whole} if split is None else dealt(split, whole, contents.key[contents.all_rows])
    return {name: each.get(name, np.zeros_like(whole)) for name in books}


def moved(
    settings: Settings, contents: Contents, books: Mapping[str, Books], split: Split | None,
    lent: Mapping[str, Longs] | None,
) -> Moved | None:  # fmt: skip
    """What has to move between purses; None: nothing. Changes nothing: the caller writes it and calls ``applied``.

    ``books``: by purse, of all that run or are not closed yet; ``lent``: by purse, see ``ticker.once``.
    """
    rows = contents.all_rows
    for one in books.values():
        one.fit(len(contents.live))
    changes = {name: {what: np.zeros(len(rows), np.int64) for what in (*KEPT, *ticker.SPLIT)} for name in books}
    today = {name: {"carried": 0, "stage": 0} for name in books}
    heated = seen(contents, books)
    for name, one in books.items():
        if name and name not in running(split):
            _give_back(contents, one, None if lent is None else lent[name], changes, today)
            heated[""] = heated[""] + np.where(changes[name]["stage"] != 0, heated[name], 0)
    anew = np.zeros(len(rows), bool)
    if split is not None:
        anew = _split_anew(settings, contents, books, split, heated, changes, today)
    batch = Batch()
    for name, of in changes.items():
        touched = np.any([values != 0 for values in of.values()], axis=0) | (anew & (name == ""))
        for i in np.flatnonzero(touched).tolist():
            # An account is opened with its budget, even with one of nothing.
            deltas = {what: int(values[i]) for what, values in of.items() if values[i] or what == "budget_units"}
            named = {in_purse(what, name): n for what, n in deltas.items()}
            batch.add("grant", contents.rows.names[int(rows[i])], named)
        if any(today[name].values()):
            ticker.count_day(batch, name, books[""].day, **today[name])
    return Moved(batch, rows, changes, anew, today) if batch.adds else None


def _give_back(
    contents: Contents, one: Books, lent: Longs | None, changes: dict[str, dict[str, Longs]],
    today: dict[str, dict[str, int]],
) -> None:  # fmt: skip
    """An arm that is over: its coins are everybody's, and its accounts closed once nothing of them is outstanding."""
    rows = contents.all_rows
    for what in KEPT:
        changes[one.purse][what] -= one.of[what][rows]
        changes[""][what] += one.of[what][rows]
    over = (one.outstanding(contents, rows) <= 0) & (lent[rows] == 0 if lent is not None else True)
    for what in ticker.SPLIT:
        changes[one.purse][what] -= np.where(over, one.of[what][rows], 0)
    today[one.purse]["carried"] -= one.used_today
    today[""]["carried"] += one.used_today


def _split_anew(
    settings: Settings, contents: Contents, books: Mapping[str, Books], split: Split, heated: Mapping[str, Longs],
    changes: dict[str, dict[str, Longs]], today: dict[str, dict[str, int]],
) -> npt.NDArray[np.bool_]:  # fmt: skip
    """Share out accounts that the split's stage has not seen yet, and what was used of the day's pool; which they
    are."""
    rows, base, mine = contents.all_rows, books[""], [books[name] for name in running(split)]
    keys, stage = contents.key[rows], split.stage + 1
    anew = np.any([one.of["stage"][rows] != stage for one in mine], axis=0)
    for name, share in shares(split).items():
        if share == 0.0:  # coins that came back to where nobody is left are for those who are
            anew |= books[name].of["budget_units"][rows] != 0
    # An account that is not open yet has a first budget.
    had = np.where(base.opened[rows], base.of["budget_units"][rows], round(settings.budget * COIN))
    whole = had + changes[""]["budget_units"] + sum(one.of["budget_units"][rows] for one in mine)
    units = dealt(split, whole, keys)
    views = dealt(split, heated[""] + sum(heated[one.purse] for one in mine), keys)
    for one in mine:
        inherited = views[one.purse] - contents.spent(one.purse, rows)
        new = {"budget_units": units[one.purse], "inherited": inherited, "stage": stage}
        for what, value in new.items():
            changes[one.purse][what] = np.where(anew, value - one.of[what][rows], 0)
    rest = units[""] - base.of["budget_units"][rows]
    changes[""]["budget_units"] = np.where(anew, rest, changes[""]["budget_units"])
    if base.day >= 0 and any(one.stage_today != stage for one in mine):
        used = sum(one.used_today for one in (base, *mine)) + today[""]["carried"]
        for name, part in dealt(split, np.asarray(used), np.asarray(base.day)).items():
            today[name]["carried"] = int(part) - books[name].used_today
            today[name]["stage"] = stage - books[name].stage_today if name else 0
    return anew


def applied(books: Mapping[str, Books], moves: Moved) -> None:
    """Take a written move into the books."""
    for name, one in books.items():
        for what, values in moves.changes[name].items():
            one.of[what][moves.rows] += values
        one.carried += moves.today[name]["carried"]
        one.stage_today += moves.today[name]["stage"]
        if name:
            one.opened[moves.rows] = one.of["stage"][moves.rows] > 0
    books[""].opened[moves.rows[moves.anew]] = True


def wound_down(
    contents: Contents, books: Books, centres: Floats, now_ms: int, lent: Longs | None, batch: Batch
) -> Ticked:
    """The tick of a purse that grants nothing: what it has outstanding is withdrawn, and at the next tick released."""
    rows, size = contents.all_rows, len(contents.live)
    outstanding = np.maximum(books.outstanding(contents, rows), 0)
    settled = books.withdrawn[rows] & (lent[rows] == 0 if lent is not None else True)
    back = np.where(settled, outstanding, 0)
    changes = {"granted": np.zeros(len(rows), np.int64), "released": back}
    changes["budget_units"] = back * books.of["price_units"][rows]
    for i in np.flatnonzero(back).tolist():
        name = contents.rows.names[int(rows[i])]
        deltas = {in_purse(what, books.purse): int(values[i]) for what, values in changes.items() if values[i]}
        batch.add("grant", name, deltas)
        batch.append("grant", name, story.returned(now_ms, int(back[i]), books.purse))
    ticker.count_day(batch, books.purse, now_ms // DAY_MS, granted=0, released=int(back.sum()))
    withdrawn = ticker.scattered(outstanding - back > 0, rows, size)
    nobody = Grants(np.full((len(centres), 1), NOBODY, np.int32), purse=books.purse)
    by_row = {what: ticker.scattered(values, rows, size) for what, values in changes.items()}
    cheat = ticker.scattered(ticker.cheats(contents), rows, size)
    none = np.zeros(size, np.int64)
    return Ticked(batch, nobody, centres, none, withdrawn, rows, cheat, by_row, books.verdict[:size].copy())
