"""What designs against interference need beside assignment: slots that wash out, and a pool in parts."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate, pairwise

from upwell.agents.xp import Array, Namespace, hash_bits, side_by_side
from upwell.regulator.assignment import unit_id
from upwell.regulator.layers import BUCKETS, Design, Experiment

HEATING = ("mode", "policy", "heating", "weights", "guards", "ranker")
"""Settings of an arm that change who is heated, and for what."""


def fitting(experiment: Experiment) -> Design:
    """The design that fits what the arms change, for who names none.

    Where they differ in what they heat, each gets its own part of the pool and of contents' accounts: else they take it
    from each other, and the one that heats more looks better than it is. Not where there are targets: how much of the
    platform they are is not known.
    """
    first, *others = (arm.settings for arm in experiment.arms)
    differ = any(one.get(name) != first.get(name) for one in others for name in HEATING)
    return "budget_split" if differ and not experiment.targets else "user_split"


def washes_out(experiment: Experiment, at_s: Array) -> Array:
    """Whether what the slot before did still shows, so that outcomes do not count; the slot's arm decides all the same.

    ``at_s``: whole Unix seconds, any shape. Never true but for a switchback with a washout.
    """
    return at_s % max(experiment.slot_s, 1) < experiment.washout_s


def parts(xp: Namespace, experiment: Experiment, amount: Array, unit: Array) -> Array:
    """An amount split as an experiment's users are: the pool, or each content's demand, of a budget split.

    Rounded up or down by a hash of ``unit``: unbiased, so that small demands favour no arm.

    Args:
        amount: whole numbers from 0 to 2^31 - 1, int32 ``[...]``.
        unit: integer ids ``[...]``: the content's, or the tick's number for the pool.

    Returns:
        int32 ``[..., A + 1]`` by arm, and last what is not the experiment's; they add up to ``amount``.
    """
    amount = xp.asarray(amount).astype(xp.int32)
    salt = unit_id(f"parts:{experiment.name}")

    def cuts(whole: Array, ends: Iterable[int], stage: int) -> list[Array]:
        dither = (hash_bits(xp, salt, stage, unit) % xp.uint32(BUCKETS)).astype(xp.int32)
        full, rest = whole // BUCKETS, whole % BUCKETS  # apart, or the product would not fit 32 bits
        at = [full * end + (rest * end + dither) // BUCKETS for end in ends]
        return [high - low for low, high in pairwise(at)]

    (own,) = cuts(amount, experiment.buckets, 0)
    dealt = cuts(own, accumulate(experiment.widths, initial=0), 1)
    return side_by_side(xp, [*dealt, amount - sum(dealt)])
