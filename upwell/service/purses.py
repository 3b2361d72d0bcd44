"""Money of an experiment whose arms have some of their own (``arms.Split``): what is split, moved and given back.

A content's account is split when a tick first sees it in a stage of the experiment: what all its purses have, its coins
and the heated impressions that agents see of it, is shared out anew as users are; so is what was used of the day's
pool. So a ramp moves coins, and makes none; what is outstanding stays with the purse that granted it. When the
experiment is over, coins go back at once, and what was outstanding as any grant that ends does: it is matched to
nobody, and released when nothing of it can be under way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from upwell.regulator.designs import parts
from upwell.regulator.layers import BUCKETS
from upwell.regulator.ledger import COIN
from upwell.service import ticker
from upwell.service.arms import AS_IS, Play, Split
from upwell.service.records import COLUMN, in_purse
from upwell.service.settings import Settings
from upwell.service.tables import Contents
from upwell.service.ticker import Books, Longs
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


def owns(split: Split, contents: Contents) -> dict[str, npt.NDArray[np.bool_]]:
    """Which live contents each purse has a part of."""
    many, units = len(contents.all_rows), contents.unit[contents.all_rows]
    diverted = {name: play.reach.has(units) for name, play in running(split).items() if play.reach is not None}
    if diverted:
        return {**diverted, "": ~np.any([*diverted.values()], axis=0)}
    return {name: np.full(many, share > 0.0) for name, share in shares(split).items()}


def accounts(split: Split, contents: Contents, amount: Longs) -> dict[str, Longs]:
    """Of each live content, an amount by purse: what is split, or wholly whose the content is."""
    if any(play.reach is not None for play in split.plays):
        return {name: np.where(its, amount, 0) for name, its in owns(split, contents).items()}
    return dealt(split, amount, contents.key[contents.all_rows])


def may_grant(split: Split | None, contents: Contents, purse: str) -> npt.NDArray[np.bool_]:
    """Which live contents a purse may grant anything."""
    many = len(contents.all_rows)
    if split is None:
        return np.full(many, not purse)
    play = {"": AS_IS, **running(split)}.get(purse)
    if play is None or not play.heating or play.mode == "ranker":
        return np.zeros(many, bool)
    return owns(split, contents)[purse]


def its_own(settings: Settings, split: Split, purse: str, daily_impressions: float, day: int) -> Settings:
    """The platform as a purse's agents see it: its part of the pool, and in the mean of the chance (see ``chances``).

    What contents ask for is as much smaller as their accounts are. Co-diverted, contents are owed the whole chance.
    """
    pool = dealt(split, np.asarray(ticker.pool_of(settings, daily_impressions)), np.asarray(day))[purse]
    part = 1.0 if split.experiment.design == "co_diverted" else shares(split)[purse]
    return settings.model_copy(update={"pool": int(pool) / daily_impressions, "chance": part * settings.chance})


def chances(settings: Settings, split: Split, purse: str, contents: Contents, scale: float) -> Longs:
    """Impressions of the chance that a purse owes each live content: whole, and all purses' together one chance."""
    whole = np.full(len(contents.all_rows), math.ceil(settings.chance * scale))
    return accounts(split, contents, whole)[purse]


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
    each = {"": whole} if split is None else accounts(split, contents, whole)
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
    stage = split.stage + 1
    anew = np.any([one.of["stage"][rows] != stage for one in mine], axis=0)
    for name, its in owns(split, contents).items():
        # Coins that came back to where nobody is left are for those who are.
        anew |= ~its & (books[name].of["budget_units"][rows] != 0)
    # An account that is not open yet has a first budget.
    had = np.where(base.opened[rows], base.of["budget_units"][rows], round(settings.budget * COIN))
    whole = had + changes[""]["budget_units"] + sum(one.of["budget_units"][rows] for one in mine)
    units = accounts(split, contents, whole)
    views = accounts(split, contents, heated[""] + sum(heated[one.purse] for one in mine))
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
