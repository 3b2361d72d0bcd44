"""A server from its settings: opens what it stands on, listens, and stops without losing what it acknowledged."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

import uvicorn

from upwell.errors import BadRequest
from upwell.events import open_log
from upwell.service.app import create
from upwell.service.auth import check_exposure
from upwell.service.clock import Clock, system_clock
from upwell.service.node import Node
from upwell.service.settings import Settings
from upwell.state import open_store

log = logging.getLogger(__name__)


async def open_node(settings: Settings, clock: Clock = system_clock) -> Node:
    """A node on the store and the log that the settings name. Raises BadRequest where they cannot be opened."""
    settings.data.mkdir(parents=True, exist_ok=True)
    store = await asyncio.to_thread(open_store, settings.store_url)
    try:
        events = await asyncio.to_thread(open_log, settings.events_url, settings.data / "journal")
    except BaseException:
        store.close()
        raise
    return Node(settings, store, events, clock)


def listening(settings: Settings) -> socket.socket:
    """The bound socket. Raises BadRequest when the address cannot be had."""
    check_exposure(settings)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host, settings.port))
    except OSError as error:
        bound.close()
        raise BadRequest(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from None
    return bound


def serve(settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C. ``ready`` gets the URL once requests are answered."""
    bound = listening(settings)
    host, port = bound.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start() -> Node:
        return await open_node(settings)

    config = uvicorn.Config(
        create(settings, start), log_level="warning", access_log=False, server_header=False, backlog=2048,
        timeout_graceful_shutdown=max(round(settings.drain_s), 1),
    )  # fmt: skip
    server = Announced(config, lambda: ready(url))
    if settings.client_token is None and settings.operator_token is None:
        log.warning("no token is set: whoever can reach %s may do everything, and only this machine can", url)
    server.run(sockets=[bound])
    if not server.started:
        raise BadRequest("the service could not start: see the log above")


class Announced(uvicorn.Server):
    """Says when it answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()
