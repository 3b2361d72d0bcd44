"""Users for A/A tests who were not made up for them: of a simulated platform, and of MovieLens-100K.

The same users take part in every test, dealt anew. So the tests are not independent of each other: what they tell is
how the statistics fare on such users.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from upwell.bench.aa import DAYS, Make, Users
from upwell.learn.sequences import table, unpacked
from upwell.world import world
from upwell.world.arm import RAW, Array, Batch, Lesson, View
from upwell.world.config import WorldConfig

GOOD = 4.0
"""Stars from which a rating is taken for a click."""
FEWEST = 2
"""Ratings of a user who is taken: one before, one after."""
Longs = npt.NDArray[np.int64]


def count(view: View, batch: Batch, of: Lesson) -> Array:
    """Clicks and impressions of each user so far, f32 ``[S, U, 2]``."""
    here = of.present * of.ids.shape[-1]
    both = jnp.stack([of.clicked.sum(-1), here], axis=-1).astype(jnp.float32)
    cells = jnp.arange(batch.place.shape[0])[:, None]
    return view.arm.at[cells, batch.place].add(both)


COUNTED = RAW._replace(name="counted", learn=count)


def of_world(config: WorldConfig, seed: int, burn_in: int, step: Callable[[], None]) -> Make:
    """Users of a platform under raw ranking: twice ``DAYS`` days, the first of them before the experiment."""
    state = world.burnt_in(config, seed, burn_in, step)
    shape = state.users.satisfaction.shape
    state = state._replace(arm=jnp.zeros((*shape, 2)))
    sofar, told, came = np.zeros((*shape, 2)), list[npt.NDArray[np.float64]](), list[Longs]()
    for _ in range(2 * DAYS):
        came.append(np.asarray(state.users.created_day, np.int64).ravel())
        state, _ = world.run_day(config, COUNTED, state)
        now = np.asarray(state.arm, np.float64)
        told.append((now - sofar).reshape(-1, 2))
        sofar = now
        step()
    return always(by_user(np.stack(told), np.stack(came)))


def by_user(told: npt.NDArray[np.float64], came: Longs) -> Users:
    """Users by what was told of places day by day: whoever left made room for another.

    Args:
        told: clicks and impressions ``[2 · DAYS, places, 2]``.
        came: on which day each place's user came ``[2 · DAYS, places]``.
    """
    days, places = came.shape
    who = np.stack([np.broadcast_to(np.arange(places), came.shape), came], axis=-1).reshape(-1, 2)
    users, row = np.unique(who, axis=0, return_inverse=True)
    each = np.zeros((days, len(users), 2))
    np.add.at(each, (np.repeat(np.arange(days), places), row.ravel()), told.reshape(-1, 2))
    before, after = each[: days // 2], each[days // 2 :]
    past = before.sum(0)
    new = ~np.isin(np.arange(len(users)), row.reshape(days, places)[: days // 2])
    past[new] = np.nan
    there = after[..., 1].sum(0) > 0
    return Users(after[:, there, 0].astype(np.int64), after[:, there, 1].astype(np.int64), past[there])


def of_movielens(cache: Path) -> Make:
    """MovieLens-100K's users: every rating an impression, of four stars or more a click; the first half of each one's
    ratings came before the experiment."""
    ratings = table(unpacked(cache) / "ml-100k.inter")
    user, good = np.array(ratings["user_id"], np.int64), np.array(ratings["rating"], np.float64) >= GOOD
    return always(halved(user, np.array(ratings["timestamp"], np.float64), good))


def halved(user: Longs, time_s: npt.NDArray[np.float64], good: npt.NDArray[np.bool_]) -> Users:
    """Users by their events ``[N]``: the later half of each one's in ``DAYS`` parts."""
    order = np.lexsort((time_s, user))
    user, good = user[order], good[order]
    names, row, many = np.unique(user, return_inverse=True, return_counts=True)
    place = np.arange(len(user)) - (np.cumsum(many) - many)[row]  # of an event among its user's
    first = many // 2
    late = place >= first[row]
    part = np.where(late, (place - first[row]) * DAYS // np.maximum(many - first, 1)[row], 0)
    clicks, shown = (np.zeros((DAYS, len(names)), np.int64) for _ in range(2))
    np.add.at(clicks, (part[late], row[late]), good[late])
    np.add.at(shown, (part[late], row[late]), 1)
    past = np.stack([np.bincount(row, good * ~late), np.bincount(row, ~late)], axis=1).astype(np.float64)
    kept = many >= FEWEST
    return Users(clicks[:, kept], shown[:, kept], past[kept])


def always(users: Users) -> Make:
    """The same users for every test."""
    return lambda _: users
