"""What tests of serving by TensorFlow share: one export for all of them, and a server on it."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from upwell.bench.stand_in import PredictionServer

UPWELL = (sys.executable, "-c", "from upwell.cli import main; main()")


class Exported(NamedTuple):
    folder: Path
    said: dict  # by the command


def encoder():
    """What is exported beside the shipped policy."""
    import jax

    from upwell.agents.encoder import Encoder
    from upwell.agents.encoder_parts import Shape

    return Encoder(Shape(), jax.random.key(3))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """``upwell export`` of the shipped policy and of an encoder: made once, however many workers test."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    folder, said = root / "models", root / "models.json"
    with (root / "models.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            from upwell.agents.kept import save_encoder

            save_encoder(root / "encoder.npz", encoder())
            command = [*UPWELL, "export", "--out", str(folder), "--encoder", str(root / "encoder.npz"), "--json"]
            said.write_bytes(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return Exported(folder, json.loads(said.read_bytes()))


@pytest.fixture(scope="session")
def prediction_server(exported: Exported):
    """A gRPC server that answers PredictionService by running the SavedModels with TensorFlow. Killed? Start it."""
    server = PredictionServer(exported.folder)
    yield server
    server.kill()
