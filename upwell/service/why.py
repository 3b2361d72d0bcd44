"""What would have had to differ for a content to be shown: the ways into a slate, and what it lacked on each.

Worked out from the question that the log keeps of a decision. What is said to have been enough was tried: the slate is
built again with it (``wire.again``).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np

from upwell.agents.xp import BLOCKED, MILLI, quantise
from upwell.regulator import slate
from upwell.regulator.words import Said
from upwell.service import wire
from upwell.service.recommend import REPEATED


class Way(msgspec.Struct, omit_defaults=True):
    """A way into the slate: ``ranked``, ``heated`` or ``explored``."""

    way: str
    sentence: str
    sentence_zh: str
    lacked: float | None = None  # logits that would have been enough; None: none would have been
    chance: float | None = None  # of being drawn, where that decides


def ways(line: wire.Logged, content: str) -> list[Way]:
    """Of a content that is not in the slate. Empty: it is, or the ranker's order was shown and no more is known."""
    places = line.instead or line.places
    asked = line.question
    if asked is None or any(place.id == content for place in places):
        return []
    return [of(line, asked, places, content) for of in (ranked, heated, explored)]


def ranked(line: wire.Logged, asked: wire.Question, places: list[wire.Place], content: str) -> Way:
    """By the order of the candidates."""
    if content not in asked.candidates:
        return way("ranked", Said("The ranker did not offer it.", "排序模型未将其列为候选。"))
    scores, at = wire.scores_of(asked), asked.candidates.index(content)
    if wire.blocked_of(asked)[at] or scores[at] < REPEATED / 2:
        said = Said(
            "The user saw it a short while ago, or the request or an experiment ruled it out.",
            "用户不久前看过,或请求或实验将其排除。",
        )
        return way("ranked", said)
    above = (scores[asked.candidates.index(place.id)] for place in places if place.kind == slate.ORGANIC)
    lacked = enough(line, asked, content, "scores", scores, at, above)
    if lacked is None:
        return way("ranked", Said("No place was left to the ranker's order.", "没有留给排序结果的位置。"))
    said = Said(f"Its score by rank was {lacked:.3f} too low.", f"按序得分低了{lacked:.3f}。")
    return way("ranked", said, lacked)


def heated(line: wire.Logged, asked: wire.Question, places: list[wire.Place], content: str) -> Way:
    """By a grant."""
    if not asked.slots:
        said = Said("No place could be heated: see the places' reasons.", "没有可加热的位置:见各位置的原因。")
        return way("heated", said)
    if content not in asked.grants:
        said = Said("It held no grant that could win a place with this user.", "没有可用于该用户的加热额度。")
        return way("heated", said)
    scores, at = wire.floats(asked.grant_scores), asked.grants.index(content)
    if scores[at] <= BLOCKED / 2 or np.frombuffer(asked.grant_left, np.int32)[at] < 1:
        said = Said("Its grant was spent, or is not for this user.", "加热额度已用完,或该用户不在其目标人群。")
        return way("heated", said)
    above = (scores[asked.grants.index(place.id)] for place in places if place.kind == slate.HEATED)
    lacked = enough(line, asked, content, "grant_scores", scores, at, above)
    if lacked is None:
        said = Said("It ranked too high to be heated, and too low to be shown.", "排序靠前不需加热,但仍未进入展示。")
        return way("heated", said)
    said = Said(
        f"Other grants won: its score for this user was {lacked:.3f} too low.",
        f"加热位置被其他内容赢得:对该用户的得分低了{lacked:.3f}。",
    )
    return way("heated", said, lacked)


def enough(
    line: wire.Logged, asked: wire.Question, content: str, field: str, scores: np.ndarray, at: int,
    above: Iterable[float],
) -> float | None:  # fmt: skip
    """The least more in ``scores[at]``, logits, with which the content is in the slate; None where nothing does it.

    ``above``: scores of those who are in it on the same way. One of the lowest of them gives way; which one hangs on
    who else moves up.
    """
    for rival in sorted(above):
        more = scores.copy()
        more[at] = rival + 1.0
        other = msgspec.structs.replace(asked, **{field: more.tobytes()})
        if any(place.id == content for place in wire.again(msgspec.structs.replace(line, question=other))):
            return float(more[at] - scores[at]) / MILLI
    return None


def explored(_: wire.Logged, asked: wire.Question, places: list[wire.Place], content: str) -> Way:
    """By a try of the user agent's."""
    if not asked.probability or not slate.explored_places(asked.size):
        return way("explored", Said("Nothing new was to be tried on this user.", "不对该用户尝试新内容。"))
    if not asked.preference:
        often = f"{asked.probability:.0%}"
        said = Said(
            f"At each of two places something new is tried {often} of the time; this time it was not.",
            f"两个位置各有{often}的概率尝试新内容,这次没有。",
        )
        return way("explored", said)
    chance = asked.probability * drawn_share(asked, places, content)
    if not chance:
        return way("explored", Said("It was not among what could be tried.", "不在可尝试的内容之中。"), chance=0.0)
    said = Said(
        f"It had a chance of {chance:.1%} to be drawn as something new, and was not.",
        f"作为新内容被抽中的概率为{chance:.1%},这次没有抽中。",
    )
    return way("explored", said, chance=chance)


def drawn_share(asked: wire.Question, places: list[wire.Place], content: str) -> float:
    """The share with which a try at the first place for one draws a content (``slate.drawn``)."""
    scores, eligible = wire.scores_of(asked), ~wire.blocked_of(asked)
    order = np.argsort(np.where(eligible, -scores, np.inf), kind="stable")
    taken = {place.id for place in places if place.kind == slate.HEATED}
    eligible[order[: asked.size]] = False
    eligible &= [name not in taken for name in asked.candidates]
    if content not in asked.candidates or not eligible[asked.candidates.index(content)]:
        return 0.0
    logits = np.where(eligible, quantise(np, wire.floats(asked.preference)) / MILLI, -np.inf)
    weight = np.exp(logits - logits.max())
    share = weight[asked.candidates.index(content)] / weight.sum()
    return float((1.0 - slate.FLOOR) * share + slate.FLOOR / eligible.sum())


def way(name: str, said: Said, lacked: float | None = None, chance: float | None = None) -> Way:
    return Way(name, said.en, said.zh, lacked, chance)
