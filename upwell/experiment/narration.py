"""The words of a content's story, in English and in Chinese."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from upwell.experiment.story import EARLY, ENOUGH, FOUND, GROWTH, LIVED, Life, Tale

RULE = (
    f"born in the run and alive for {LIVED} days or more; neither clickbait nor a buyer of clicks; on its first day no "
    f"more organic impressions than the median newborn's; in its first {EARLY} days at least {FOUND} valid views, of "
    f"heated or explored impressions, by users who had engaged none of its tags for 7 days, at a rate not below the "
    f"platform's; from its day {EARLY + 1} on, a day with organic impressions of at least {ENOUGH:.0f}·scale and "
    f"{GROWTH:.0f} times its first day's (counted as 1 at least)"
)
RULE_ZH = (
    f"选取标准：在实验期内发布且存活不少于 {LIVED} 天；既非标题党也未买量；首日自然曝光不高于同期新内容的中位数；"
    f"前 {EARLY} 天内，加热或探索曝光在近 7 天未接触其任何标签的用户中带来至少 {FOUND} 次有效观看，"
    f"且有效观看率不低于全平台水平；自第 {EARLY + 1} 天起，有一天的自然曝光达到 {ENOUGH:.0f}·scale，"
    f"并达到首日的 {GROWTH:.0f} 倍（首日至少按 1 计）。"
)


def words(life: Life, arm: str, tales: Sequence[Tale], days: int) -> tuple[str, str]:
    """The story of ``life`` under ``arm``; ``tales`` are those of all the arm's runs, of ``days`` days."""
    name, seed, born, tags = life.key, life.seed, life.born + 1, ", ".join(map(str, life.tags))
    first, peak = life.organic[0], int(np.argmax(life.organic))
    best, found, valid = life.organic[peak], sum(life.outside[:EARLY]), sum(life.outside_valid[:EARLY])
    heated, clicks, raw, raw_clicks = sum(life.heated), sum(life.clicks), sum(life.raw), life.raw_clicks
    shown = sum(life.organic) + heated
    births, met, better = (sum(getattr(tale, count) for tale in tales) for count in ("born", "met", "better"))
    english = (
        f"Content {name} (tags {tags}; seed {seed}) is born on day {born} of {days}, and gets {first} organic "
        f"impressions on its first day. In its first {EARLY} days {arm} shows it {found} times to users who had "
        f"engaged none of its tags for a week: {valid} of these become valid views. Its organic impressions peak on "
        f"day {peak + 1} of its life, at {best:,}. In the days shown it gets {shown:,} impressions, {heated:,} of them "
        f"heated, and {clicks:,} clicks. Under raw ranking the same content gets {raw:,} impressions and "
        f"{raw_clicks:,} clicks in the same days. It is the one that gained most, not a typical one: of {births:,} "
        f"contents born under {arm}, {met:,} meet the rule, and {better:,} of these got more organic impressions from "
        f"day {EARLY + 1} on than under raw ranking."
    )
    chinese = (
        f"内容 {name}（标签 {tags}；种子 {seed}）在 {days} 天实验的第 {born} 天发布，首日自然曝光 {first} 次。"
        f"前 {EARLY} 天，{arm} 把它展示给一周内未接触其任何标签的用户 {found} 次，其中 {valid} 次成为有效观看。"
        f"第 {peak + 1} 天自然曝光达到最高的 {best:,} 次。"
        f"图中各日合计曝光 {shown:,} 次（其中加热 {heated:,} 次），点击 {clicks:,} 次。"
        f"在原排序下，同一内容同期获得 {raw:,} 次曝光、{raw_clicks:,} 次点击。"
        f"这是增益最大的一例，并非典型：{arm} 下发布的 {births:,} 个内容中有 {met:,} 个符合标准，"
        f"其中 {better:,} 个自第 {EARLY + 1} 天起的自然曝光多于原排序。"
    )
    return english, chinese
