"""Sequences of the simulated platform: every impression of its users, clicked or not, as the platform sees them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from upwell.learn.sequences import Column, Flags, Ints, Sequences, laid_out
from upwell.world import world
from upwell.world.arm import RAW, Arm, Lesson
from upwell.world.config import WorldConfig
from upwell.world.state import Array

GROUP = 100_000
"""Users of one place: newcomers in it are others."""


class Seen(NamedTuple):
    """A tick's impressions, ``[S, R]`` or ``[S, R, K]``."""

    present: Array
    user_id: Array
    created_day: Array
    key: Array  # of contents: place + generation * contents
    clicked: Array
    valid: Array
    dwell_s: Array
    now_h: Array


@partial(jax.jit, static_argnames="arm")
def one_tick(config: WorldConfig, arm: Arm, day: world.Day) -> tuple[world.Day, Seen]:
    """Live the tick that comes, and tell what came of it. ``arm``: one that remembers nothing."""
    assert arm.learn is None
    assert arm.begin is None
    telling = arm._replace(learn=lambda view, batch, lesson: lesson)
    day, told = world.one_tick(config, telling, day)
    lesson: Lesson = day.state.arm
    key = lesson.ids + told.view.contents.generation[lesson.ids] * config.sizes.contents
    seen = Seen(
        lesson.present, told.user_id, told.batch.users.created_day, key, lesson.clicked, lesson.valid, lesson.dwell_s,
        told.moment.now_h,
    )  # fmt: skip
    return day._replace(state=day.state._replace(arm=None)), seen


def sequences(
    config: WorldConfig,
    seed: int,
    burn_in: int,
    days: int,
    longest: int = 1_000,
    step: Callable[[], None] = lambda: None,
) -> Sequences:
    """What users did in ``days`` of raw ranking after ``burn_in``; engaged is a valid view.

    ``step`` is called once a day.
    """
    state = world.burnt_in(config, seed, burn_in, step)
    size = config.sizes.contents
    begin, finish = jax.jit(world.start_day, static_argnames="arm"), jax.jit(world.finish_day)
    columns = list[tuple[np.ndarray, ...]]()
    facts = dict[int, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]()
    for _ in range(days):
        day = begin(config, RAW, state)
        contents = day.state.contents
        facts[int(day.state.day)] = jax.tree.map(
            np.asarray, (contents.generation, contents.embedding, contents.tags[:, 0], contents.death_day)
        )
        for _ in range(int(day.ticks)):
            day, told = one_tick(config, RAW, day)
            columns.append(gathered(jax.tree.map(np.asarray, told), config.sizes.slate))
        state, _ = finish(config, day)
        step()
    user, key, now_s, dwell, valid = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    # Contents that lived within these days, each with a row of its own.
    lived = np.unique(np.concatenate([np.arange(size) + of[0].astype(np.int64) * size for of in facts.values()]))
    vectors = np.zeros((len(lived), config.sizes.dims), np.float32)
    tag, from_day, to_day = (np.zeros(len(lived), np.int32) for _ in range(3))
    for day_number, (generation, embedding, first_tag, death) in reversed(facts.items()):
        at = np.searchsorted(lived, np.arange(size) + generation.astype(np.int64) * size)
        vectors[at], tag[at], to_day[at], from_day[at] = embedding, first_tag, death, day_number
    row = np.searchsorted(lived, key).astype(np.int32)
    order = np.lexsort((np.arange(len(user)), user))  # ticks came in order of time, places of a slate in theirs
    user, row, now_s = user[order], row[order], now_s[order]
    slate = np.cumsum(np.append(True, (np.diff(user) != 0) | (np.diff(now_s) != 0))).astype(np.int32)
    who = np.unique(user, return_inverse=True)[1].astype(np.int32)
    events = Column(who, row, tag[row], now_s, dwell[order], valid[order], slate)

    def barred(_: str, who: Ints, held: Ints) -> Flags:
        today = (now_s[held] // 86_400).astype(np.int32)[:, None]
        return (from_day > today) | (to_day <= today)

    return laid_out("world", vectors, events, longest, barred)


def gathered(told: Seen, slate: int) -> tuple[np.ndarray, ...]:
    """A tick's impressions as columns: user, content, time (s), dwell (s), engaged."""
    here = np.asarray(told.present)
    who = np.asarray(told.user_id).astype(np.int64)[here] * GROUP + np.maximum(np.asarray(told.created_day)[here], 0)
    flat = (np.asarray(x)[here].reshape(-1) for x in (told.key, told.dwell_s, told.valid))
    key, dwell, valid = flat
    now = np.full(len(key), float(told.now_h) * 3600.0)
    return np.repeat(who, slate), key, now, dwell, valid
