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
