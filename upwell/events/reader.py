"""Reading a journal, also while another process writes it, drops from it or erases in it."""

from __future__ import annotations

import os
from pathlib import Path

from upwell.events import files
from upwell.events.frames import FRAME_BYTES, Stop, decode, next_whole
from upwell.events.mending import damaged
from upwell.events.port import Entry

CHUNK = max(1 << 20, FRAME_BYTES)
"""Bytes read at once: at least one frame."""


class JournalReader:
    """Follows a journal from an offset on. For one thread. Nothing new costs one read and one listing."""

    def __init__(self, directory: Path, partition: str, offset: int = 0) -> None:
        self.directory, self._partition = directory, partition
        self._file = -1
        self.seek(offset)

    def seek(self, offset: int) -> None:
        """Go on at 0, at an entry's offset or at its ``next``. What is dropped already is passed over."""
        self.close()
        self._base, self._at, self._data, self._data_at = offset, 0, b"", 0
        here = next((one for one in reversed(files.segments(self.directory)) if one.base <= offset), None)
        if here is not None:
            self._open(here, offset - here.base)

    @property
    def offset(self) -> int:
        """Where reading goes on."""
        return self._base + self._at

    def poll(self, limit: int) -> list[Entry]:
        """The next entries, ``limit`` at most. Raises Corrupt."""
        entries: list[Entry] = []
        while True:
            if self._decode(limit, entries) is Stop.LIMIT or entries:
                return entries
            later = self._later()  # looked up before reading on: a segment with a successor grows no more
            grown = self._fill()
            why = self._decode(limit, entries)
            if entries:
                return entries
            if why is Stop.BAD:
                if later or next_whole(self._data, self._at - self._data_at + 1) is not None:
                    raise damaged(files.segment(self.directory, self._base), self._at)
                return entries  # a torn tail: its writer will cut it off
            if grown:
                continue
            if later is None:
                return entries
            if self._at < self._data_at + len(self._data):
                raise damaged(files.segment(self.directory, self._base), self._at)
            self._open(later, 0)

    def unread(self) -> int:
        """Bytes beyond ``offset``."""
        return files.unread(self.directory, self.offset)

    def close(self) -> None:
        """Lets go of the file until ``seek``."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _decode(self, limit: int, entries: list[Entry]) -> Stop:
        start = self._data_at
        at, why = decode(self._data, self._at - start, self._partition, self._base + start, limit, entries)
        self._at = start + at
        return why

    def _fill(self) -> bool:
        """Read from here on, also what was read before: it may be erased by now. Whether there is more."""
        if self._file < 0:
            return False
        left = self._data_at + len(self._data) - self._at
        self._data, self._data_at = os.pread(self._file, CHUNK, self._at), self._at
        return len(self._data) > left

    def _later(self) -> files.Segment | None:
        first = self._base + (self._file >= 0)
        return next((one for one in files.segments(self.directory) if one.base >= first), None)

    def _open(self, one: files.Segment, at: int) -> None:
        try:
            file = os.open(one.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # dropped just now: the next listing tells
            return
        self.close()
        self._file, self._base, self._at, self._data, self._data_at = file, one.base, at, b"", at
