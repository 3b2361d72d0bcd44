"""What a crash leaves behind, put right; what is more than that, told."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from upwell.events import files
from upwell.events.frames import Stop, decode, next_whole
from upwell.events.port import Corrupt

log = logging.getLogger(__name__)


def mend(directory: Path) -> files.Segment | None:
    """Cut a torn tail off the last segment, and return that segment. Raises Corrupt where more than a tail is bad."""
    kept = files.segments(directory)
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
        os.fsync(file.fileno())  # also what is whole: a killed process has not synced its last, and nobody else would
    return last


def damaged(one: files.Segment, at: int) -> Corrupt:
    return Corrupt(f"{one.path}: damaged at byte {at}: restore the file, or give its loss up by cutting it there")
