"""How commands ask a running service: where it is, whose token, and what is said when it does not answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upwell.errors import BadRequest, UpwellError

if TYPE_CHECKING:
    from upwell.client import Client

Url = Annotated[str, typer.Option(help="where the service answers")]
Token = Annotated[str | None, typer.Option(envvar="UPWELL_OPERATOR_TOKEN", help="operator's token, where one is set")]
By = Annotated[str, typer.Option(help="who asks, for the audit log")]
Why = Annotated[str, typer.Option(help="why, for the audit log")]
HERE = "http://127.0.0.1:8080"


def asked(url: str, token: str | None, ask: Callable[[Client], dict[str, Any]], by: str = "") -> dict[str, Any]:
    """What the service at ``url`` tells. Raises BadRequest for what it refuses, UpwellError where none answers."""
    import httpx

    from upwell.client import Client, UpwellRefused

    try:
        with Client(url, token, 10.0, by) as client:
            return ask(client)
    except UpwellRefused as refused:
        raise BadRequest(str(refused)) from None
    except httpx.TransportError as error:
        raise UpwellError(f"no service answers at {url} ({error}); start one with `upwell serve`") from None
