"""How far an import has come, so that one that was cut off goes on where it stopped.

At fixed points of the input everything read is written out and ``journal.json`` says what that covers. What a later
run finds beyond it is cut off. Nothing is forced to the disk: a killed process loses nothing that it has written, and
what a crash of the machine loses is noticed (``whole``).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import IO, Any

import msgspec
import polars as pl

from upwell import __version__, files
from upwell.logs.plan import Plan
from upwell.logs.read import Place
from upwell.logs.schema import SCHEMA_VERSION

SHARES = 32
"""Files that the keys of one table are spilled to."""
JOURNAL = "journal.json"
REJECTS = "rejects.jsonl"


class FileDone(msgspec.Struct):
    """What is done of one input file."""

    rows: int = 0
    place: Place = Place()
    unread: list[str] = []
    """Keys of JSON lines that the first lines did not have."""
    done: bool = False


class TableDone(msgspec.Struct):
    """What is written of one table: rows of each part, bytes of each share of keys."""

    heights: list[int] = []
    keys: list[int] = msgspec.field(default_factory=lambda: [0] * SHARES)


class RejectsDone(msgspec.Struct):
    """What is written of the rejects: bytes, and rows by reason and by table."""

    size: int = 0
    reasons: dict[str, int] = {}
    tables: dict[str, int] = {}


class Journal(msgspec.Struct):
    """The whole file. ``inputs``: path → size in bytes and time of the last change in ns; ``seconds``: spent so far."""

    stamp: str
    inputs: dict[str, tuple[int, int]]
    files: list[FileDone] = []
    tables: dict[str, TableDone] = {}
    rejects: RejectsDone = msgspec.field(default_factory=RejectsDone)
    seconds: float = 0.0

    @property
    def rows(self) -> int:
        """Rows read."""
        return sum(file.rows for file in self.files)

    def write(self, work: Path) -> None:
        files.put(work / JOURNAL, msgspec.json.encode(self))


def as_read(work: Path, table: str) -> Path:
    """Folder of a table's parts as they were read."""
    return work / "parts" / table


def finished(work: Path, table: str) -> Path:
    """Folder of its parts without repeats. Only interactions stay in parts."""
    return work / ("new" if table == "interactions" else "clean") / table


def part_of(folder: Path, part: int) -> Path:
    return folder / f"part-{part:05}.parquet"


def rejects_of(work: Path) -> Path:
    return work / "new" / REJECTS


def begin(plan: Plan) -> Journal:
    """The journal of an import of which nothing is done."""
    sources = [source.path for source, _ in plan.files]
    stats = {str(path.resolve()): path.stat() for path in sources}
    return Journal(stamp(plan), {path: (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()})


def stamp(plan: Plan) -> str:
    """Fingerprint of all that the result depends on but the input's bytes."""
    told: list[Any] = [__version__, pl.__version__, SCHEMA_VERSION, plan.format, plan.zone, plan.licence, plan.schemas]
    for source, layout in plan.files:
        told += [source.path.resolve(), source.name, source.form, source.columns, source.separator, layout.table]
        told += [sorted(layout.fields.items(), key=first), sorted(layout.known.items(), key=first)]
        told += [sorted(layout.missing), sorted(layout.keep)]
    return hashlib.sha256(repr(told).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def first(pair: tuple[str, Any]) -> str:
    return pair[0]


def differs(left: Journal, now: Journal) -> str:
    """Why an import cannot go on from what another left; empty if it can."""
    changed = [path for path, stat in now.inputs.items() if left.inputs.get(path, stat) != stat]
    if changed:
        return f"{changed[0]} has changed since"
    return "" if left.stamp == now.stamp and left.inputs == now.inputs else "it was of other files or other options"


def whole(left: Journal, work: Path) -> bool:
    """Whether all that the journal tells of is there."""
    try:
        for table, done in left.tables.items():
            if any((work / "keys" / table / f"{i:02}").stat().st_size < size for i, size in enumerate(done.keys)):
                return False
            for part, height in enumerate(done.heights):
                path = part_of(as_read(work, table), part)
                if not path.exists():
                    path = part_of(finished(work, table), part)
                if pl.scan_parquet(path).select(pl.len()).collect().item() != height:
                    return False
        return not left.rejects.size or rejects_of(work).stat().st_size >= left.rejects.size
    except (OSError, pl.exceptions.PolarsError):
        return False


def reopened(path: Path, size: int) -> IO[bytes]:
    """A file to go on writing, cut to its first ``size`` bytes."""
    path.touch()
    os.truncate(path, size)
    return path.open("ab")
