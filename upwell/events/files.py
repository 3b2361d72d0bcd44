"""A journal's files: segments named by the offset of their first byte, and the lock that keeps a second writer out."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

SUFFIX = ".frames"


class Segment(NamedTuple):
    """A file of frames. The byte at ``n`` has the offset ``base + n``."""

    base: int
    path: Path

    def size(self) -> int:
        """Bytes; 0 where it has just been dropped."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0


def segment(directory: Path, base: int) -> Segment:
    return Segment(base, directory / f"{base:020d}{SUFFIX}")


def segments(directory: Path) -> list[Segment]:
    """In their order; none where there is no such folder."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    stems = (name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))
    return [segment(directory, base) for base in sorted(int(stem) for stem in stems if stem.isdecimal())]


def end(directory: Path) -> int:
    """The offset after the last frame, 0 without any."""
    return next((one.base + size for one in reversed(segments(directory)) if (size := one.size())), 0)


def unread(directory: Path, offset: int) -> int:
    """Bytes from ``offset`` on."""
    kept = ((one.base, one.size()) for one in segments(directory))
    return sum(max(0, base + size - max(offset, base)) for base, size in kept)


def drop_before(self, offset: int, older_s: float = 0.0) -> int:
        """Delete segments wholly before ``offset`` and last written over ``older_s`` seconds ago; returns the bytes."""
        dropped = drop_before(self.directory, offset, older_s)
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


def mend(directory: Path) -> files.Segment | None:
    """Cut a torn tail off the last segment, and return that segment. Raises Corrupt where more than a tail is bad."""
    kept = segments(directory)
    if not kept:
        return None
    last = kept[-1]
    data = last.path.read_bytes()
    whole, why = decode(data, 0, "", 0, len(data) + 1, [])
    if whole < len(data):
        if why is Stop.BAD and next_whole(data, whole + 1) is not None:
            raise damaged(last, whole)
        log.warning("%s: a torn tail of %d bytes is cut off", last.path, len(data) - whole)
        with last.path.open("r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())
    return last


def damaged(one: files.Segment, at: int) -> Corrupt:
    return Corrupt(f"{one.path}: damaged at byte {at}: restore the file, or give its loss up by cutting it there")


def drop_before(directory: Path, offset: int, older_s: float = 0.0) -> int:
    """Delete segments wholly before ``offset``, never the last; returns how many bytes. For any process."""
    kept = segments(directory)
    dropped, latest = 0, time.time() - older_s
    for one in kept[:-1]:
        with suppress(FileNotFoundError):
            stat = one.path.stat()
            if one.base + stat.st_size > offset or stat.st_mtime > latest:
                break
            one.path.unlink()
            dropped += stat.st_size
    return dropped


def lock(path: Path) -> int | None:
    """An exclusive lock, gone with the process; None while another holds it. Close the descriptor to let go."""
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def sync_directory(directory: Path) -> None:
    """Make the names in a folder outlive the machine."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace(path: Path, text: str) -> None:
    """Write a small file whole or not at all, by one rename."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.write_text(text)
    fresh.rename(path)
