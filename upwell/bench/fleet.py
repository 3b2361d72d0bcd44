"""Processes to be measured: servers each on a port of its own, a worker where they need one, Redis and a broker."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from upwell.bench.crash_parts import Backend
from upwell.errors import BadRequest, UpwellError
from upwell.service.auth import loopback
from upwell.service.settings import Settings, load

STOP_S = 30.0
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Process:
    """One of our processes. ``said`` is what follows ``ready`` on its first line."""

    def __init__(self, command: Sequence[str], settings: Settings, log: Path, cores: set[int] | None = None) -> None:
        before = os.sched_getaffinity(0)
        try:
            if cores:
                os.sched_setaffinity(0, cores)  # a child inherits it, its threads included
            with log.open("ab") as errors:
                self._popen = subprocess.Popen(
                    [sys.executable, "-m", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
                )
        finally:
            os.sched_setaffinity(0, before)
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(settings.with_secrets() + b"\n")
        self._popen.stdin.flush()
        word, _, self.said = self._popen.stdout.readline().decode().strip().partition(" ")
        if word != "ready":
            self.stop()
            raise UpwellError(f"{command[0]} did not start: {log.read_text('utf-8')[-2_000:]}")

    def cpu_s(self) -> float:
        """Seconds of processor time so far, of all its threads."""
        fields = Path(f"/proc/{self._popen.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND

    def signal(self, number: int) -> None:
        self._popen.send_signal(number)

    def resident_bytes(self) -> int:
        """Memory that it holds now."""
        return int(Path(f"/proc/{self._popen.pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        self._popen.terminate()
        try:
            self._popen.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()


class Standing(Backend):
    """Redis or a broker for one run."""

    def stop(self) -> None:
        super().stop()
        if self._process.stdout is not None:
            self._process.stdout.close()


class Fleet:
    """What runs, and where. ``ports``: of the servers; ``redis``: host:port, where it was started for this run."""

    def __init__(self, settings: Settings, servers: list[Process], workers: list[Process], redis: str) -> None:
        self.settings, self.servers, self.workers, self.redis = settings, servers, workers, redis
        self.ports = [int(server.said) for server in servers]

    def cpu_s(self) -> float:
        """Processor time of servers and workers so far, seconds."""
        return sum(process.cpu_s() for process in (*self.servers, *self.workers))


@contextmanager
def prepared(store: str, events: str, folder: Path, **given: Any) -> Generator[tuple[Settings, str]]:
    """Settings for a run in an empty folder, and where its Redis is; what they need is started, and stopped after.

    ``store``: ``memory``, ``sqlite``, ``redis`` or a URL; ``events``: ``embedded``, ``kafka`` or a URL. Raises
    BadRequest for one that is not on this machine.
    """
    with ExitStack() as stack:
        redis = ""
        if store == "redis":
            backend = Standing("redis", folder / "redis")
            stack.callback(backend.stop)
            redis, store = backend.address, f"redis://{backend.address}/0"
        if events == "kafka":
            backend = Standing("kafka", folder / "kafka")
            stack.callback(backend.stop)
            events = f"kafka://{backend.address}?partitions=4"
        for url in (store, events):
            if url.startswith(("redis:", "kafka:")) and not loopback(urlsplit(url).hostname or ""):
                raise BadRequest(f"{url}: only servers on this machine are put under load")
        plain = {"memory": "memory:", "sqlite": "", "embedded": ""}
        given = {"port": 0, "data": folder / "data", **given}
        yield load(None, store=plain.get(store, store), events=plain.get(events, events), **given), redis


@contextmanager
def running(
    settings: Settings, redis: str, folder: Path, servers: int = 1, cores: set[int] | None = None
) -> Generator[Fleet]:
    """Servers, pinned to ``cores`` where they are given, and a worker where the log is shared."""
    started: list[Process] = []
    try:
        if settings.shared:
            started.append(Process(["upwell.service.child", "worker", "0"], settings, folder / "worker.log"))
        workers = started[:]
        for n in range(servers):
            started.append(Process(["upwell.bench.server"], settings, folder / f"server{n}.log", cores))
        yield Fleet(settings, started[len(workers) :], workers, redis)
    finally:
        for process in reversed(started):
            process.stop()


def cores() -> tuple[set[int] | None, set[int] | None]:
    """One core for the server and one for its callers; None where there is only one."""
    have = sorted(os.sched_getaffinity(0))
    return ({have[0]}, {have[-1]}) if len(have) > 1 else (None, None)


class Stopwatch:
    """Wall and processor time since it was made, seconds."""

    def __init__(self, *processes: Process) -> None:
        self._processes = processes
        self._began, self._cpu_s = time.perf_counter(), self._spent()
        self._own_s = time.process_time()

    def _spent(self) -> float:
        return sum(process.cpu_s() for process in self._processes)

    def read(self) -> tuple[float, float, float]:
        """Wall, theirs and our own processor time."""
        return time.perf_counter() - self._began, self._spent() - self._cpu_s, time.process_time() - self._own_s


@contextmanager
def pinned(cores: set[int] | None) -> Generator[None]:
    """This process on these cores."""
    before = os.sched_getaffinity(0)
    try:
        if cores:
            os.sched_setaffinity(0, cores)
        yield
    finally:
        os.sched_setaffinity(0, before)
