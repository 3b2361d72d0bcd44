"""The file that says how someone's own logs become our tables (``--format columns --map FILE``)."""

from __future__ import annotations

import tomllib
import zoneinfo
from pathlib import Path
from typing import Any, Literal

import msgspec

from upwell.errors import BadRequest
from upwell.logs.layout import Field, Layout
from upwell.logs.parse import PER_SECOND
from upwell.logs.schema import TABLES, Column, Table

NOT_LEFT_OUT: dict[str, tuple[str, ...]] = {
    "interactions": ("user_id", "content_id", "ts", "clicked"),
    "contents": ("content_id",),
    "users": ("user_id",),
}


class Entry(msgspec.Struct, forbid_unknown_fields=True):
    """One column of ours, in full: ``{column = "play_ms", scale = 0.001}`` or ``{constant = "standard"}``."""

    column: str | None = None
    constant: str | int | float | bool | None = None
    scale: float | None = None
    unit: Literal["s", "ms", "us", "ns"] | None = None
    format: str | None = None
    separator: str | None = None


class Section(msgspec.Struct, forbid_unknown_fields=True):
    """A table: which of the given files hold it, and its columns."""

    columns: dict[str, Any]
    """Ours to theirs: a name, or an ``Entry``."""
    files: list[str] = msgspec.field(default_factory=lambda: ["*"])
    separator: str = ","
    missing: list[str] = msgspec.field(default_factory=lambda: [""])


class Mapping(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file. ``zone``: of times whose text does not name one, and of the hour of day."""

    interactions: Section | None = None
    contents: Section | None = None
    users: Section | None = None
    zone: str = "UTC"
    licence: str | None = None

    def sections(self) -> dict[Table, Section]:
        named: dict[Table, Section | None] = {
            "interactions": self.interactions,
            "contents": self.contents,
            "users": self.users,
        }
        return {table: section for table, section in named.items() if section is not None}


def load_map(path: Path) -> Mapping:
    """Read and check a mapping. Raises BadRequest with the file, the key and what to do."""
    try:
        mapping = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Mapping)
    except FileNotFoundError:
        raise BadRequest(f"{path}: no such mapping file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise BadRequest(f"{path}: not TOML: {error}") from None
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        raise BadRequest(f"{path}: {where.strip('.`') or 'top level'}: {what}: see docs/logs.md") from None
    try:
        zoneinfo.ZoneInfo(mapping.zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        raise BadRequest(f"{path}: zone: no time zone {mapping.zone!r}: give one such as Asia/Shanghai") from None
    sections = mapping.sections()
    if not sections:
        raise BadRequest(f"{path}: needs [interactions.columns], [contents.columns] or [users.columns]")
    for table, section in sections.items():
        check(path, table, section)
        if len(sections) > 1 and section.files == ["*"]:
            raise BadRequest(f'{path}: {table}.files: say which of the files hold it, such as ["{table}*.csv"]')
    return mapping


def entry_of(given: Any) -> Entry:
    """Raises msgspec.ValidationError."""
    return Entry(column=given) if isinstance(given, str) else msgspec.convert(given, Entry)


def check(path: Path, table: Table, section: Section) -> None:
    ours = {column.name: column for column in TABLES[table]}
    for name, entry in section.columns.items():
        key = f"{path}: {table}.columns.{name}"
        if name not in ours:
            raise BadRequest(f"{key}: no such column of ours: there are {', '.join(ours)}")
        try:
            check_entry(key, entry_of(entry), ours[name])
        except msgspec.ValidationError as error:
            what, _, where = str(error).partition(" - at `$")
            raise BadRequest(f"{key}{where.rstrip('`')}: {what}: see docs/logs.md") from None
    for name in NOT_LEFT_OUT[table]:
        if name not in section.columns:
            raise BadRequest(f"{path}: {table}.columns: {name} is missing: name your column that holds it")
    if len(section.separator.encode()) != 1:
        raise BadRequest(f"{path}: {table}.separator: one character between columns, not {section.separator!r}")


def check_entry(key: str, entry: Entry, column: Column) -> None:
    if (entry.column is None) == (entry.constant is None):
        raise BadRequest(f"{key}: give either column or constant")
    if entry.scale is not None and column.kind != "number":
        raise BadRequest(f"{key}: scale is for numbers, {column.name} is none")
    if column.kind != "time" and (entry.unit or entry.format):
        raise BadRequest(f"{key}: unit and format are for times, {column.name} is none")
    if entry.unit and entry.format:
        raise BadRequest(f"{key}: give either unit (a number of {'/'.join(PER_SECOND)}) or format (text), not both")
    if entry.separator is not None and column.kind != "tags":
        raise BadRequest(f"{key}: separator is for tags, {column.name} are none")


def layout(mapping: Mapping, table: Table) -> Layout:
    """The mapping of one table as a layout."""
    section = mapping.sections()[table]
    fields: dict[str, Field] = {}
    for name, given in section.columns.items():
        entry = entry_of(given)
        fields[name] = Field(
            column=entry.column,
            constant=entry.constant,
            scale=1.0 if entry.scale is None else entry.scale,
            unit=entry.unit or "ms",
            format=entry.format,
            zone=mapping.zone,
            separator="," if entry.separator is None else entry.separator,
        )
    return Layout(table, fields, missing=tuple({"", *section.missing}), separator=section.separator)
