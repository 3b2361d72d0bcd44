"""``upwell audit``: who changed what in the running service, when and why."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from upwell.cli.asking import HERE, Token, Url, asked
from upwell.cli.common import Json, emit, stdout
from upwell.cli.explain import clock, escaped

HELP = """Who changed what in the running service, when and why: goals, weights, versions of the policy, the switch.

    upwell audit                           the latest hundred changes

    upwell audit --limit 1000 --json       all that is kept, with models' answers
"""


def register(app: typer.Typer) -> None:
    app.command(help=HELP)(audit)


def audit(
    since: Annotated[int, typer.Option(help="Unix ms: entries since then", min=0)] = 0,
    limit: Annotated[int, typer.Option(help="entries, the latest", min=1, max=1_000)] = 100,
    url: Url = HERE,
    token: Token = None,
    json: Json = False,
) -> None:
    told = asked(url, token, lambda client: client.audit(since, limit))
    emit(told, json, lambda: show(told["entries"]))


def show(entries: list[dict[str, Any]]) -> None:
    """For people."""
    view = Table(title="changes", title_justify="left")
    for name in ("when", "who", "what", "of", "why"):
        view.add_column(name)
    for entry in entries:
        who = f"{entry['who']} ({entry['name']})" if entry["name"] else entry["who"]
        what, why = entry["what"].replace("_", " "), entry["why"]
        view.add_row(clock(entry["at_ms"]), escaped(who), what, escaped(entry["of"]), escaped(why[:200]))
    stdout.print(view)
