"""``upwell policies``: versions of the running service's policy, and who gets which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from upwell.cli.asking import HERE, Token, Url, asked
from upwell.cli.common import Json, emit, stdout
from upwell.cli.explain import clock, escaped
from upwell.errors import BadRequest

if TYPE_CHECKING:
    from upwell.client import Client

HELP = """Versions of the running service's policy: where each came from, and what became of it.

    upwell policies                        all there are, the latest first

    upwell policies activate VERSION       make one live for all users, from the next request on

    upwell policies rollback               end the trial under way, or go back to the version that was live before
"""


def register(app: typer.Typer) -> None:
    app.command(help=HELP)(policies)


def policies(
    what: Annotated[list[str] | None, typer.Argument(help="nothing; `activate` and a version; or `rollback`")] = None,
    url: Url = HERE,
    token: Token = None,
    json: Json = False,
) -> None:
    def ask(client: Client) -> dict[str, Any]:
        match what or []:
            case []:
                return client.policies()
            case ["activate", version]:
                return client.activate(version)
            case ["rollback"]:
                return client.roll_back()
            case _:
                raise BadRequest("give nothing, `activate VERSION`, or `rollback`")

    told = asked(url, token, ask)
    emit(told, json, lambda: show(told))


def show(told: dict[str, Any]) -> None:
    """For people."""
    trial = f"; {told['trial']} for {told['share']:.0%} of users" if told["trial"] else ""
    stdout.print(f"live: {told['live']}{trial}", markup=False)
    view = Table(title="versions", title_justify="left")
    for name in ("version", "learned from", "when", "what", "users", "why"):
        view.add_column(name)
    for version in told["versions"]:
        for n, event in enumerate(version["history"]):
            whose = (escaped(version["id"]), escaped(version["parent"] or "")) if n == 0 else ("", "")
            share = f"{event['share']:.0%}" if event["share"] else ""
            what = event["what"].replace("_", " ")
            view.add_row(*whose, clock(event["at_ms"]) if event["at_ms"] else "", what, share, escaped(event["why"]))
    stdout.print(view)
