"""An imported data set, opened: lazy tables, nothing read before it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import polars as pl

from upwell.errors import BadRequest
from upwell.logs.schema import SCHEMA_VERSION
from upwell.logs.staging import MANIFEST, is_ours


class Manifest(msgspec.Struct):
    """What of dataset.json others need."""

    schema: int
    format: str
    zone: str
    licence: str | None = None


@dataclass(frozen=True)
class Dataset:
    """The tables of ``schema.TABLES``; an import without contents or users has them empty."""

    folder: Path
    manifest: Manifest
    interactions: pl.LazyFrame
    contents: pl.LazyFrame
    users: pl.LazyFrame


def open_dataset(folder: Path) -> Dataset:
    """Raises BadRequest if ``folder`` holds no data set, or one of another version."""
    if not is_ours(folder):
        raise BadRequest(f"{folder}: no data set: make one with `upwell import PATH… --out {folder}`")
    manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    if manifest.schema != SCHEMA_VERSION:
        raise BadRequest(f"{folder}: schema {manifest.schema}, this Upwell reads {SCHEMA_VERSION}: import it again")
    return Dataset(
        folder,
        manifest,
        pl.scan_parquet(folder / "interactions" / "*.parquet"),
        pl.scan_parquet(folder / "contents.parquet"),
        pl.scan_parquet(folder / "users.parquet"),
    )
