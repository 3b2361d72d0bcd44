"""The result table of the READMEs, in Markdown, in English and in Chinese."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from upwell import files
from upwell.experiment import article


class Row(NamedTuple):
    """A metric, its names in English and in Chinese, and the decimals shown; shares are shown as per cents."""

    metric: str
    english: str
    chinese: str
    decimals: int
    share: bool = False


ROWS = (
    Row("new_content_ctr", "New-content CTR", "新内容点击率", 1, share=True),
    Row("interest_tags", "Interest tags a user, a week", "每用户每周兴趣标签", 2),
    Row("cold_start_success", "Cold-start success", "冷启动成功率", 1, share=True),
    Row("d1_retention", "D1 retention", "次日留存", 1, share=True),
    Row("d7_retention", "D7 retention", "七日留存", 1, share=True),
    Row("satisfaction_mean", "Satisfaction (true)", "满意度(真值)", 3),
    Row("top100_share", "Exposure of the top 100", "前100内容曝光占比", 1, share=True),
    Row("gmv_per_dau", "GMV per DAU, yuan", "每日活GMV(元)", 3),
    Row("watch_minutes_per_dau", "Watch minutes per DAU", "每日活观看分钟", 2),
    Row("creator_churn", "Creator churn a month", "创作者月流失", 1, share=True),
    Row("heated_share", "Heated share", "加热占比", 1, share=True),
    Row("objective", "Objective", "目标值", 3),
)
GAP = ("Share of the gap raw → oracle closed", "缩小 raw→oracle 差距的比例")


def write(result: dict[str, Any], path: Path) -> None:
    """Write the tables of an experiment's ``result``, each under a line that says how it was made."""
    users, contents, seeds = result["users"], result["contents"], len(result["seeds"])
    days, burn_in = result["days"], result["burn_in"]
    english = (
        f"{users:,} users, {contents:,} contents; {burn_in} days under raw ranking, then {days} days under each arm; "
        f"seeds: {seeds}, common random numbers; mean ± half of the 95% interval:"
    )
    chinese = (
        f"{users:,} 用户,{contents:,} 内容;原始排序运行 {burn_in} 天,再由每种策略运行 {days} 天;"
        f"种子数 {seeds},公共随机数;均值 ± 95% 区间的一半:"
    )
    parts = [english, table(result, "metric", [row.english for row in ROWS], GAP[0])]
    parts += [chinese, table(result, "指标", [row.chinese for row in ROWS], GAP[1])]
    beside = article.rows(result)
    parts += ["Over raw's, beside the reference article:", lines_of([[*article.HEAD], *beside])] if beside else []
    files.put(path, "\n\n".join(parts) + "\n")


def table(result: dict[str, Any], head: str, names: list[str], gap: str) -> str:
    """One table: a row a metric, a column an arm."""
    arms: dict[str, Any] = result["arms"]
    rows = [[head, *(f"`{arm}`" for arm in arms)]]
    for row, name in zip(ROWS, names, strict=True):
        rows.append([name, *(cell(values[row.metric], row) for values in arms.values())])
    if result["oracle_gap_closed"]:
        rows.append([gap, *(closed(arm, result["oracle_gap_closed"]) for arm in arms)])
    return lines_of(rows)


def lines_of(rows: list[list[str]]) -> str:
    """Rows as Markdown, the first as the head."""
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def cell(value: dict[str, float], row: Row) -> str:
    """Mean ± half-width, the half-width left out with one seed."""
    factor, unit = (100.0, "%") if row.share else (1.0, "")
    half = factor * (value["high"] - value["low"]) / 2
    spread = f" ± {half:.{row.decimals}f}" if math.isfinite(half) else ""
    return f"{factor * value['mean']:.{row.decimals}f}{spread}{unit}"


def closed(arm: str, gaps: dict[str, dict[str, float]]) -> str:
    """The share of the gap an arm closes, with its interval."""
    if arm == "oracle":
        return "100%"
    gap = gaps.get(arm)
    if gap is None or not math.isfinite(gap["mean"]):
        return "–"
    return f"{100 * gap['mean']:.0f}% ({100 * gap['low']:.0f} … {100 * gap['high']:.0f})"
