"""The processes of a crash run: the service and the servers it stands on, each killed as ``kill -9`` does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from upwell.errors import UpwellError

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
SERVE = "from upwell.cli import main; main()"
PATIENCE_S = 120.0


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


class Process:
    """A process of ours. It is started by who inherits this."""

    _process: subprocess.Popen[bytes]

    def kill(self) -> bool:
        self._process.kill()
        self._process.wait()
        return True

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)


class Backend(Process):
    """Redis or a broker, by the script that people use; started again on the same folder and port."""

    def __init__(self, name: str, data: Path) -> None:
        self.name, self._data, self.address = name, data, ""
        self.start()

    def start(self) -> None:
        again = ["--port", self.address.rpartition(":")[2]] if self.address else []
        with self._data.with_suffix(".errors").open("wb") as errors:
            self._process = subprocess.Popen(
                [SCRIPTS / f"{self.name}.sh", "--data", self._data, *again], stdout=subprocess.PIPE, stderr=errors
            )
        assert self._process.stdout is not None
        said = self._process.stdout.readline().decode().split()
        if said[:1] != ["ready"]:
            raise UpwellError(f"{self.name} did not start: {self._data.with_suffix('.errors').read_text()}")
        self.address = said[1]


class Service(Process):
    """``upwell serve`` on a folder and a port that stay the same."""

    def __init__(self, config: Path, log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "-c", SERVE, "serve", "--config", str(config), "--port", str(self.port)]
        self._log = log

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def ready(self) -> None:
        """Waits until requests are answered."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            try:
                if httpx.get(f"{self.url}/readyz", timeout=2.0).is_success:
                    return
            except httpx.TransportError:
                pass
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise UpwellError(f"the service is not ready: {self._log} says why")

    def members(self, role: str) -> list[int]:
        """Ids of the processes of a service that has several, by what they are: ``server`` or ``worker``."""
        found: list[int] = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal():
                continue
            try:
                arguments = (folder / "cmdline").read_bytes().split(b"\0")
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == self._process.pid and role.encode() in arguments:
                found.append(int(folder.name))
        return found


class Member:
    """One process of a service that has several. What it belongs to starts it again."""

    def __init__(self, service: Service, role: str) -> None:
        self._service, self.name = service, role

    def kill(self) -> bool:
        """False: there is none at present, because it is still being started again."""
        there = self._service.members(self.name)
        if not there:
            return False
        os.kill(there[0], signal.SIGKILL)
        return True

    def start(self) -> None:
        """Nothing: see ``run.Family``."""
