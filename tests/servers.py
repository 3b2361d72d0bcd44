"""Real servers for tests, started by the scripts that people use."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


class Server:
    """A server of this test run: ``scripts/NAME.sh`` on a folder. Starts again on the same folder and port."""

    def __init__(self, name: str, data: Path, **environment: str) -> None:
        self.name = name
        self.data = data
        self.environment = {**os.environ, **environment}
        self.address = ""  # host:port
        self.start()

    def start(self) -> None:
        again = ["--port", self.address.rpartition(":")[2]] if self.address else []
        command = [SCRIPTS / f"{self.name}.sh", "--data", self.data, *again]
        log = self.data.with_suffix(".errors")
        with log.open("wb") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=self.environment)
        assert self.process.stdout
        said = self.process.stdout.readline().decode().split()  # ends when the script does
        if said[:1] != ["ready"]:
            self.kill()
            raise RuntimeError(f"{self.name}: {log.read_text() or 'did not start'}")
        self.address = said[1]

    def kill(self) -> None:
        """As kill -9 does."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.kill()


def need(name: str) -> None:
    """Installs what a server needs. Where it cannot be had the test skips, and fails under CI=true."""
    done = subprocess.run([SCRIPTS / f"{name}.sh", "--install"], capture_output=True, text=True)
    if done.returncode:
        reason = f"no {name} here: {done.stderr.strip() or done.stdout.strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


def flushed(server: Server) -> str:
    """The URL of an emptied Redis."""
    url = f"redis://{server.address}/0"
    with Redis.from_url(url) as client:
        client.flushall()
    return url


def of_this_worker(name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for this test worker alone."""
    need(name)
    server = Server(name, tmp_path_factory.mktemp(name) / "data")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory):
    """``redis://{redis_server.address}/0``; flush it, or use keys of your own."""
    yield from of_this_worker("redis", tmp_path_factory)


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory):
    """``kafka://{kafka_server.address}``."""
    yield from of_this_worker("kafka", tmp_path_factory)
