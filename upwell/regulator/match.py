"""Grants matched to segments of users in advance, so that a request looks at a few and never at all of them."""

from __future__ import annotations

from collections.abc import Callable

from upwell.agents.xp import Array, Namespace, top_k


def held_by(
    xp: Namespace, outstanding: Array, owed: Array, u: Array, fit: Callable[[Array], Array], many: int, places: int
) -> tuple[Array, Array]:
    """The grants that each segment holds until the next tick.

    With more grants outstanding than can be looked at, ``many`` of them are drawn at each tick, so that all get their
    turn; of these each segment takes the ``places`` that suit it best. Chances that are owed are drawn first, and each
    comes before all else where it fits best: by fit alone, contents that suit nobody would wait until they are old.

    Args:
        outstanding: impressions left of each content's grant ``[M]``.
        owed: whether it is a chance that is owed, bool ``[M]``.
        u: uniforms ``[M]``, others at each tick.
        fit: of segments to contents i32 ``[X]``, f32 ``[S, X]``.

    Returns:
        contents i32 ``[S, places]``, best first, and whether there is one.
    """
    live, active = top_k(xp, xp.where(outstanding > 0, u + owed, -1.0), many)
    suits = fit(active)
    at_home = owed[active] & (suits == suits.max(0))
    rank = suits + at_home * (1.0 + suits.max() - suits.min())
    value, order = top_k(xp, xp.where(live > 0, rank, -xp.inf), min(places, many))
    return active[order], xp.isfinite(value)
