"""Lives that take long, kept as JSON: a command that was cut off goes on with the next one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from upwell import files

T = TypeVar("T", bound=msgspec.Struct)


def once(path: Path, kind: type[T], make: Callable[[], T]) -> T:
    """What the file holds, or else what ``make`` makes, which is kept there: whole or not at all."""
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=kind)
    made = make()
    files.put(path, msgspec.json.encode(made))
    return made
