"""``upwell policies``: versions of the running service's policy, and who gets which."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from upwell.cli.common import Json, emit, stdout
from upwell.cli.explain import clock, escaped
from upwell.errors import BadRequest, UpwellError

HELP = """Versions of the running service's policy: where each came from, and what became of it.

    upwell policies                        all there are, the latest first

    upwell policies activate VERSION       make one live for all users, from the next request on

    upwell policies rollback               end the trial under way, or go back to the version that was live before
"""


def register(app: typer.Typer) -> None:
    app.command(help=HELP)(policies)


def policies(
    what: Annotated[list[str] | None, typer.Argument(help="nothing; `activate` and a version; or `rollback`")] = None,
    url: Annotated[str, typer.Option(help="where the service answers")] = "http://127.0.0.1:8080",
    token: Annotated[
        str | None, typer.Option(envvar="UPWELL_OPERATOR_TOKEN", help="operator's token, where one is set")
    ] = None,
    json: Json = False,
) -> None:
    import httpx

    from upwell.client import Client, UpwellRefused

    try:
        with Client(url, token, timeout_s=10.0) as client:
            match what or []:
                case []:
                    told = client.policies()
                case ["activate", version]:
                    told = client.activate(version)
                case ["rollback"]:
                    told = client.roll_back()
                case _:
                    raise BadRequest("give nothing, `activate VERSION`, or `rollback`")
    except UpwellRefused as refused:
        raise BadRequest(str(refused)) from None
    except httpx.TransportError as error:
        raise UpwellError(f"no service answers at {url} ({error}); start one with `upwell serve`") from None
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
