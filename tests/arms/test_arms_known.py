"""No arm but the oracle goes by what a real platform cannot see: the truth is scrambled, and nothing changes.

``itemcf:picks`` is excepted by docs/decisions.md: a person watched the content before it was heated.
"""

from dataclasses import fields, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from arm_samples import EVERY, SMALL, midday

from upwell.world.arm import View
from upwell.world.config import SECTIONS, WorldConfig
from upwell.world.state import Contents, Users

HIDDEN_USERS = ("interest", "discovered", "curiosity", "satisfaction", "active_logit", "visits_log", "ring")
HIDDEN_CONTENTS = ("log_quality", "clickbait", "bought", "creator_skill", "death_day")
TRUTH = ("interest", "content", "creator", "response", "activity")
"""Sections of the world file that say how users and creators really are; the others are the platform's own."""
SEES_TRUTH = {"itemcf:picks"} | {arm.name for arm in EVERY if arm.name.startswith("oracle")}


def turned(x: jax.Array) -> jax.Array:
    """Other values of the same shape and kind."""
    if x.dtype == bool:
        return ~x
    back = x.reshape(-1)[::-1].reshape(x.shape)
    return back + 7 if jnp.issubdtype(x.dtype, jnp.integer) else 1.7 * back + 0.3


def scrambled_users(users: Users) -> Users:
    return users._replace(**{name: turned(getattr(users, name)) for name in HIDDEN_USERS})


def scrambled_contents(contents: Contents) -> Contents:
    return contents._replace(**{name: turned(getattr(contents, name)) for name in HIDDEN_CONTENTS})


def scrambled_config(config: WorldConfig) -> WorldConfig:
    for name in TRUTH:
        section = getattr(config, name)
        values = {f.name: 1.3 * getattr(section, f.name) + 0.1 for f in fields(SECTIONS[name])}
        config = replace(config, **{name: replace(section, **values)})
    return config


def scrambled(view: View) -> View:
    return view._replace(
        config=scrambled_config(view.config),
        users=scrambled_users(view.users),
        contents=scrambled_contents(view.contents),
    )


@partial(jax.jit, static_argnames="arm")
def everything(arm, view, batch, told):
    """All that an arm says, by the names of its parts."""
    ids = batch.ids[:, :16]
    given = {
        "scores": (view, batch), "requests": (view,), "match": (view, ids[0]), "heat": (view, batch, ids),
        "explore": (view, batch), "bias": (view,), "retrieval": (view,), "morning": (view,),
        "learn": (view, batch, told),
    }  # fmt: skip
    return {name: getattr(arm, name)(*given[name]) for name in given if getattr(arm, name) is not None}


@pytest.mark.parametrize("arm", EVERY, ids=lambda arm: arm.name)
def test_no_arm_sees_what_a_platform_cannot(arm):
    view, batch, told = midday(arm)
    before = everything(arm, view, batch, told)
    hidden = batch._replace(users=scrambled_users(batch.users))
    after = everything(arm, scrambled(view), hidden, told)
    same = jax.tree.map(lambda a, b: np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True), before, after)
    assert all(jax.tree.leaves(same)) == (arm.name not in SEES_TRUTH), same


def test_what_is_scrambled_is_all_of_the_first_blocks():
    view, _, _ = midday(EVERY[0])
    known = {"recent"}  # a platform can work it out from its own log of what it showed
    first_block = Users._fields[: Users._fields.index("profile")]
    assert set(first_block) - known == set(HIDDEN_USERS)
    for name in HIDDEN_USERS:
        assert not np.array_equal(getattr(view.users, name), getattr(scrambled(view).users, name)), name
    for name in HIDDEN_CONTENTS:
        assert not np.array_equal(getattr(view.contents, name), getattr(scrambled(view).contents, name)), name
    assert scrambled(view).config.ranker == SMALL.ranker


@pytest.mark.slow
@pytest.mark.parametrize("arm", [a for a in EVERY if a.begin], ids=lambda arm: arm.name)
def test_no_arm_compiles_a_second_day(arm):
    from upwell.world import world

    state = world.under(SMALL, arm, world.reset(SMALL, 1))
    first = jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), state)
    after = jax.eval_shape(lambda s: world.run_day(SMALL, arm, s)[0], state)
    assert jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), after) == first
