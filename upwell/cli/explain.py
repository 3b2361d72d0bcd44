"""``upwell explain``: why a decision of the running service came out as it did, and a content's life story."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table

from upwell.cli.asking import HERE, Token, Url, asked
from upwell.cli.common import Json, emit, stdout
from upwell.errors import BadRequest

HELP = """Why the service decided what it decided.

    upwell explain 0-1a2b-18f3-7                      a decision: every place, what moved it, in numbers and in words

    upwell explain 0-1a2b-18f3-7 --content video-9    and what that content, which was not shown, lacked

    upwell explain content video-9                    a content's life: asks, grants, audiences, responses, verdicts
"""


class Language(StrEnum):
    en = "en"
    zh = "zh"


SENTENCE = {Language.en: "sentence", Language.zh: "sentence_zh"}


def register(app: typer.Typer) -> None:
    app.command(help=HELP)(explain)


def explain(
    what: Annotated[list[str], typer.Argument(help="a decision's id; or `content` and a content's id")],
    content: Annotated[str | None, typer.Option(help="a content that was not shown: what did it lack?")] = None,
    url: Url = HERE,
    token: Token = None,
    language: Annotated[Language, typer.Option(help="of the sentences")] = Language.en,
    json: Json = False,
) -> None:
    of_content = len(what) == 2 and what[0] == "content"
    if not of_content and len(what) != 1:
        raise BadRequest("give a decision's id, or `content` and a content's id")
    told = asked(url, token, lambda client: client.content(what[1]) if of_content else client.explain(what[0], content))
    says = SENTENCE[language]
    emit(told, json, lambda: print_story(told, says) if of_content else print_decision(told, says))


def print_decision(told: dict[str, Any], says: str) -> None:
    """A decision for people."""
    stdout.print(
        f"decision {told['decision_id']} for {told['user_id']}, {clock(told['ts'])}: {told['arm']} "
        f"({told['policy_version']})" + (f", degraded: {told['why']}" if told["why"] else ""),
        markup=False,
    )
    if told["mind"]:
        state = ", ".join(f"{name} {value:.2f}" for name, value in told["mind"].items())
        stdout.print(f"user: {state}; something new is tried at {told['explore_probability']:.0%}", markup=False)
    view = Table(title="shown" if not told["instead"] else "decided, not shown", title_justify="left")
    for name in ("", "content", "kind", "chance", "logit", "made of", "why"):
        view.add_column(name)
    for item in told["instead"] or told["items"]:
        parts = ", ".join(f"{name} {value:+.2f}" for name, value in item["groups"].items() if abs(value) >= 0.005)
        why = item[says] + (f" {item['grant'][says]}" if item["grant"] else "")
        place, chance, logit = str(item["position"] + 1), f"{item['propensity']:.3f}", f"{item['logit']:.3f}"
        view.add_row(place, escaped(item["id"]), item["kind"], chance, logit, parts, escaped(why))
    stdout.print(view)
    for way in told.get("ways", ()):
        stdout.print(f"{told['content']}, {way['way']}: {way[says]}", markup=False)


def print_story(told: dict[str, Any], says: str) -> None:
    """A content's life for people."""
    counts, posterior = told["counts"], told["posterior"]
    stdout.print(
        f"content {told['content']['id']}, {told['age_days']:.1f} days old: {counts['impressions']:,} impressions "
        f"({counts['heated']:,} heated), {counts['clicks']:,} clicks, {counts['valid']:,} watched; "
        f"quality {posterior['quality']:.2f}, {told['budget_coins']:.1f} coins left",
        markup=False,
    )
    view = Table(title="its story", title_justify="left")
    for name in ("when", "what", "suits best", "score", ""):
        view.add_column(name)
    for line in told["story"]:
        score = ", ".join(f"{name} {value:.2f}" for name, value in line.get("score", {}).items())
        match = f"{line['match']:.2f}" if "match" in line else ""
        view.add_row(clock(line["ts"]), line["what"], match, score, escaped(line[says]))
    stdout.print(view)


def clock(ts_ms: int) -> str:
    return datetime.fromtimestamp(ts_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
