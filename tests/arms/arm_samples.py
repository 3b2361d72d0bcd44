"""A small burnt-in platform in the middle of a day, and what arms see there."""

from functools import cache

import jax
import jax.numpy as jnp

from upwell.arms.registry import ARMS
from upwell.world import world
from upwell.world.arm import RAW, Arm, Batch, Lesson, View
from upwell.world.config import reference_world
from upwell.world.serve import serve

SMALL = reference_world().override(
    {"sizes.users": 400, "sizes.contents": 600, "sizes.creators": 60, "sizes.segments": 2, "sizes.ticks_per_day": 48}
)
EVERY = [arm for family in ARMS.values() for arm in family]


@cache
def platform() -> tuple[View, Batch, Lesson]:
    """A tick's view, requests and what came of them, whatever arm looks at it."""

    def tick(state: world.WorldState) -> tuple[View, Batch, Lesson]:
        day = world.at_its_hour(SMALL, RAW, world.start_day(SMALL, RAW, state)._replace(tick=jnp.int32(20)))
        moment = world.next_tick(SMALL, day)
        _, _, told = serve(SMALL, RAW, day.state, day.counts, day.offer, moment)
        none = jnp.zeros(told.picked.ids.shape, bool)
        clicked = none.at[:, :, 1].set(moment.present)
        no = none.astype(jnp.float32)
        lesson = Lesson(moment.present, told.picked.ids, told.picked.kind, clicked, clicked, none, no, no)
        return told.view, told.batch, lesson

    return jax.jit(tick)(world.burnt_in(SMALL, 3, 9))


@cache
def midday(arm: Arm) -> tuple[View, Batch, Lesson]:
    """The same as an arm sees it that has met a morning, some outcomes and a second morning."""
    view, batch, lesson = platform()
    if arm.begin is None:
        return view, batch, lesson

    def lived(view: View) -> View:
        for _ in range(2):
            if arm.morning is not None:
                view = view._replace(arm=arm.morning(view))
            if arm.learn is not None:
                view = view._replace(arm=arm.learn(view, batch, lesson))
        return view

    own = arm.begin(SMALL, jax.tree.map(jnp.float32, arm.tuned))
    return jax.jit(lived)(view._replace(arm=own)), batch, lesson
