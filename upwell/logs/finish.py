"""The last steps of an import, on what was read: repeats taken out, tables put in place, the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from upwell.logs import obd
from upwell.logs.lines import Bad
from upwell.logs.parts import Parts, Rejects
from upwell.logs.plan import Plan
from upwell.logs.schema import SCHEMA_VERSION, TABLES, Table
from upwell.logs.staging import MADE_BY, MANIFEST


def take_out_repeats(table: Table, parts: Parts, plan: Plan, rejects: Rejects) -> None:
    """The first of equal rows stays."""
    reason = (
        "repeats an earlier row" if table == "interactions" else f"{TABLES[table][0].name}: repeats an earlier row's"
    )
    for frame in parts.finish():
        for row in frame.iter_rows(named=True):
            name = plan.files[row.pop("source")][0].name
            rejects.add(table, name, [Bad(row.pop("source_row"), reason, row)])


def place(folder: Path, parts: dict[Table, Parts]) -> None:
    """Interactions stay in parts; every other table becomes one file."""
    for table, written in parts.items():
        if table != "interactions":
            written.merge(folder / f"{table}.parquet")


def derive_users(folder: Path) -> int:
    """Open Bandit has no table of users: its segments are one. How many there are."""
    obd.users(pl.scan_parquet(folder / "interactions" / "*.parquet")).sink_parquet(folder / "users.parquet")
    return pl.scan_parquet(folder / "users.parquet").select(pl.len()).collect().item()


def write_manifest(
    folder: Path, plan: Plan, sources: list[dict[str, Any]], tables: dict[Table, dict[str, int]]
) -> None:
    """What the data set is, without a path of this machine in it."""
    renamed: dict[str, dict[str, str]] = {}
    for _, layout in plan.files:
        renamed.setdefault(layout.table, {}).update(layout.renamed())
    manifest = {
        "made_by": MADE_BY,
        "schema": SCHEMA_VERSION,
        "format": plan.format,
        "zone": plan.zone,
        "licence": plan.licence,
        "sources": sources,
        "tables": tables,
        "renamed": renamed,
    }
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
