"""Which file becomes which table: decided from the first bytes of every file, before anything is read in full."""

from __future__ import annotations

import filecmp
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import polars as pl

from upwell.errors import BadRequest
from upwell.logs import kuairand, mapping, obd
from upwell.logs.convert import extras
from upwell.logs.layout import Layout
from upwell.logs.schema import Table, frame_schema
from upwell.logs.source import SUFFIXES, Source, probe

NEEDS = {
    "kuairand": f"a log's {', '.join(kuairand.LOG_NEEDS)}, or the columns of a users or videos file",
    "obd": f"a log's {', '.join(obd.LOG_NEEDS)}, or the columns of item_context.csv",
    "columns": "a name that fits a `files` pattern of the mapping",
}
FORMATS = ("auto", "kuairand", "obd", "columns")


@dataclass(frozen=True)
class Plan:
    """Files in order with their layouts, what was passed over and why, and the Polars schema of every table."""

    format: str
    files: tuple[tuple[Source, Layout], ...]
    skipped: dict[str, str]
    schemas: dict[Table, dict[str, Any]]
    zone: str
    licence: str | None


def plan(paths: list[Path], format: str, map_file: Path | None) -> Plan:
    """Raises BadRequest for a file that cannot be used, a format that cannot be told, or a wrong mapping."""
    if format not in FORMATS:
        raise BadRequest(f"--format {format}: choose one of {', '.join(FORMATS)}")
    if map_file is not None and format not in ("auto", "columns"):
        raise BadRequest(f"--map: belongs to --format columns, not {format}")
    if format == "columns" and map_file is None:
        raise BadRequest("--format columns: give --map FILE, which names your columns (docs/logs.md has an example)")
    found = gather(paths)
    if map_file is not None:
        return planned("columns", found, *by_mapping(mapping.load_map(map_file), map_file))
    readers = {
        "kuairand": (by_columns(lambda source: kuairand.layout(source.columns)), kuairand.ZONE, kuairand.LICENCE),
        "obd": (by_columns(lambda source: obd.layout(source.columns, source.path)), "UTC", obd.LICENCE),
    }
    if format == "auto":
        format = detect(found)
    return planned(format, found, *readers[format])


Found = tuple[Path, str, bool]
"""A file, its name in messages, and whether it was named outright."""


def gather(paths: list[Path]) -> list[Found]:
    """Files at and below the paths, each once. Raises BadRequest."""
    files: dict[Path, Found] = {}
    for path in paths:
        if not path.exists():
            raise BadRequest(f"{path}: no such file or folder")
        if not path.is_dir():
            files[path.resolve()] = (path, path.name, True)
            continue
        inside = sorted(p for p in path.rglob("*") if p.is_file() and p.name.lower().endswith(SUFFIXES))
        if not inside:
            raise BadRequest(f"{path}: holds no {', '.join(SUFFIXES)}")
        for file in inside:
            files.setdefault(file.resolve(), (file, file.relative_to(path).as_posix(), False))
    return list(files.values())


Reader = Callable[[Path, str], tuple[Source, Layout | None]]


def by_columns(layout: Callable[[Source], Layout | None]) -> Reader:
    def read(path: Path, name: str) -> tuple[Source, Layout | None]:
        source = probe(path, name)
        return source, layout(source)

    return read


def by_mapping(chosen: mapping.Mapping, map_file: Path) -> tuple[Reader, str, str | None]:
    def read(path: Path, name: str) -> tuple[Source, Layout | None]:
        for table, section in chosen.sections().items():
            if any(fnmatch(name, pattern) or fnmatch(path.name, pattern) for pattern in section.files):
                layout = mapping.layout(chosen, table)
                source = probe(path, name, section.separator)
                for ours, field in layout.fields.items():
                    if field.column is not None and field.column not in source.columns:
                        raise BadRequest(
                            f"{path}: no column {field.column!r} ({map_file}: {table}.columns.{ours}); "
                            f"it has {listed(source.columns)}"
                        )
                return source, layout
        return probe(path, name), None

    return read, chosen.zone, chosen.licence


def detect(found: list[Found]) -> str:
    """The format of the first file that has one. Raises BadRequest, saying what was seen."""
    seen = ""
    for path, name, _ in found:
        source = probe(path, name)
        if kuairand.layout(source.columns):
            return "kuairand"
        if obd.layout(source.columns, path):
            return "obd"
        seen = seen or f"{path}: has {listed(source.columns)}"
    raise BadRequest(
        f"{seen}: neither KuaiRand nor Open Bandit; for your own logs write a mapping and give it as --map FILE "
        "(docs/logs.md has an example)"
    )


def planned(format: str, found: list[Found], reader: Reader, zone: str, licence: str | None) -> Plan:
    """A file from a folder that is of another kind is passed over; one that is named outright is an error."""
    files: list[tuple[Source, Layout]] = []
    skipped: dict[str, str] = {}
    for path, name, outright in found:
        source, layout = reader(path, name)
        if layout is None:
            why = f"not of format {format}: has {listed(source.columns)}; needed: {NEEDS[format]}"
            if outright:
                raise BadRequest(f"{path}: {why}")
            skipped[name] = why
        elif why := next(filter(None, (repeats(format, source, layout, *other) for other in files)), None):
            skipped[name] = why
        else:
            files.append((source, layout))
    if not files:
        name, why = next(iter(skipped.items()))
        raise BadRequest(f"nothing to import: {name}: {why}")
    return Plan(format, tuple(files), skipped, schemas(files), zone, licence)


def repeats(format: str, one: Source, layout: Layout, other: Source, its: Layout) -> str:
    """Why a file would only repeat another; empty if it would not."""
    if layout.fields != its.fields:
        return ""
    if one.path.stat().st_size == other.path.stat().st_size and filecmp.cmp(one.path, other.path, shallow=False):
        return f"the same bytes as {other.name}"
    if format == "obd" and layout.table == "contents" and obd.same_items(one.path, other.path):
        return f"the same items as {other.name}, whose hashes of categories stand for these one to one"
    return ""


def schemas(files: list[tuple[Source, Layout]]) -> dict[Table, dict[str, Any]]:
    """Every table's columns over all its files. Where files disagree on the type of a column of theirs, it is text."""
    added: dict[Table, dict[str, Any]] = {"interactions": {}, "contents": {}, "users": {}}
    for source, layout in files:
        types = dict(pl.read_parquet_schema(source.path)) if source.form == "parquet" else {}
        table = added.setdefault(layout.table, {})
        for name, dtype in extras(layout, source.columns, types).items():
            table[name] = dtype if table.get(name, dtype) == dtype else pl.String
    return {table: frame_schema(table, extra) for table, extra in added.items()}


def listed(columns: tuple[str, ...]) -> str:
    """Column names for a message, at most ten."""
    names = ", ".join(name or "(unnamed)" for name in columns[:10])
    return f"{names} and {len(columns) - 10} more" if len(columns) > 10 else names or "no columns"
