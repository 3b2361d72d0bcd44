"""``upwell import``: logs of any size to a normalised data set, in bounded memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from upwell.errors import BadRequest
from upwell.logs.convert import Converted, convert
from upwell.logs.finish import derive_users, place, take_out_repeats, write_manifest
from upwell.logs.journal import REJECTS, FileDone, Journal, TableDone
from upwell.logs.layout import Layout
from upwell.logs.parts import Parts, Rejects
from upwell.logs.plan import Plan
from upwell.logs.read import Block, Place, Step, blocks
from upwell.logs.schema import Table
from upwell.logs.source import Source
from upwell.logs.staging import staged

WORKERS = 2
"""Blocks converted at once; Polars leaves Python's lock while it works. Memory grows with it."""
PART_ROWS = 500_000
"""Rows read from one entry of the journal to the next, which are also those of a part: some two seconds' work."""
MANY = 10_000_000
"""Rows from which on the search for repeats takes seconds, and is announced."""


def run(
    plan: Plan, out: Path, step: Step = lambda read: None, note: Callable[[str], None] = lambda said: None
) -> dict[str, Any]:
    """Import what is planned into ``out``, going on where a stopped import of the same left off.

    ``step`` is told the bytes read, ``note`` what is gone on with. The result as the command prints it.

    Raises BadRequest for a file that breaks off or is damaged, for files without a row, and for an ``out`` that is not
    ours to replace.
    """
    began = time.perf_counter()
    with staged(out, plan, note) as (work, journal), ExitStack() as open_files:
        resumed, before = journal.rows, journal.seconds
        rejects = open_files.enter_context(closing(Rejects(work, journal.rejects)))
        parts: dict[Table, Parts] = {
            table: open_files.enter_context(
                closing(Parts(work, table, schema, journal.tables.get(table) or TableDone()))
            )
            for table, schema in plan.schemas.items()
        }

        def save() -> None:
            journal.tables = {table: written.done() for table, written in parts.items()}
            journal.rejects = rejects.done()
            journal.seconds = before + time.perf_counter() - began
            journal.write(work)

        read(plan, journal, parts, rejects, step, save)
        sources = [
            {"file": source.path.name, "table": layout.table, "rows": file.rows}
            for (source, layout), file in zip(plan.files, journal.files, strict=True)
        ]
        if not journal.rows:
            raise BadRequest(f"{plan.files[0][0].path}: has columns but no rows")
        if journal.rows > MANY:
            note(f"looking for repeats among {journal.rows:,} rows")
        for table in parts:
            take_out_repeats(table, parts[table], plan, rejects)
        rejects.close()
        tables: dict[Table, dict[str, int]] = {
            t: {"kept": sum(p.heights), "rejected": rejects.tables[t]} for t, p in parts.items()
        }
        place(work / "new", parts)
        if plan.format == "obd":
            tables["users"]["derived"] = derive_users(work / "new")
        write_manifest(work / "new", plan, sources, tables)
    seconds, rejected = before + time.perf_counter() - began, sum(rejects.tables.values())
    names = [source.name for source, _ in plan.files]
    return {
        "rows_read": journal.rows,
        "rows_kept": sum(t["kept"] for t in tables.values()),
        "rows_rejected": rejected,
        "rejected_file": str(out / REJECTS) if rejected else None,
        "reasons": dict(rejects.reasons.most_common()),
        "rows_resumed": resumed,
        "format": plan.format,
        "dataset": str(out),
        "tables": tables,
        "sources": [{**entry, "file": name} for entry, name in zip(sources, names, strict=True)],
        "skipped": plan.skipped,
        "keys_not_imported": {n: file.unread for n, file in zip(names, journal.files, strict=True) if file.unread},
        "seconds": seconds,
        "rows_per_second": journal.rows / seconds,
    }


def read(
    plan: Plan, journal: Journal, parts: dict[Table, Parts], rejects: Rejects, step: Step, save: Callable[[], None]
) -> None:
    """Read what the journal does not have yet. It is saved after the same rows however often a run was cut off, so that
    parts do not depend on that."""
    unsaved = 0
    for index, (source, layout) in enumerate(plan.files):
        if index == len(journal.files):
            journal.files.append(FileDone())
        file = journal.files[index]
        if file.done:
            step(source.path.stat().st_size)
            continue
        for made, after in converted(source, layout, index, plan, file.place, step):
            parts[layout.table].add(made.frame, made.keys)
            rejects.add(layout.table, source.name, made.bad)
            rows = made.frame.height + len(made.bad)
            file.rows += rows
            file.place = after
            file.unread = sorted({*file.unread, *made.unread})
            unsaved += rows
            if unsaved >= PART_ROWS:
                save()
                unsaved = 0
        file.done = True
    save()


def converted(
    source: Source, layout: Layout, index: int, plan: Plan, start: Place, step: Step
) -> Iterator[tuple[Converted, Place]]:
    """A file's blocks, converted by workers ahead of use, in order, each with the next one's place."""

    def work(block: Block) -> tuple[Converted, Place]:
        return convert(block.rows(), layout, index, plan.schemas[layout.table]), block.after

    with ThreadPoolExecutor(WORKERS) as pool:
        ahead: deque[Future[tuple[Converted, Place]]] = deque()
        for block in blocks(source, start, step):
            ahead.append(pool.submit(work, block))
            if len(ahead) > WORKERS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
