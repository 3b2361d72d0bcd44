"""What an import writes: Parquet parts, rejects, counts. All in a temporary folder, put in place by one rename at the
end, so that a failed or interrupted import leaves nothing and an earlier data set whole."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from upwell.errors import BadRequest
from upwell.logs.duplicates import Repeats
from upwell.logs.lines import Bad
from upwell.logs.schema import Table

PART_ROWS = 500_000
MANIFEST = "dataset.json"
MADE_BY = "upwell import"
REJECTS = "rejects.jsonl"


class Rejects:
    """Rows that were not imported, one JSON object a line, and how many for each reason."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / REJECTS
        self.file = self.path.open("wb")
        self.reasons: Counter[str] = Counter()
        self.tables: Counter[Table] = Counter()

    def add(self, table: Table, name: str, bad: Iterable[Bad]) -> None:
        for row in bad:
            self.reasons[row.reason] += 1
            self.tables[table] += 1
            entry = {"file": name, "row": row.row, "reason": row.reason, "raw": row.raw}
            self.file.write(msgspec.json.encode(entry, enc_hook=str) + b"\n")

    def close(self) -> None:
        """Leaves no file where nothing was rejected."""
        self.file.close()
        if not self.reasons:
            self.path.unlink(missing_ok=True)


class Parts:
    """One table, written in parts of ``PART_ROWS`` rows as they come."""

    def __init__(self, folder: Path, spill: Path, schema: dict[str, Any]) -> None:
        folder.mkdir()
        self.folder, self.schema = folder, schema
        self.waiting: list[pl.DataFrame] = []
        self.heights: list[int] = []
        self.repeats = Repeats(spill)

    def add(self, frame: pl.DataFrame, keys: np.ndarray) -> None:
        self.repeats.add(keys)
        self.waiting.append(frame)
        if sum(frame.height for frame in self.waiting) >= PART_ROWS:
            self.flush()

    def flush(self) -> None:
        part = pl.concat(self.waiting) if self.waiting else pl.DataFrame(schema=self.schema)
        part.write_parquet(self.path(len(self.heights)), compression="zstd", compression_level=1)
        self.heights.append(part.height)
        self.waiting.clear()

    def path(self, part: int) -> Path:
        return self.folder / f"part-{part:05}.parquet"

    def finish(self) -> Generator[pl.DataFrame]:
        """Write what waits, then take out rows that repeat an earlier one, part by part, and give them."""
        if self.waiting or not self.heights:
            self.flush()
        places, start = self.repeats.places(), 0
        for part, height in enumerate(self.heights):
            here = places[np.searchsorted(places, start) : np.searchsorted(places, start + height)] - start
            start += height
            if len(here):
                frame = pl.read_parquet(self.path(part))
                stays = np.ones(height, bool)
                stays[here] = False
                frame.filter(stays).write_parquet(self.path(part), compression="zstd", compression_level=1)
                self.heights[part] = int(stays.sum())
                yield frame.filter(~stays)

    def close(self) -> None:
        self.repeats.close()

    def merge(self, path: Path) -> None:
        """The parts as one file, in constant memory."""
        pl.scan_parquet(self.folder / "*.parquet").sink_parquet(path, compression="zstd")
        shutil.rmtree(self.folder)


@contextmanager
def staged(out: Path) -> Generator[Path]:
    """A folder that becomes ``out`` if all goes well. Raises BadRequest if ``out`` holds anything but a data set."""
    check(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
        (work / "new").mkdir()
        yield work / "new"
        if out.exists():
            out.rename(work / "old")
        (work / "new").rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check(out: Path) -> None:
    """Only an earlier import or an empty folder is ever replaced. Raises BadRequest."""
    if out.is_dir():
        if any(out.iterdir()) and not is_ours(out):
            raise BadRequest(f"{out}: holds other files than a data set of `upwell import`: choose another --out")
    elif out.exists():
        raise BadRequest(f"{out}: is a file; --out names a folder")


def is_ours(folder: Path) -> bool:
    """Whether an import made this folder."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return False
    return manifest.get("made_by") == MADE_BY
