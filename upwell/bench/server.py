"""A server process to be measured: the service's own application, and beside it a route that does nothing.

``python -m upwell.bench.server``. Settings come as JSON on standard input, as with ``upwell.service.child``; the first
line on standard output says ``ready PORT``. ``POST /empty`` passes all that a request passes, the checks at the door
and the reading of the body included, and answers ``{}``: what is left of a request when nothing is decided.
"""

from __future__ import annotations

import os
import threading

import uvicorn
from starlette.requests import Request
from starlette.responses import Response

from upwell.service import run
from upwell.service.app import JSON, create
from upwell.service.child import follow_parent
from upwell.service.node import Node
from upwell.service.settings import Settings


async def empty(http: Request) -> Response:
    await http.body()
    return Response(b"{}", media_type=JSON)


def main() -> None:
    with os.fdopen(os.dup(0), "rb") as pipe:
        settings = Settings.model_validate_json(pipe.readline())
    bound = run.listening(settings)
    threading.Thread(target=follow_parent, daemon=True).start()

    async def start() -> Node:
        return await run.open_node(settings)

    app = create(settings, start)
    app.add_route("/empty", empty, methods=["POST"], include_in_schema=False)
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, backlog=2048)
    run.Announced(config, lambda: print(f"ready {bound.getsockname()[1]}", flush=True)).run(sockets=[bound])


if __name__ == "__main__":
    main()
