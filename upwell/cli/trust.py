"""``upwell trust``: who the running service judges to cheat, why, and an operator's word on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from upwell.cli.asking import HERE, By, Token, Url, Why, asked
from upwell.cli.common import Json, emit, stdout
from upwell.cli.explain import escaped
from upwell.errors import BadRequest

if TYPE_CHECKING:
    from upwell.client import Client

HELP = """Who is judged to cheat, how surely, why, and what follows; and an operator's word, which stands above that.

    upwell trust                           everybody who is doubted, the most doubtful first

    upwell trust CONTENT                   one content

    upwell trust CONTENT honest            what was taken from it comes back (or `cheat`; `none` takes the word back)
"""
WORDS = {"honest": "honest", "cheat": "cheat", "none": None}


def register(app: typer.Typer) -> None:
    app.command(help=HELP)(trust)


def trust(
    content: Annotated[str | None, typer.Argument(help="one content's id; default: all that are doubted")] = None,
    word: Annotated[str | None, typer.Argument(help="honest, cheat, or none")] = None,
    why: Why = "",
    by: By = "",
    url: Url = HERE,
    token: Token = None,
    json: Json = False,
) -> None:
    if word is not None and word not in WORDS:
        raise BadRequest(f"{word}: give honest, cheat or none")

    def ask(client: Client) -> dict[str, Any]:
        if content is None or word is None:
            return client.trust(content)
        return client.appeal(content, WORDS[word], why)

    told = asked(url, token, ask, by)
    emit(told, json, lambda: show(told) if content is None else show_contents([told]))


def show(told: dict[str, Any]) -> None:
    """For people."""
    judge = {"none": "nobody judges: set `trust = true`", "silent": "the judge is SILENT: nothing is heated"}
    stdout.print(judge.get(told["judge"], f"{told['doubted_users']:,} users are not trusted"), markup=False)
    show_contents(told["contents"])
    if told["creators"]:
        ring = set(told["ring"])
        view = Table(title="creators", title_justify="left")
        for name in ("creator", "probability", "in a ring"):
            view.add_column(name)
        for creator, probability in told["creators"].items():
            view.add_row(escaped(creator), f"{probability:.1%}", "yes" if creator in ring else "")
        stdout.print(view)


def show_contents(contents: list[dict[str, Any]]) -> None:
    view = Table(title="contents", title_justify="left")
    for name in ("content", "probability", "90% interval", "what follows", "operator's word", "why"):
        view.add_column(name)
    for one in contents:
        interval = "" if one["interval"] is None else "{:.1%} to {:.1%}".format(*one["interval"])
        probability = "nothing is known" if one["probability"] is None else f"{one['probability']:.1%}"
        reasons = ", ".join(f"{name} {value:+.2f}" for name, value in one["reasons"].items())
        word = "" if one["appeal"] is None else f"{one['appeal']['word']} ({one['appeal']['who']})"
        view.add_row(
            escaped(one["content"]), probability, interval, one["consequence"], escaped(word), reasons.replace("_", " ")
        )
    stdout.print(view)
