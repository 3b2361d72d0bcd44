"""Erasure: what a journal holds under a key is overwritten in place, also while its process appends to it."""

from __future__ import annotations

import os
from pathlib import Path

from upwell.events import files
from upwell.events.frames import ERASED, keyed, next_whole
from upwell.events.mending import damaged


def erase(directory: Path, key: str) -> int:
    """Overwrite all entries under ``key``; returns how many. Durable on return. Raises Corrupt."""
    return sum(erase_in(one, key.encode()) for one in files.segments(directory))


def erase_in(one: files.Segment, key: bytes) -> int:
    """The same for one segment; 0 where it has just been dropped."""
    try:
        fd = os.open(one.path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        data = one.path.read_bytes()
        found, end = keyed(data, key)
        if next_whole(data, end) is not None:
            raise damaged(one, end)
        if found:
            # The mark first, and on the disk: zeros in a frame that is not marked would be damage.
            for at, _, _ in found:
                os.pwrite(fd, bytes((ERASED,)), at + 1)
            os.fdatasync(fd)
            for _, body, stop in found:
                os.pwrite(fd, bytes(stop - body), body)
            os.fdatasync(fd)
        return len(found)
    finally:
        os.close(fd)
