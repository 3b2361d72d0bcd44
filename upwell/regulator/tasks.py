"""The core of operators' tasks: a set-point curve, a PID controller on delivery against it, and what it may boost.

A guarantee task promises each of its contents a number of impressions within some days. Its controller (Åström &
Hägglund, "Advanced PID Control", 2006, chapter 3) compares what was delivered with the curve and puts out a boost in
[0, ``most``]: whoever is ahead of the curve loses nothing. Errors are shares of the promise and time is in days of
traffic, so that gains mean the same for every promise and on every platform. The integral stands still while the
output is at a bound that it would push further into (conditional integration, there 3.5), so that a content that could
not be shown for a day does not flood the next one.

Pure functions over ``xp``; contents stand along the last axis.
"""

from __future__ import annotations

from typing import NamedTuple

from upwell.agents.xp import Array, Namespace, clip


class Gains(NamedTuple):
    """Boost for an error of the whole promise: standing, for a day, and growing within a day."""

    p: Array
    i: Array
    d: Array


class Loop(NamedTuple):
    """What a controller remembers, f32 ``[M]``: it must survive a restart, or every task starts over."""

    integral: Array  # days: the error's sum over time
    error: Array  # at the last step


def rested(xp: Namespace, contents: int) -> Loop:
    """Controllers before their first step."""
    none = xp.zeros((contents,), dtype=xp.float32)
    return Loop(none, none)


def due(xp: Namespace, promised: Array, age_days: Array, within_days: Array) -> Array:
    """Impressions a task should have delivered by now: a straight line up to its promise, f32, any shape.

    Args:
        age_days: days of traffic since the task began, fractions included.
        within_days: days that the promise holds for.
    """
    return promised * clip(xp, age_days / within_days, 0.0, 1.0)


def error_of(xp: Namespace, aim: Array, delivered: Array, promised: Array) -> Array:
    """How far behind its curve a task is, as a share of the promise; negative when ahead."""
    return (aim - delivered) / xp.maximum(promised, 1.0)


def step(
    xp: Namespace, loop: Loop, error: Array, gains: Gains, days: Array, most: Array, begins: Array
) -> tuple[Loop, Array]:
    """One step of every controller.

    u = p·e + i·∫e dt + d·de/dt, clipped to [0, most].

    Args:
        error: f32 ``[M]``, see ``error_of``.
        days: time since the last step, of traffic; at 0 nothing is integrated and nothing differentiated.
        begins: bool ``[M]``, tasks that begin with this step: whatever the loop remembers is another's.

    Returns:
        the loops, and the boosts f32 ``[M]``.
    """
    before = xp.where(begins, 0.0, loop.integral)
    moved = xp.where(begins | (days <= 0.0), 0.0, error - loop.error) / xp.maximum(days, 1e-6)
    integral = before + error * days
    wanted = gains.p * error + gains.i * integral + gains.d * moved
    stuck = ((wanted > most) & (error > 0.0)) | ((wanted < 0.0) & (error < 0.0))
    integral = xp.where(stuck, before, integral)
    boost = clip(xp, gains.p * error + gains.i * integral + gains.d * moved, 0.0, most)
    return Loop(integral.astype(xp.float32), error.astype(xp.float32)), boost.astype(xp.float32)


def ask(xp: Namespace, promised: Array, delivered: Array, aim: Array, ahead: Array) -> Array:
    """Impressions to grant now: what is missing of the curve and ``ahead`` more, within the promise; i32 ``[M]``.

    Nothing for who is ahead of the curve by as much.
    """
    missing = xp.minimum(aim + ahead, promised) - delivered
    return xp.ceil(xp.maximum(missing, 0.0)).astype(xp.int32)
