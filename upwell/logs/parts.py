"""What an import writes as it reads: Parquet parts with the keys of their rows, and rejects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from upwell.logs.duplicates import Repeats
from upwell.logs.journal import RejectsDone, TableDone, as_read, finished, part_of, rejects_of, reopened
from upwell.logs.lines import Bad
from upwell.logs.schema import Table


class Rejects:
    """Rows not imported, one JSON object a line, and how many for each reason. ``done``: what an earlier run wrote."""

    def __init__(self, work: Path, done: RejectsDone) -> None:
        self.path = rejects_of(work)
        self.file = reopened(self.path, done.size)
        self.reasons: Counter[str] = Counter(done.reasons)
        self.tables: Counter[str] = Counter(done.tables)

    def add(self, table: Table, name: str, bad: Iterable[Bad]) -> None:
        for row in bad:
            self.reasons[row.reason] += 1
            self.tables[table] += 1
            entry = {"file": name, "row": row.row, "reason": row.reason, "raw": row.raw}
            self.file.write(msgspec.json.encode(entry, enc_hook=str) + b"\n")

    def done(self) -> RejectsDone:
        """What is written, all of it with the system."""
        self.file.flush()
        return RejectsDone(self.file.tell(), dict(self.reasons), dict(self.tables))

    def close(self) -> None:
        """Leaves no file where nothing was rejected."""
        self.file.close()
        if not self.reasons:
            self.path.unlink(missing_ok=True)


class Parts:
    """One table, written in parts. ``done``: what an earlier run has written."""

    def __init__(self, work: Path, table: Table, schema: dict[str, Any], done: TableDone) -> None:
        self.folder, self.clean, self.schema = as_read(work, table), finished(work, table), schema
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clean.mkdir(parents=True, exist_ok=True)
        self.waiting: list[pl.DataFrame] = []
        self.heights = list(done.heights)
        self.repeats = Repeats(work / "keys" / table, done.keys)

    def add(self, frame: pl.DataFrame, keys: np.ndarray) -> None:
        self.repeats.add(keys)
        self.waiting.append(frame)

    def flush(self) -> None:
        """Write what waits as a part."""
        part = pl.concat(self.waiting) if self.waiting else pl.DataFrame(schema=self.schema)
        write(part, part_of(self.folder, len(self.heights)))
        self.heights.append(part.height)
        self.waiting.clear()

    def done(self) -> TableDone:
        """What is written, after writing what waits."""
        if self.waiting:
            self.flush()
        return TableDone(list(self.heights), self.repeats.sizes())

    def finish(self) -> Generator[pl.DataFrame]:
        """Take out rows that repeat an earlier one, part by part, and give them.

        May be cut off and begun again: a part is moved as it is, or stays and is written anew without its repeats.
        """
        if not self.heights:
            self.flush()
        places, start = self.repeats.places(), 0
        for part, height in enumerate(self.heights):
            here = places[np.searchsorted(places, start) : np.searchsorted(places, start + height)] - start
            start += height
            read, clean = part_of(self.folder, part), part_of(self.clean, part)
            if len(here):
                frame = pl.read_parquet(read)
                stays = np.ones(height, bool)
                stays[here] = False
                write(frame.filter(stays), clean)
                self.heights[part] = int(stays.sum())
                yield frame.filter(~stays)
            elif read.exists():
                read.replace(clean)

    def close(self) -> None:
        self.repeats.close()

    def merge(self, path: Path) -> None:
        """The finished parts as one file, in constant memory."""
        pl.scan_parquet(self.clean / "*.parquet").sink_parquet(path, compression="zstd")


def write(frame: pl.DataFrame, path: Path) -> None:
    frame.write_parquet(path, compression="zstd", compression_level=1)
