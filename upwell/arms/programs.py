"""What the simulated platform knows for a reward program at a tick: nothing that a real one would not."""

from __future__ import annotations

import jax.numpy as jnp

from upwell.agents import mind
from upwell.arms import features
from upwell.goals.program import key_of_tag, parse, tags
from upwell.regulator.bonus import bonus
from upwell.regulator.policy import Standing
from upwell.world.arm import View, worked_out
from upwell.world.catalogue import tag_name
from upwell.world.state import Array

SAMPLE = 512
"""Users whose interests are counted, or up to twice as many."""


def bonus_of(view: View, known: Standing, best_match: Array) -> Array | None:
    """Of the contents ``[M]``, by the program of the world's goal; None where there is none. Raises BadRequest."""
    if not view.config.goal.program:
        return None
    program, heating = parse(view.config.goal.program), view.config.heating
    number = {tag_name(tag): tag for tag in range(view.config.sizes.tags)}
    # A tag that no content can have is nobody's.
    has = {key_of_tag(tag): (view.contents.tags == number.get(tag, -1)).any(-1) for tag in tags(program)}
    given = {"price": view.contents.price} | has | figures(view)
    # Once a tick, and not again for each part of the score that reads it.
    return worked_out(view.day >= 0, lambda: bonus(jnp, program, known, best_match, view.scale, heating.chance, given))


def figures(view: View) -> dict[str, Array]:
    """Figures of the platform, scalars: of users, of those who came yesterday. What no program reads costs nothing:
    the compiler leaves it out."""
    users = view.users
    came = (users.active_bits & 1) == 1
    # Tags of all users would take longer than all else that a program reads.
    every = max(came.size // SAMPLE, 1)
    some = came[:, ::every]
    tags_each = (users.last_valid_day[:, ::every] > (view.day - features.WEEK).astype(jnp.int16)).sum(-1)
    interests = (tags_each * some).sum() / jnp.maximum(some.sum(), 1)
    return {
        "ctr": view.platform_ctr,
        "heated_share": view.load * view.config.heating.cap,
        "dau": came.sum(),
        "d1_retention": returned(view, 1),
        "d7_retention": returned(view, 7),
        "interest_tags": interests,
        "interest_diversity": jnp.minimum(interests / view.config.healthy_tags, 1.0),
        "satisfaction_mean": (users.mind[..., mind.SATISFACTION] * came).sum() / jnp.maximum(came.sum(), 1),
    }


def returned(view: View, days: int) -> Array:
    """Of those who came ``days`` before yesterday, who came yesterday.

    As a day's report has it: whoever left since keeps their place's past, and who took it over was not there.
    """
    bits, created = view.users.active_bits, view.users.created_day
    before, yesterday = (bits >> days) & 1 == 1, (bits & 1) == 1
    there = (created < view.day - days) | (created == view.day)  # the last: took over, in the night, from who was there
    return (before & yesterday & there).sum() / jnp.maximum(before.sum(), 1)
