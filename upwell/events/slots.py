"""Slots: the places for processes below one folder. Each has a journal; a lock says whose it is.

DIR/id            names this folder among those of all machines, which may share a state store
DIR/0/, DIR/1/…   a slot: ``lock``, ``*.frames`` and, with Kafka, ``forwarded``
DIR/GROUP.group   locked by the member of a group of consumers that reads at present
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from upwell.errors import BadRequest
from upwell.events import files
from upwell.events.journal import Journal, Limits
from upwell.events.port import LogDown, Taken

MOST = 1_000
"""Slots looked at for a free one."""


class Slots:
    """The slots below a folder. A partition is the folder's id and the slot's number: ``1f2e3d4c-0``."""

    def __init__(self, directory: Path, limits: Limits | None = None) -> None:
        """Raises BadRequest where the folder cannot be written."""
        self.directory, self._limits = directory, limits
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self.id = identity(directory)
        except OSError as error:
            raise BadRequest(f"{directory}: cannot hold a journal: {error.strerror}") from None

    def claim(self) -> tuple[str, Journal]:
        """Partition and journal of the first slot that is free. Raises Corrupt, LogDown."""
        for number in range(MOST):
            with suppress(Taken):
                return f"{self.id}-{number}", Journal(self.directory / str(number), self._limits)
        raise LogDown(f"{self.directory}: all of {MOST} slots are taken")

    def partitions(self) -> dict[str, Path]:
        """All there are, of processes alive and dead, by number."""
        numbers = sorted(int(name) for name in os.listdir(self.directory) if name.isdecimal())
        return {f"{self.id}-{number}": self.directory / str(number) for number in numbers}

    def adopt(self, path: Path) -> Journal | None:
        """The journal of a dead process, mended; None where a process has it or nothing is in it. Raises Corrupt."""
        with suppress(Taken):
            return Journal(path, self._limits) if files.end(path) else None
        return None


def identity(directory: Path) -> str:
    """The folder's own name, made up once. Of several processes that make one up, the first's holds."""
    path = directory / "id"
    if not path.exists():
        fresh = directory / f"id.{os.getpid()}.new"
        fresh.write_text(uuid4().hex[:8])
        with suppress(FileExistsError):
            os.link(fresh, path)
        fresh.unlink()
        files.sync_directory(directory)
    return path.read_text()
