"""What a reward program adds to the scores of requests at a tick: one text for the world and the service."""

from __future__ import annotations

from collections.abc import Mapping

from upwell.agents.xp import Array, Namespace
from upwell.goals.program import Program, compiled, reads
from upwell.regulator.policy import Standing


def bonus(
    xp: Namespace, program: Program, known: Standing, best_match: Array, scale: Array, chance: Array,
    given: Mapping[str, Array],
) -> Array:  # fmt: skip
    """Of each content, f32 ``[M]``; 0 everywhere while the program reads what the host does not know.

    Args:
        best_match: cosine of each content to the segment it suits best ``[M]``.
        chance: heated impressions that count as one chance, times ``scale``.
        given: what each host finds in its own way: ``price`` ``[M]``, tags under ``key_of_tag`` bool ``[M]``, figures
            of the platform, scalars.
    """
    new = known.age_days < 3
    third_day = new & (known.age_days >= 2)
    measures: dict[str, Array] = {
        "impressions": known.impressions,
        "clicks": known.clicks,
        "click_rate": known.clicks / xp.maximum(known.impressions, 1.0),
        "valid_rate": known.valid / xp.maximum(known.clicks, 1.0),
        "heated": known.heated,
        "age_days": known.age_days,
        "followers": known.followers,
        "budget": known.coins,
        "match": best_match,
        "new_content_ctr": (known.clicks * new).sum() / xp.maximum((known.impressions * new).sum(), 1.0),
        "new_content_heated_share": (third_day & (known.heated >= chance * scale)).sum()
        / xp.maximum(third_day.sum(), 1),
        **given,
    }
    nothing = xp.zeros_like(best_match)
    return compiled(program)(xp, measures) + nothing if reads(program) <= measures.keys() else nothing
