"""The stand-in for TensorFlow Serving (``prediction_server``) as a process that can be killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from upwell.errors import UpwellError


class PredictionServer:
    """``upwell.bench.prediction_server`` on a folder of models: killed, and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.address = folder, "127.0.0.1:0"
        self.start()

    def start(self) -> None:
        """Returns when it answers."""
        port = self.address.rpartition(":")[2]
        command = [sys.executable, "-m", "upwell.bench.prediction_server", str(self._folder), port]
        log = self._folder.parent / "prediction_server.log"
        with log.open("ab") as errors:
            self._popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        assert self._popen.stdout is not None
        word, _, address = self._popen.stdout.readline().decode().strip().partition(" ")
        if word != "ready":
            self.kill()
            raise UpwellError(f"the prediction server did not start: {log.read_text('utf-8')[-2_000:]}")
        self.address = address

    def kill(self) -> None:
        """As kill -9 does."""
        self._popen.kill()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()
