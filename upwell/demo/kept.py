"""Lives that take long, kept as JSON: a command that was cut off goes on with the next one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


def once(path: Path, kind: type[T], make: Callable[[], T]) -> T:
    """What the file holds, or else what ``make`` makes, which is kept there: whole or not at all."""
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=kind)
    made = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(made))
    part.replace(path)
    return made
