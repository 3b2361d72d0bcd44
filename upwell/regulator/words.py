"""Sentences for people, in English and Chinese: what moved a place of a slate, and what happened to a content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Said(NamedTuple):
    """The same in both languages."""

    en: str
    zh: str


GROUPS: dict[str, tuple[str, ...]] = {
    "ranker": ("ranker", "rank", "score"),
    "fit": ("taste", "fit", "reach", "gate"),
    "quality_posterior": ("worth", "promise"),
    "cold_start": ("starting", "fresh", "unknown", "novelty"),
    "breadth": ("idle", "wide"),
    "sameness": ("satiety",),
    "rounding": ("rounding",),
}
"""What the parts of a logit are about. Each part is in one group, so that groups add up to the logit too."""

GROUP_OF = {part: group for group, parts in GROUPS.items() for part in parts}

REASONS: dict[str, Said] = {
    "ranker": Said("The ranker's order put it here.", "按排序结果排在这里。"),
    "explored": Said("We tried something new for this user here.", "在这个位置为该用户尝试新内容。"),
    "heated:chance": Said("It is new and gets its first chance to be seen.", "新内容,获得首次曝光机会。"),
    "heated:grant": Said("Its heating budget paid for this place.", "由该内容的加热预算支付此位置。"),
    "kept_from_new_user": Said("The user is new, so nothing was tried here.", "用户是新用户,此处不做尝试。"),
    "holdout": Said("The user is in the control group, so nothing was changed.", "用户在对照组,此处不做调整。"),
    "cap_reached": Said("No more heating was allowed this hour.", "本小时加热流量已达上限。"),
    "pushed": Said("The platform pushed it here by itself.", "由平台自行推送到此位置。"),
}
"""What each reason code says (``regulator.explain.CODES``)."""

CORRECTED = Said("The ranker's order, corrected for this user, put it here.", "按针对该用户修正后的排序排在这里。")

FOR: dict[str, Said] = {
    "ranker": Said("the ranker rates it high", "排序模型评分高"),
    "fit": Said("it fits what the user likes", "符合用户兴趣"),
    "quality_posterior": Said("people watch it more than most", "观看表现好于平均"),
    "cold_start": Said("it is new and needs to be seen", "新内容需要曝光"),
    "breadth": Said("it brings topics the user has not had for a week", "带来用户一周未看的话题"),
    "sameness": Said("it differs from what the user just saw", "与用户刚看过的内容不同"),
}
AGAINST: dict[str, Said] = {
    "ranker": Said("the ranker rates it low", "排序模型评分低"),
    "fit": Said("it is far from what the user likes", "偏离用户兴趣"),
    "quality_posterior": Said("people watch it less than most", "观看表现差于平均"),
    "cold_start": Said("new content is held back for this user", "对该用户减少新内容"),
    "breadth": Said("its topics are new to the user", "话题对用户较陌生"),
    "sameness": Said("it is much like what the user just saw", "与用户刚看过的内容相似"),
}
LEAST = 0.05
"""Logits from which a group is worth a word: one of this size changes a chance by a twentieth."""
MOST_SAID = 2


def groups(contributions: Mapping[str, float]) -> dict[str, float]:
    """Contributions summed by what they are about; whole steps of 1/1024, so that no sum is rounded."""
    out: dict[str, float] = {}
    for part, value in contributions.items():
        group = GROUP_OF[part]
        out[group] = out.get(group, 0.0) + value
    return out


def of_place(reasons: tuple[str, ...], by_group: Mapping[str, float]) -> Said:
    """Why a place holds what it holds."""
    large = sorted(
        ((name, value) for name, value in by_group.items() if name in FOR and abs(value) >= LEAST),
        key=lambda one: -abs(one[1]),
    )
    corrects = any(name != "ranker" for name, _ in large)
    told = [CORRECTED if code == "ranker" and corrects else REASONS[code] for code in reasons]
    helped = [FOR[name] for name, value in large if value > 0][:MOST_SAID]
    spoke_against = [AGAINST[name] for name, value in large if value < 0][:1]
    en, zh = " ".join(one.en for one in told), "".join(one.zh for one in told)
    if helped:
        en += f" What helped most: {', and '.join(one.en for one in helped)}."
        zh += f"主要原因:{'、'.join(one.zh for one in helped)}。"
    if spoke_against:
        en += f" Against it: {spoke_against[0].en}."
        zh += f"不利因素:{spoke_against[0].zh}。"
    return Said(en, zh)
