"""One self-contained HTML page of an experiment: a verdict, numbers with intervals, plots, and one story."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from upwell.experiment import article, figures, narration, page, story
from upwell.experiment.runner import Plan, Run

HIGHER = (
    "objective", "new_content_ctr", "interest_tags", "cold_start_success", "d1_retention", "d7_retention",
    "satisfaction_mean", "gmv_per_dau", "net_gmv_per_dau", "watch_minutes_per_dau", "ctr", "real_engagement",
    "mid_tail_ctr", "dau",
)  # fmt: skip
LOWER = ("top100_share", "exposure_gini", "creator_churn")
"""What is better higher, and lower. The other metrics are costs or shares, neither good nor bad in themselves."""


FEW = 6
"""Seeds below which percentile-bootstrap intervals are much too narrow: of 3 seeds there are 10 resamples."""


def write_report(plan: Plan, runs: Sequence[Run], result: dict[str, Any], path: Path) -> None:
    """Write the page to ``path``; it needs no network."""
    seeds = len(result["seeds"])
    parts = [
        f"<h1>Experiment: {page.text(plan.config.name)}</h1>",
        page.paragraph(
            f"{result['users']:,} users, {result['contents']:,} contents, {result['days']} days after "
            f"{result['burn_in']} days of raw ranking, {seeds} seed{'s' * (seeds > 1)}."
        ),
        page.box("verdict", verdict(plan, result)),
        page.box("warning", warnings(result)),
        "<h2>Results</h2>",
        page.paragraph(
            "Mean ± half of the 95% interval over seeds. Bold: the interval of the paired difference from raw excludes "
            "0. The objective is the goal's weighted sum of true satisfaction, revenue after heating over raw's, and "
            "the mean of 7-day retention, interest diversity and cold-start success."
        ),
        metric_table(plan, result),
        gap_table(result),
        page.section(
            "Day by day",
            "Mean over seeds; the band is its 95% interval. All arms start from the same burnt-in platforms.",
            figures.curves(plan, runs),
        ),
        page.section(
            "Who gets the exposure",
            "Lorenz curves of a day's impressions: the nearer to the corner, the more the few have.",
            figures.lorenz(plan, runs),
        ),
        page.section(
            "Tags a user engages in a week", "Active users by number of tags, last day.", figures.tags(plan, runs)
        ),
        page.section(
            "The life of new contents",
            "Impressions so far by day of life: median, bands of the middle 50% and 80%; dotted: the best 1%.",
            figures.lives(plan, runs),
        ),
        page.section(
            "Where the heated traffic went",
            "Shares of an arm's heated impressions; dotted: all impressions under raw ranking. No arm but the oracle "
            "sees true quality; editors who heat by hand see it with an error.",
            figures.traffic(plan, runs),
            outside_table(plan, runs),
        ),
        page.section(
            "Heated share of impressions", "Over a day; the cap holds in any hour.", figures.heated(plan, runs)
        ),
        article_section(result),
        story_section(plan, runs),
    ]
    page.write(plan.config.name, parts, path)


def article_section(result: dict[str, Any]) -> str:
    rows = article.rows(result)
    if not rows:
        return ""
    return page.section(
        "Beside the reference article",
        "Each metric over raw ranking's, as the article that this project began from has it, and here. Nothing was "
        "calibrated on any of these columns but raw's.",
        page.table(article.HEAD, rows),
    )


def verdict(plan: Plan, result: dict[str, Any]) -> list[str]:
    """What an operator must know, in a sentence an arm; then what the arm loses."""
    lines: list[str] = []
    seeds = len(result["seeds"])
    for arm in plan.arms:
        if arm == "raw":
            continue
        gap, gain = result["oracle_gap_closed"].get(arm), result["versus_raw"][arm]["objective"]
        said = "cannot be told from raw ranking by the objective"
        if seeds > 1 and gain["low"] > 0.0:
            said = "is better than raw ranking by the objective"
        elif seeds > 1 and gain["high"] < 0.0:
            said = "loses to raw ranking by the objective"
        if arm == "oracle":
            lines.append(f"oracle {said} ({signed(gain)}).")
        elif gap and np.isfinite(gap["mean"]):
            limits = f"95% interval {gap['low']:.0%} to {gap['high']:.0%}" if seeds > 1 else "one seed: no interval"
            lines.append(f"{arm} closes {gap['mean']:.0%} of the gap from raw to oracle ({limits}); it {said}.")
        else:
            lines.append(f"{arm} {said} ({signed(gain)}).")
        worse = losses(result["versus_raw"][arm])
        if seeds > 1:
            lines.append(f"{arm} does worse than raw on {', '.join(worse)}." if worse else
                         f"{arm} does worse than raw on no outcome, as far as the intervals tell.")  # fmt: skip
    if 1 < seeds < FEW:
        lines.append(
            f"{seeds} seeds are few: the bootstrap's intervals of the gap are too narrow then. Judge by the objective."
        )
    return lines


def signed(difference: dict[str, float]) -> str:
    half = (difference["high"] - difference["low"]) / 2
    return f"{difference['mean']:+.4g}{f' ± {half:.2g}' if np.isfinite(half) else ', one seed: no interval'}"


def losses(versus: dict[str, dict[str, float]]) -> list[str]:
    """Outcomes on which the paired interval against raw lies wholly on the wrong side, with the difference."""
    worse = [name for name in HIGHER if name in versus and versus[name]["high"] < 0.0]
    worse += [name for name in LOWER if name in versus and versus[name]["low"] > 0.0]
    return [f"{name} ({signed(versus[name])})" for name in worse]


def warnings(result: dict[str, Any]) -> list[str]:
    """Where the oracle is wrong: no share of a gap means anything then."""
    beaten: list[str] = result["oracle_beaten"]
    if not beaten:
        return []
    return [
        "The oracle is beaten, so it is no upper bound here, and the shares of the gap are too large: "
        + "; ".join(beaten)
        + "."
    ]


def metric_table(plan: Plan, result: dict[str, Any]) -> str:
    rows = [
        "<div class='wide'><table><tr><th>metric</th>"
        + "".join(f"<th>{page.text(a)}</th>" for a in plan.arms)
        + "</tr>"
    ]
    for name in sorted(result["arms"]["raw"], key=lambda name: name != "objective"):
        cells = [f"<td>{name}</td>"]
        for arm in plan.arms:
            value = result["arms"][arm][name]
            difference = result["versus_raw"].get(arm, {}).get(name)
            differs = bool(difference) and (difference["low"] > 0 or difference["high"] < 0)
            half = (value["high"] - value["low"]) / 2
            cells.append(
                f"<td class='{'differs' if differs else ''}'>{figure(value['mean'])} "
                f"<small>± {figure(half, 2) if np.isfinite(half) else '?'}</small></td>"
            )
        rows.append("<tr>" + "".join(cells) + "</tr>")
    return "".join(rows) + "</table></div>"


def figure(value: float, digits: int = 4) -> str:
    """A number for people: no exponents."""
    return f"{value:,.0f}" if abs(value) >= 10.0**digits else f"{value:.{digits}g}"


def gap_table(result: dict[str, Any]) -> str:
    if not result["oracle_gap_closed"]:
        return ""
    rows = [
        [arm, f"{gap['mean']:.3f}", f"{gap['low']:.3f} … {gap['high']:.3f}", kinds(result["members"][arm])]
        for arm, gap in result["oracle_gap_closed"].items()
    ]
    return page.section(
        "Share of the gap from raw to oracle that is closed",
        "By the objective; paired bootstrap over seeds. Of an arm that is a family the best on each seed is taken.",
        page.table(["arm", "mean", "95% interval", "best of its family, seeds"], rows),
    )


def kinds(members: dict[str, str]) -> str:
    names = list(members.values())
    return ", ".join(f"{name} {names.count(name)}" for name in sorted(set(names), key=lambda n: -names.count(n)))


def outside_table(plan: Plan, runs: Sequence[Run]) -> str:
    rows: list[list[str]] = []
    for arm in plan.arms:
        mean = {name: float(np.mean([r.outside[name] for r in figures.of(runs, arm)])) for name in runs[0].outside}
        if mean["share"]:
            rows.append([arm, *(f"{mean[name]:.2%}" for name in ("share", "valid_rate", "valid_rate_everywhere"))])
    head = ["arm", "heated or explored: outside the content's tags", "valid views there", "valid views everywhere"]
    return page.table(head, rows) if rows else ""


def story_section(plan: Plan, runs: Sequence[Run]) -> str:
    title, about = "One story", f"Chosen by a rule, never made up: {narration.RULE}."
    chosen = story.choose([(run.arm, run.tale) for run in runs])
    if chosen is None:
        return page.section(title, about, page.paragraph("No content of this experiment meets it."),
                            page.paragraph("本次实验中没有内容符合该标准。", "zh"))  # fmt: skip
    arm, life = chosen
    tales = [run.tale for run in figures.of(runs, arm)]
    english, chinese = narration.words(life, arm, tales, plan.days)
    return page.section(
        title,
        about,
        page.paragraph(english),
        page.paragraph(chinese + narration.RULE_ZH, "zh"),
        figures.story(life, arm),
    )
