"""``upwell serve``: the real-time service."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from upwell.cli.common import stdout

HELP = """Serve slates behind your ranker: HTTP, state in SQLite unless told otherwise.

    upwell serve --port 8080

    upwell serve --store redis://127.0.0.1:6379/0 --events kafka://127.0.0.1:9092 --workers 2

    upwell serve --policy-backend tfserving --tfserving 127.0.0.1:8500
"""


def register(app: typer.Typer) -> None:
    app.command(help=HELP)(serve)


def serve(
    config: Annotated[Path | None, typer.Option(help="TOML file of settings")] = None,
    store: Annotated[str | None, typer.Option(help="sqlite:PATH, redis://HOST:PORT/DB or memory:")] = None,
    events: Annotated[str | None, typer.Option(help="embedded:DIR or kafka://HOST:PORT")] = None,
    data: Annotated[Path | None, typer.Option(help="folder of the journal and the embedded store")] = None,
    host: Annotated[str | None, typer.Option(help="address to listen on")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen on; 0 takes a free one")] = None,
    workers: Annotated[int | None, typer.Option(help="server processes")] = None,
    policy: Annotated[str | None, typer.Option(help="learned policy: one that is shipped, or a file")] = None,
    learn: Annotated[bool | None, typer.Option(help="learn from what users do (with dial_noise in --config)")] = None,
    trust: Annotated[bool | None, typer.Option(help="judge who cheats, and heat them less, or not")] = None,
    policy_backend: Annotated[str | None, typer.Option(help="local, or tfserving: TensorFlow Serving")] = None,
    tfserving: Annotated[str | None, typer.Option(help="HOST:PORT of TensorFlow Serving's gRPC")] = None,
    print_config: Annotated[bool, typer.Option(help="print every setting with its default and meaning")] = False,
) -> None:
    from upwell.service.settings import load

    given: dict[str, Any] = {
        "store": store, "events": events, "data": data, "host": host, "port": port, "workers": workers,
        "policy": policy, "learn": learn, "trust": trust, "policy_backend": policy_backend, "tfserving": tfserving,
    }  # fmt: skip
    settings = load(config, **given)
    if print_config:
        from upwell.service.settings import as_toml

        stdout.print(as_toml(settings), markup=False, highlight=False, soft_wrap=True)
        return
    from upwell.service.run import serve as run

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    run(settings, lambda url: typer.echo(f"upwell answers at {url} (API: {url}/docs)", err=True))
