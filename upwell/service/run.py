"""A service from its settings: opens what it stands on, listens, and stops without losing what it acknowledged.

One process on the embedded log, or, with Kafka or more than one of them, servers that share a port and a worker that
folds for them. A process that dies is started again.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import uvicorn

from upwell.errors import BadRequest
from upwell.events import open_log
from upwell.service.app import create
from upwell.service.auth import check_exposure
from upwell.service.clock import Clock, Simulated, system_clock
from upwell.service.node import Node
from upwell.service.settings import Settings
from upwell.service.worker import Worker
from upwell.state import open_store

log = logging.getLogger(__name__)

AGAIN_S = 1.0  # between a process's death and its next start


async def open_node(settings: Settings) -> Node:
    """A node on the store and the log that the settings name. Raises BadRequest where they cannot be opened."""
    settings.data.mkdir(parents=True, exist_ok=True)
    shared = settings.shared
    clock: Clock = Simulated() if settings.clock == "request" else system_clock
    store = await asyncio.to_thread(open_store, settings.store_url)
    try:
        events = await asyncio.to_thread(open_log, settings.events_url, settings.data / "journal", folding=not shared)
    except BaseException:
        store.close()
        raise
    return Node(settings, store, events, clock, shared)


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
    if settings.client_token is None and settings.operator_token is None:
        log.warning("no token is set: whoever can reach %s may do everything, and only this machine can", url)
    if settings.shared or beside(settings):
        Family(settings, bound).run(lambda: ready(url))
    else:
        serve_on(settings, bound, lambda: ready(url))


def serve_on(settings: Settings, bound: socket.socket, ready: Callable[[], None]) -> None:
    """One server process on a bound socket."""

    async def start() -> Node:
        return await open_node(settings)

    config = uvicorn.Config(
        create(settings, start), log_level="warning", access_log=False, server_header=False, backlog=2048,
        timeout_graceful_shutdown=max(round(settings.drain_s), 1),
    )  # fmt: skip
    server = Announced(config, ready)
    for name in (signal.SIGTERM, signal.SIGINT):
        # Uvicorn raises the signal again once it has stopped: a stop that was asked for is no failure.
        signal.signal(name, lambda *_: None)
    server.run(sockets=[bound])
    if not server.started:
        raise BadRequest("the service could not start: see the log above")


def steady() -> None:
    """Keep pauses of the interpreter short, once what is long-lived has been loaded.

    What a server remembers are trees, which go when they are dropped: a full pass of the collector stops it for some
    100 ms to find next to nothing, and comes every quarter of an hour under load instead of every few seconds. A thread
    that writes to the store gives way to requests after 1 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    sys.setswitchinterval(0.001)


def work(settings: Settings, running: Callable[[], bool], ready: Callable[[], None]) -> None:
    """One worker process."""
    settings.data.mkdir(parents=True, exist_ok=True)
    store = open_store(settings.store_url)
    events = open_log(settings.events_url, settings.data / "journal", folding=False)
    try:
        worker = Worker(settings, store, events, system_clock)
        ready()
        worker.run(running)
    finally:
        events.close()
        store.close()


class Announced(uvicorn.Server):
    """Says when it answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            steady()
            self._ready()


def beside(settings: Settings) -> list[str]:
    """Processes that are no part of the service, and for which nobody waits."""
    wanted = {"learner": settings.learn, "judge": settings.trust, "proposer": settings.goals_world is not None}
    return [name for name, is_wanted in wanted.items() if is_wanted]


class Family:
    """The processes of a service that has several. Each is started again when it dies."""

    def __init__(self, settings: Settings, bound: socket.socket) -> None:
        self._settings, self._bound = settings, bound
        self._members: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = False

    def run(self, ready: Callable[[], None]) -> None:
        """Until SIGTERM or Ctrl-C."""
        self._bound.listen(2048)
        self._bound.set_inheritable(True)
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._stop)
        workers = ["worker"] if self._settings.shared else []
        names = [*workers, *(f"server {n}" for n in range(self._settings.workers))]
        for name in [*names, *beside(self._settings)]:
            self._start(name)
        for name in names:
            self._wait(name)
        if not self._stopping:
            ready()
        while not self._stopping:
            time.sleep(0.2)
            for name, process in list(self._members.items()):
                if process.poll() is not None and not self._stopping:
                    log.warning("%s ended with %s: started again", name, process.returncode)
                    time.sleep(AGAIN_S)
                    self._start(name)
        for process in self._members.values():
            process.wait()

    def _start(self, name: str) -> None:
        fd = self._bound.fileno()
        module = "upwell.online.child" if name in beside(self._settings) else "upwell.service.child"
        command = [sys.executable, "-m", module, name.split()[0], str(fd)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[fd], start_new_session=True
        )
        assert process.stdin is not None
        process.stdin.write(self._settings.with_secrets() + b"\n")
        process.stdin.flush()
        self._members[name] = process

    def _wait(self, name: str) -> None:
        """Until a member says that it is ready. Raises BadRequest when it ends instead."""
        stdout = self._members[name].stdout
        assert stdout is not None
        if stdout.readline().strip() != b"ready" and not self._stopping:
            self._stop()
            for process in self._members.values():
                process.wait()
            raise BadRequest(f"the {name} could not start: see the log above")

    def _stop(self, *_: object) -> None:
        self._stopping = True
        for process in self._members.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
