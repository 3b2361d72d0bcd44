"""Which rows repeat an earlier one, over any number of rows in bounded memory.

The 64-bit key of every row is spilled to disk by its top bits; repeats are found one share at a time. That among a
hundred million different rows any two share a key has probability 0.0003.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from upwell.logs.journal import SHARES, reopened

RECORD = np.dtype([("key", np.uint64), ("place", np.uint64)])


class Repeats:
    """Keys of one table in the order of its rows. ``sizes``: bytes of each share that an earlier run has left in
    ``folder`` and that count. The folder is the caller's to remove."""

    def __init__(self, folder: Path, sizes: Sequence[int] = (0,) * SHARES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.count = sum(sizes) // RECORD.itemsize
        self.files = [reopened(folder / f"{share:02}", size) for share, size in enumerate(sizes)]

    def add(self, keys: np.ndarray) -> None:
        records = np.empty(len(keys), RECORD)
        records["key"] = keys
        records["place"] = np.arange(self.count, self.count + len(keys), dtype=np.uint64)
        records = records[np.argsort(keys, kind="stable")]
        edges = np.searchsorted(records["key"], np.arange(SHARES, dtype=np.uint64) << np.uint64(64 - 5))
        for share, file in enumerate(self.files):
            end = edges[share + 1] if share + 1 < SHARES else len(records)
            file.write(records[edges[share] : end].tobytes())
        self.count += len(keys)

    def sizes(self) -> list[int]:
        """Bytes of each share, all of them with the system."""
        for file in self.files:
            file.flush()
        return [file.tell() for file in self.files]

    def close(self) -> None:
        for file in self.files:
            file.close()

    def places(self) -> np.ndarray:
        """Places, from 0, of all rows whose key an earlier row has."""
        self.close()
        found: list[np.ndarray] = []
        for share in range(SHARES):
            records = np.fromfile(self.folder / f"{share:02}", RECORD)
            records = records[np.argsort(records["key"], kind="stable")]  # equal keys stay in the order of their rows
            found.append(records["place"][1:][records["key"][1:] == records["key"][:-1]])
        return np.sort(np.concatenate(found)).astype(np.int64)
