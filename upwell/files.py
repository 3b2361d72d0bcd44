"""Files that are there whole or not at all, whenever their writer is killed."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


def put(path: Path, data: bytes | str) -> None:
    """Write a file, text as UTF-8, and the folder that it is in."""
    with whole(path) as part, part.open("wb") as out:
        out.write(data.encode() if isinstance(data, str) else data)
        out.flush()
        os.fsync(out.fileno())


@contextmanager
def whole(path: Path) -> Generator[Path]:
    """Where to write a file that takes the place of ``path`` when all of it is there; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    yield part
    part.replace(path)
