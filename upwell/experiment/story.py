"""One content's story: a poor start, then found outside its own tags, then a success of its own.

Contents are chosen by the criterion below, never made up. The same content lives under raw ranking too: with common
random numbers, seed, place and generation give the same birth in every arm.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from upwell.experiment.metrics import Report
from upwell.experiment.traffic import added
from upwell.world.state import CLICKS_TODAY, ORGANIC_TODAY, OUTSIDE, OUTSIDE_VALID, TODAY

LIVED = 6
"""Days of life that a content must have within the run."""
EARLY = 3
FOUND = 3
"""Valid views by users outside its tags, in its first ``EARLY`` days."""
GROWTH = 10.0
ENOUGH = 100.0
"""Organic impressions a day, times scale, of a successful cold start (see ``measure``)."""
KEPT = 3


class Birth(msgspec.Struct, array_like=True):
    """What raw ranking made of a content."""

    log_quality: float
    impressions: list[int]  # by day of life
    clicks: int  # of all these days


class Life(msgspec.Struct):
    """A content's first days, each list by day of life."""

    seed: int
    place: int
    generation: int
    born: int  # day of the run, from 0
    tags: list[int]
    log_quality: float
    honest: bool
    organic: list[int]  # explored impressions included
    heated: list[int]
    outside: list[int]  # heated or explored, on users who engaged none of its tags lately
    outside_valid: list[int]
    clicks: list[int]
    raw: list[int] = []  # impressions of the same content under raw ranking
    raw_clicks: int = 0

    @property
    def key(self) -> str:
        return f"{self.place}.{self.generation}"

    @property
    def gain(self) -> int:
        """Organic impressions after the first days, less those under raw ranking."""
        return sum(self.organic[EARLY:]) - sum(self.raw[EARLY:])


class Tale(msgspec.Struct):
    """What a run has to tell."""

    born: int = 0  # contents born in the run that lived long enough
    met: int = 0  # of these, those that meet the criterion and are the same content under raw ranking
    better: int = 0  # of these, those with more organic impressions later than under raw ranking
    lives: list[Life] = []  # the few with the largest gain


def lives(seed: int, reports: Sequence[Report]) -> list[Life]:
    """The contents born in the run that live for ``LIVED`` days or more of it."""
    outside, outside_valid = (list(added(reports, column)) for column in (OUTSIDE, OUTSIDE_VALID))
    found: list[Life] = []
    for born, first in enumerate(reports[: len(reports) - LIVED + 1]):
        places = np.flatnonzero(first["age_days"] == 0)
        generation = first["generation"][places]
        alive = np.array([(r["generation"][places] == generation) for r in reports[born:]])
        stats = np.array([r["stats"][places] for r in reports[born:]])
        columns = (
            stats[..., ORGANIC_TODAY],
            stats[..., TODAY] - stats[..., ORGANIC_TODAY],
            np.array([day[places] for day in outside[born:]]),
            np.array([day[places] for day in outside_valid[born:]]),
            stats[..., CLICKS_TODAY],
        )
        for i, place in enumerate(places):
            if (lived := alive[:, i]).sum() < LIVED:
                continue
            organic, heated, met, valid, clicks = ([int(v) for v in values[lived, i]] for values in columns)
            found.append(
                Life(
                    seed=seed,
                    place=int(place),
                    generation=int(generation[i]),
                    born=born,
                    tags=sorted({int(tag) for tag in first["tags_of"][place]}),
                    log_quality=round(float(first["log_quality"][place]), 4),
                    honest=not bool(first["cheats_of"][place]),
                    organic=organic,
                    heated=heated,
                    outside=met,
                    outside_valid=valid,
                    clicks=clicks,
                )
            )
    return found


def births(found: Sequence[Life]) -> dict[str, Birth]:
    """What to keep of a raw run, so that other arms' contents can be compared with the same ones there."""
    return {life.key: Birth(life.log_quality, life.organic, sum(life.clicks)) for life in found if life.honest}


def meets(life: Life, median_start: float, valid_rate: float, scale: float) -> bool:
    """The criterion: ``narration.RULE`` says it in words."""
    found, shown = sum(life.outside_valid[:EARLY]), sum(life.outside[:EARLY])
    return (
        len(life.organic) >= LIVED
        and life.honest
        and life.organic[0] <= median_start
        and found >= FOUND
        and found >= valid_rate * shown
        and max(life.organic[EARLY:]) >= max(ENOUGH * scale, GROWTH * max(life.organic[0], 1))
    )


def tell(found: Sequence[Life], raw: dict[str, Birth], valid_rate: float, scale: float) -> Tale:
    """Which contents meet the criterion, and the few of them that gained most over raw ranking.

    A creator who left in one arm and not in the other makes another content: same tags, another quality. These are
    left out.
    """
    if not found:
        return Tale()
    median = float(np.median([life.organic[0] for life in found]))
    met: list[Life] = []
    for life in found:
        twin = raw.get(life.key)
        if twin and twin.log_quality == life.log_quality and meets(life, median, valid_rate, scale):
            life.raw, life.raw_clicks = twin.impressions, twin.clicks
            met.append(life)
    met.sort(key=lambda life: -life.gain)
    return Tale(len(found), len(met), sum(life.gain > 0 for life in met), met[:KEPT])


def choose(tales: Sequence[tuple[str, Tale]]) -> tuple[str, Life] | None:
    """The arm and the content to tell of: the largest gain under ``rules``; failing that another arm's, the oracle's
    last."""
    named = [(arm, life) for arm, tale in tales for life in tale.lives]
    order = {"rules": 0, "oracle": 2}
    return min(named, key=lambda x: (order.get(x[0], 1), -x[1].gain), default=None)
