"""``upwell import``: logs of any size to a normalised data set, in bounded memory."""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from upwell.errors import BadRequest
from upwell.logs import obd
from upwell.logs.convert import Converted, convert
from upwell.logs.layout import Layout
from upwell.logs.lines import Bad
from upwell.logs.plan import Plan
from upwell.logs.read import Block, Step, blocks
from upwell.logs.schema import SCHEMA_VERSION, TABLES, Table
from upwell.logs.source import Source
from upwell.logs.staging import MADE_BY, MANIFEST, REJECTS, Parts, Rejects, staged

WORKERS = 2
"""Blocks converted at once; Polars leaves Python's lock while it works. Memory grows with it."""


def run(plan: Plan, out: Path, step: Callable[[int], None] = lambda read: None) -> dict[str, Any]:
    """Import what is planned into ``out``; ``step`` is told the bytes read. The result as the command prints it.

    Raises BadRequest for a file that breaks off or is damaged, for files without a row, and for an ``out`` that is not
    ours to replace.
    """
    began = time.perf_counter()
    with (
        staged(out) as folder,
        tempfile.TemporaryDirectory(dir=folder.parent) as spill,
        closing(Rejects(folder)) as rejects,
        ExitStack() as open_files,
    ):
        parts: dict[Table, Parts] = {
            t: open_files.enter_context(closing(Parts(folder / t, Path(spill) / t, schema)))
            for t, schema in plan.schemas.items()
        }
        sources: list[dict[str, Any]] = []
        unread: dict[str, list[str]] = {}
        for index, (source, layout) in enumerate(plan.files):
            rows, keys = 0, set[str]()
            for made in converted(source, layout, index, plan, step):
                parts[layout.table].add(made.frame, made.keys)
                rejects.add(layout.table, source.name, made.bad)
                rows += made.frame.height + len(made.bad)
                keys |= made.unread
            sources.append({"file": source.path.name, "table": layout.table, "rows": rows})
            if keys:
                unread[source.name] = sorted(keys)
        if not any(entry["rows"] for entry in sources):
            raise BadRequest(f"{plan.files[0][0].path}: has columns but no rows")
        for table in parts:
            take_out_repeats(table, parts[table], plan, rejects)
        rejects.close()
        tables: dict[Table, dict[str, int]] = {
            t: {"kept": sum(p.heights), "rejected": rejects.tables[t]} for t, p in parts.items()
        }
        place(folder, parts)
        if plan.format == "obd":
            tables["users"]["derived"] = derive_users(folder)
        write_manifest(folder, plan, sources, tables)
    seconds = time.perf_counter() - began
    rows_read, rejected = sum(int(entry["rows"]) for entry in sources), sum(rejects.tables.values())
    return {
        "rows_read": rows_read,
        "rows_kept": sum(t["kept"] for t in tables.values()),
        "rows_rejected": rejected,
        "rejected_file": str(out / REJECTS) if rejected else None,
        "reasons": dict(rejects.reasons.most_common()),
        "format": plan.format,
        "dataset": str(out),
        "tables": tables,
        "sources": [{**entry, "file": source.name} for entry, (source, _) in zip(sources, plan.files, strict=True)],
        "skipped": plan.skipped,
        "keys_not_imported": unread,
        "seconds": seconds,
        "rows_per_second": rows_read / seconds,
    }


def converted(source: Source, layout: Layout, index: int, plan: Plan, step: Step) -> Iterator[Converted]:
    """A file's blocks, converted by workers ahead of use, in order."""

    def work(block: Block) -> Converted:
        return convert(block(), layout, index, plan.schemas[layout.table])

    with ThreadPoolExecutor(WORKERS) as pool:
        ahead: deque[Future[Converted]] = deque()
        for block in blocks(source, step):
            ahead.append(pool.submit(work, block))
            if len(ahead) > WORKERS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


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
