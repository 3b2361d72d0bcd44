"""The journal of one process: an append-only sequence of frames in segment files, for one writer and any readers.

What ``append`` has returned from outlives the process; what ``durable`` has returned from outlives the machine. A tail
that a crash tore is cut off at the last whole frame when the journal is opened again. Only the last segment can have
one: a new one is begun once the former is synced. Damage anywhere else is an error that names file and byte.

An offset is never used twice, not even for frames that a power cut took back, which a reader may have seen: every
opening begins a segment well beyond the last.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from upwell.events import files
from upwell.events.commit import GroupCommit
from upwell.events.frames import decode, encode
from upwell.events.mending import mend
from upwell.events.port import Full, LogDown, Record, Taken

log = logging.getLogger(__name__)

JUMP = 1 << 28
"""Offsets skipped at each opening: more than can have been written since the last sync."""


@dataclass(frozen=True)
class Limits:
    """Sizes of a journal."""

    segment_bytes: int = 64 << 20
    """A segment that has reached it is followed by a new one; so this much is dropped at a time."""
    segment_s: float = 3_600.0
    """The same by age, so that a quiet journal can be dropped too."""
    max_bytes: int = 4 << 30
    """Beyond it ``append`` raises Full."""
    sync_s: float = 0.05
    """What nobody waits for is durable after about this long."""


class Journal:
    """The writer. ``append`` and ``durable`` are for any thread or task."""

    def __init__(self, directory: Path, limits: Limits | None = None) -> None:
        """Opens the journal in a folder, or begins one. Raises Taken, Corrupt."""
        self.directory, self._limits = directory, limits or Limits()
        directory.mkdir(parents=True, exist_ok=True)
        held = files.lock(directory / "lock")
        if held is None:
            raise Taken(f"{directory}: another process writes this journal")
        self._held: int | None = held
        self._lock, self._syncing = threading.Lock(), threading.Lock()
        self._failed = ""
        self._fd = -1
        try:
            last = mend(directory)
            self._used = self.used_bytes
            self._begin(0 if last is None else last.base + last.size() + JUMP)
        except BaseException:
            os.close(held)
            raise
        if last is not None and not last.size():
            last.path.unlink()  # else every start without an entry would leave one
        self._commit = GroupCommit(self._sync, self._limits.sync_s, f"sync {directory.name}")
        self.durable, self.wait = self._commit.durable, self._commit.wait

    @property
    def position(self) -> int:
        """The offset of the next frame."""
        with self._lock:
            return self._base + self._size

    @property
    def used_bytes(self) -> int:
        """On disk."""
        return sum(one.size() for one in files.segments(self.directory))

    @property
    def error(self) -> str:
        """Why nothing can be written, until the process starts anew; "" while all is well."""
        return self._failed or self._commit.error

    def append(self, topic: str, records: Sequence[Record]) -> int:
        """Write records to the operating system; returns the offset after them. See ``port.Log``."""
        data = encode(topic, records)
        with self._lock:
            if self.error or self._held is None:
                raise LogDown(self.error or "the journal is closed")
            if self._used + len(data) > self._limits.max_bytes:
                self._used = self.used_bytes  # others drop segments too
                if self._used + len(data) > self._limits.max_bytes:
                    raise Full(f"{self.directory}: {self._used} bytes, at most {self._limits.max_bytes}")
            try:
                written = os.write(self._fd, data)
            except OSError as error:
                kind = Full if error.errno in (errno.ENOSPC, errno.EDQUOT) else LogDown
                raise kind(f"{self.directory}: {error.strerror}") from None
            if written < len(data):
                self._cut(data[:written])
                raise Full(f"{self.directory}: no room on the disk")
            self._size += written
            self._used += written
            return self._base + self._size

    def drop_before(self, offset: int, older_s: float = 0.0) -> int:
        """Delete segments wholly before ``offset`` and last written over ``older_s`` seconds ago; returns the bytes."""
        dropped = files.drop_before(self.directory, offset, older_s)
        with self._lock:
            self._used -= dropped
        return dropped

    def close(self) -> None:
        """Syncs and lets go of the folder. Twice does no harm."""
        with self._lock:
            held, self._held = self._held, None
        if held is not None:
            self._commit.stop()
            os.close(self._fd)
            os.close(held)

    def _cut(self, prefix: bytes) -> None:
        """After half a write: keep its whole frames, which readers may have seen, and nothing after them."""
        whole, _ = decode(prefix, 0, "", 0, len(prefix), [])
        try:
            os.ftruncate(self._fd, self._size + whole)
        except OSError as error:
            self._failed = f"{self.directory}: half a frame cannot be cut off ({error.strerror}): restart"
        self._size += whole
        self._used += whole

    def _sync(self) -> int:
        """Make all so far durable; begin a new segment where this one is full or old."""
        with self._syncing:
            position = self.position
            if position > self._synced:
                os.fdatasync(self._fd)
                self._synced = position
            old = self._size and time.monotonic() - self._begun_s > self._limits.segment_s
            if self._size >= self._limits.segment_bytes or old:
                self._roll()
            return position

    def _roll(self) -> None:
        with self._lock:
            before = self._fd
            os.fdatasync(before)  # the little that came meanwhile: only the last segment may ever be torn
            try:
                self._begin(self._base + self._size)
            except OSError as error:
                log.warning("%s: no new segment (%s): the old one grows on", self.directory, error.strerror)
                return
        os.close(before)

    def _begin(self, base: int) -> None:
        path = files.segment(self.directory, base).path
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            files.sync_directory(self.directory)
        except BaseException:
            os.close(fd)
            path.unlink()
            raise
        self._fd, self._base, self._size, self._synced, self._begun_s = fd, base, 0, base, time.monotonic()
